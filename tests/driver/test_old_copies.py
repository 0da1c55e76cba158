"""A data directory that is put back from an older copy: acknowledged entries are forgotten, and
those who can see that say so. pitfall 7"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from trio.testing import MockClock

from raftd.driver.errors import CallFailed, Refused
from tests.driver.cluster import Cluster, Node, running, until


async def test_a_copy_of_the_last_life_is_refused(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """It begins a life of the same number as the one that was lived meanwhile."""
    async with running(tmp_path / "cluster") as cluster:
        leader = await cluster.leader()
        node = next(each for each in cluster.nodes.values() if each is not leader)
        await leader.put("first", "1")
        await cluster.crash(node.name)
        copy = tmp_path / "copy"
        shutil.copytree(node.directory, copy)
        await cluster.start(node.name)
        await leader.put("acknowledged", "1")
        last = leader.driver.raft.server.log.last_index
        await until(lambda: leader.driver.raft.server.progress[node.name].match_index >= last)
        await put_back(cluster, node, copy)
        await cluster.start(node.name)
        await until(lambda: node.name in leader.driver.peers.refused)
        assert "old copy" in leader.driver.peers.refused[node.name]
        assert leader.driver.raft.server.progress[node.name].match_index == last
        with pytest.raises(CallFailed):
            await cluster[node.name].get("first")


@asynccontextmanager
async def copied(tmp_path: Path) -> AsyncIterator[tuple[Cluster, Node, Node, Node, Path]]:
    """A leader, a follower, another one with a copy of its directory, and that."""
    async with running(tmp_path / "cluster") as cluster:
        leader = await cluster.leader()
        await leader.put("first", "1")
        other, copied = [node for node in cluster.nodes.values() if node is not leader]
        last = leader.driver.raft.server.log.last_index
        await until(lambda: copied.driver.applier.applied_index >= last)
        copy = tmp_path / "copy"
        shutil.copytree(copied.directory, copy)
        yield cluster, leader, other, copied, copy


async def put_back(cluster: Cluster, node: Node, copy: Path) -> None:
    await cluster.crash(node.name)
    shutil.rmtree(node.directory)
    shutil.copytree(copy, node.directory)


async def test_the_leader_shows_that_a_follower_has_forgotten(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with copied(tmp_path) as (cluster, leader, _, node, copy):
        await leader.put("acknowledged", "1")
        last = leader.driver.raft.server.log.last_index
        await until(lambda: leader.driver.raft.server.progress[node.name].match_index >= last)
        await put_back(cluster, node, copy)
        await cluster.start(node.name)
        await leader.put("more", "1")
        await until(lambda: leader.driver.raft.server.progress[node.name].has_lost)
        status = await leader.driver.status(timeout=1)
        shown = {member.name: member for member in status.members}[node.name]
        assert "lost entries that it had acknowledged" in (shown.problem or "")
        assert status.failures_tolerated == 0
        assert node.name not in status.must_not_stop
        assert len(status.must_not_stop) == 2


async def test_a_node_whose_committed_entries_are_contradicted_stops_serving(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Those who have forgotten, and who never knew, elect one of themselves; the node that knows
    better must not give answers that differ from theirs, and must not lead either."""
    async with copied(tmp_path) as (cluster, leader, other, node, copy):
        await cluster.crash(other.name)
        for number in range(3):
            await leader.put(f"acknowledged{number}", "1")
        await put_back(cluster, node, copy)
        await cluster.crash(leader.name)
        await cluster.start(other.name, node.name)
        new_leader = await cluster.leader()
        await new_leader.put("forked", "1")
        await cluster.start(leader.name)
        knows = cluster[leader.name]
        await until(lambda: knows.driver.applier.diverged is not None)
        assert "contradicts" in (knows.driver.report().problem or "")
        for call in (knows.get("acknowledged0"), knows.put("x", "y")):
            with pytest.raises(Refused, match="contradicts"):
                await call
        with pytest.raises(Refused, match="the log differs"):
            await knows.driver.reseed()
        status = await new_leader.driver.status(timeout=1)
        shown = {member.name: member for member in status.members}[knows.name]
        assert "contradicts" in (shown.problem or "")
        assert status.failures_tolerated == 0
