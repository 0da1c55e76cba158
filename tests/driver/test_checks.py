"""Checks of the state: a node that has another one finds out, says so, and can be mended."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from raftd import features
from raftd.client_messages import FetchRequest, FetchResponse
from raftd.driver.errors import Refused
from raftd.raft.log import EntryType
from raftd.raft.state import Role, Settings
from raftd.state_hash import Context, context_of
from raftd.storage.directory import NodeDocument
from tests.driver.cluster import Cluster, Node, running, until
from tests.driver.test_snapshots import grow

SMALL = Settings(tail_bytes=4000, max_append_bytes=20_000, snapshot_chunk_bytes=4096)


def context(node: Node) -> Context:
    return context_of(node.store)


async def checked(cluster: Cluster, *but: str) -> None:
    """Everything that was written has been checked on all nodes."""
    leader = await cluster.leader()
    nodes = [node for name, node in cluster.nodes.items() if name not in but]

    def done() -> bool:
        end = leader.driver.raft.server.log.last_index
        return all(
            node.driver.applier.applied_index == end
            and context(node).level == features.CHECKS
            and not context(node).wants_check
            for node in nodes
        )

    await until(done)


@asynccontextmanager
async def three(tmp_path: Path) -> AsyncIterator[tuple[Cluster, Node, Node, Node]]:
    """Leader and followers, with some keys, all checked."""
    async with running(tmp_path, raft=SMALL) as cluster:
        leader = await cluster.leader()
        await checked(cluster)
        for number in range(10):
            await leader.put(f"k{number}", "v")
        await checked(cluster)
        first, second = await cluster.followers()
        yield cluster, leader, first, second


def spoil(node: Node) -> None:
    """One key is not there any more: as a bug, or a flipped bit, would have it."""
    node.store._writer.execute("DELETE FROM items WHERE key = ?", (b"k3",))


async def test_all_have_the_same_hash(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 27, 90"""
    async with three(tmp_path) as (cluster, leader, *_):
        values = {(context(node).hash, context(node).check_hash) for node in cluster.nodes.values()}
        assert len(values) == 1
        assert context(leader).check_index > 0
        kinds = [entry.kind for entry in await leader.driver.log_entries(1, 1000)]
        assert kinds.count("features") == 1
        assert "check" in kinds


async def test_an_idle_cluster_writes_no_checks(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with three(tmp_path) as (_, leader, *_others):
        before = leader.driver.raft.server.log.last_index
        await trio.sleep(60)
        assert leader.driver.raft.server.log.last_index == before


async def test_a_hash_goes_on_after_a_restart(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with three(tmp_path) as (cluster, leader, *_):
        before = context(leader).hash
        for name in cluster.names:
            await cluster.crash(name)
        await cluster.start()
        await (await cluster.leader()).put("more", "v")
        await checked(cluster)
        after = {context(node).hash for node in cluster.nodes.values()}
        assert len(after) == 1
        assert before not in after


async def test_a_node_with_another_state_stops_serving(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 91"""
    async with three(tmp_path) as (cluster, leader, bad, good):
        spoil(bad)
        await leader.put("k3", "new")
        await until(lambda: bad.driver.applier.diverged is not None)
        await checked(cluster, bad.name)
        assert good.driver.applier.diverged is leader.driver.applier.diverged is None
        assert "differs from the cluster's" in (bad.driver.report().problem or "")
        for call in (bad.get("k1"), bad.get("k1", stale=True), bad.put("k1", "x")):
            with pytest.raises(Refused, match="ask another node"):
                await call
        with pytest.raises(Refused):
            await bad.driver.take_snapshot()
        # It still counts for the majority: its log is right.
        await cluster.crash(good.name)
        await leader.put("k4", "with two")
        assert await leader.get("k4") == "with two"
        await cluster.crash(bad.name)
        await cluster.start(bad.name, good.name)
        await until(lambda: cluster[bad.name].driver.applier.diverged is not None)


async def test_a_node_is_given_a_new_state(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 91"""
    async with three(tmp_path) as (cluster, leader, bad, _):
        spoil(bad)
        await leader.put("k3", "new")
        await until(lambda: bad.driver.applier.diverged is not None)
        for number in range(200):
            await leader.put(f"later{number}", "v" * 100)
        with pytest.raises(Refused, match="leads"):
            await leader.driver.reseed()
        term, vote = bad.driver.raft.server.current_term, bad.driver.raft.server.voted_for
        info = await bad.driver.reseed()
        assert info.last_included_index > 200
        assert bad.driver.raft.server.current_term == term
        assert bad.driver.raft.server.voted_for == vote
        assert bad.driver.raft.server.log.first_index == 1
        await checked(cluster)
        assert bad.driver.report().problem is None
        assert await bad.get("k3") == "new"
        await cluster.crash(bad.name)
        await cluster.start(bad.name)
        await leader.put("k3", "newer")
        await checked(cluster)
        assert await cluster[bad.name].get("k3") == "newer"


async def test_a_new_state_takes_the_place_of_a_snapshot_that_is_as_new(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Nothing is written any more, and all took a snapshot: of the wrong state, this one."""
    async with three(tmp_path) as (cluster, leader, bad, _):
        await trio.sleep(60)
        spoil(bad)
        ours, theirs = [await node.driver.take_snapshot() for node in (bad, leader)]
        assert ours.last_included_index == theirs.last_included_index
        assert await bad.get("k3") is None
        info = await bad.driver.reseed()
        assert info.sha256 == leader.driver.snapshot_list()[0].sha256
        assert await bad.get("k3") == "v"
        assert await bad.get("k3", stale=True) == "v"
        again = await bad.driver.reseed()
        assert again.last_included_index > info.last_included_index
        await cluster.crash(bad.name)
        shutil.rmtree(bad.directory / "state")
        await cluster.start(bad.name)
        assert await bad.get("k3", timeout=30) == "v"


async def test_an_own_snapshot_that_stays_is_not_taken_for_the_leaders(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A leader of an older version gives what it has."""
    async with three(tmp_path) as (_, leader, bad, _):
        await trio.sleep(60)
        spoil(bad)
        for node in (bad, leader):
            await node.driver.take_snapshot()
        leader.driver.reseeding._take_newer = leader.driver.snapshots.take  # type: ignore[method-assign]
        with pytest.raises(Refused, match="try again when more has been written"):
            await bad.driver.reseed()
        await leader.put("more", "1")
        await until(
            lambda: bad.driver.applier.applied_index > bad.disk.snapshot.last_included_index
        )
        await bad.driver.reseed()
        assert await bad.get("k3") == "v"


async def test_a_state_that_is_none_is_not_taken_over(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with three(tmp_path) as (_, leader, node, _):
        good = leader.driver.reseeding.handle_fetch

        async def other(request: FetchRequest) -> FetchResponse:
            answer = await good(request)
            data = b"no state" if not request.checksum else b""
            digest = hashlib.sha256(b"no state").hexdigest()
            return msgspec.structs.replace(answer, data=data, size=len(data), checksum=digest)

        leader.driver.reseeding.handle_fetch = other  # type: ignore[method-assign]
        with pytest.raises(Refused, match="no snapshot of the key-value store"):
            await node.driver.reseed()
        assert node.disk.snapshot.last_included_index == 0
        assert await node.get("k3") == "v"
        assert not list((node.directory / "snapshots").iterdir())


async def test_no_piece_behind_the_end(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with three(tmp_path) as (_, leader, *_others):
        handle = leader.driver.reseeding.handle_fetch
        first = await handle(FetchRequest("", 0, 100))
        assert len(first.data) == 100
        for offset in (first.size + 1, 2**63 - 1):
            answer = await handle(FetchRequest(first.checksum, offset, 100))
            assert answer.last_included_index is None
            assert f"{first.size} bytes" in answer.reason
        rest = await handle(FetchRequest(first.checksum, first.size - 3, 100))
        assert len(rest.data) == 3


async def test_a_leader_with_another_state_gives_up(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """The majority decides, not the leader."""
    async with three(tmp_path) as (cluster, bad, *others):
        spoil(bad)
        await bad.put("k3", "new")
        await until(lambda: bad.driver.applier.diverged is not None)
        await until(lambda: bad.role is not Role.LEADER)
        leader = await cluster.leader()
        assert leader in others
        assert [node.driver.applier.diverged for node in others] == [None, None]
        await leader.put("k5", "x")
        await trio.sleep(100)
        assert bad.role is Role.FOLLOWER
        await bad.driver.reseed()
        await checked(cluster)


async def test_two_of_two_differ_and_nobody_is_stopped(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a majority for one state nobody knows which is right: people have to look."""
    async with running(tmp_path, 2) as cluster:
        leader = await cluster.leader()
        await checked(cluster)
        await leader.put("k3", "v")
        await checked(cluster)
        spoil((await cluster.followers())[0])
        await leader.put("k3", "w")
        await trio.sleep(60)
        assert [node.driver.applier.diverged for node in cluster.nodes.values()] == [None, None]
        assert caplog.text.count("no majority agrees on one") == 1


async def test_a_feature_waits_for_the_last_old_member(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A rolling upgrade: nothing new stands in the log before all members know it."""
    async with running(tmp_path, raft=SMALL) as cluster:
        new, cluster.settings = (
            cluster.settings,
            msgspec.structs.replace(cluster.settings, feature_level=0),
        )
        await cluster.crash("n1")
        await cluster.start("n1")
        leader = await cluster.leader()
        await leader.put("a", "1")
        await trio.sleep(100)
        for node in cluster.nodes.values():
            assert context(node).level == 0
            assert node.disk._document.format == 1
            assert node.store.context == b""
        await cluster.crash("n1")
        await leader.put("b", "1")
        await trio.sleep(100)
        assert context(leader).level == 0, "a member that does not answer may be an old one"
        cluster.settings = new
        await cluster.start("n1")
        await checked(cluster)
        for node in cluster.nodes.values():
            assert node.disk._document.format == 2


async def test_the_directory_says_so_before_the_entry_is_there(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """An older raftd must refuse a directory with an entry that it does not know."""
    async with running(tmp_path, 1) as cluster:
        leader = await cluster.leader()
        seen: list[int] = []
        append = leader.disk._wal.append

        def watched(entries: list[object]) -> None:
            if any(entry.type > EntryType.CONFIGURATION for entry in entries):  # type: ignore[attr-defined]
                document = leader.disk._directory.load("n1")
                assert isinstance(document, NodeDocument)
                seen.append(document.format)
            append(entries)  # type: ignore[arg-type]

        leader.disk._wal.append = watched  # type: ignore[method-assign,assignment]
        await leader.put("a", "1")
        await checked(cluster)
        assert seen
        assert set(seen) == {2}


async def test_a_follower_that_gets_a_snapshot_gets_the_hash(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(
        tmp_path, raft=SMALL, segment_bytes=8192, snapshot_log_bytes=32_768
    ) as cluster:
        leader = await cluster.leader()
        await leader.put("first", "1")
        await checked(cluster)
        late = next(name for name in cluster.names if name != leader.name)
        await cluster.crash(late)
        await grow(leader, 300)
        await until(lambda: leader.driver.raft.server.log.first_index > 10)
        await cluster.start(late)
        await checked(cluster)
        assert context(cluster[late]).hash == context(leader).hash
        assert cluster[late].disk._document.format == 2
