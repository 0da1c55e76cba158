"""Snapshots taken as the log grows, and sent to a follower that is too far behind."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from raftd.raft.configuration import Configuration
from raftd.raft.messages import InstallSnapshotRequest
from raftd.raft.state import Settings
from tests.driver.cluster import Cluster, Held, Node, running, until

SMALL = Settings(tail_bytes=4000, max_append_bytes=2000, snapshot_chunk_bytes=4096)


async def grow(node: Node, count: int, prefix: str = "k") -> None:
    for number in range(count):
        await node.put(f"{prefix}{number}", "v" * 500)


async def caught_up(cluster: Cluster, leader: Node, name: str) -> None:
    last = leader.driver.raft.server.log.last_index
    await until(lambda: cluster[name].driver.applier.applied_index >= last)


async def test_the_log_stays_bounded(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 59"""
    async with running(
        tmp_path, raft=SMALL, segment_bytes=8192, snapshot_log_bytes=32_768
    ) as cluster:
        leader = await cluster.leader()
        await grow(leader, 300)
        await trio.sleep(5)
        for name in cluster.names:
            await caught_up(cluster, leader, name)
            assert cluster[name].disk.snapshot.last_included_index > 0
            assert cluster[name].disk.used_bytes < 3 * 32_768
        for name in cluster.names:
            await cluster.crash(name)
        await cluster.start()
        assert await cluster["n2"].get("k0", timeout=30) == "v" * 500
        assert await cluster["n3"].get("k299", timeout=30) == "v" * 500


async def test_a_follower_behind_the_log_gets_the_snapshot(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 30, 55, 56: and then follows as before."""
    async with running(
        tmp_path, raft=SMALL, segment_bytes=8192, snapshot_log_bytes=32_768
    ) as cluster:
        leader = await cluster.leader()
        await leader.put("first", "1")
        late = next(name for name in cluster.names if name != leader.name)
        await until(lambda: cluster[late].driver.applier.applied_index >= 2)
        await cluster.crash(late)
        await grow(leader, 300)
        await until(lambda: leader.driver.raft.server.log.first_index > 10)
        await cluster.start(late)
        await caught_up(cluster, leader, late)
        assert cluster[late].disk.snapshot.last_included_index > 10
        assert await cluster[late].get("first", stale=True) == "1"
        assert await cluster[late].get("k299", stale=True) == "v" * 500
        await leader.put("after", "2")
        assert await cluster[late].get("after") == "2"
        await cluster.crash(late)
        await cluster.start(late)
        assert await cluster[late].get("k7", timeout=30) == "v" * 500


async def test_a_snapshot_that_arrives_damaged_is_asked_for_again(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 54, 61"""
    async with running(
        tmp_path, raft=SMALL, segment_bytes=8192, snapshot_log_bytes=32_768
    ) as cluster:
        leader = await cluster.leader()
        late = next(name for name in cluster.names if name != leader.name)
        await cluster.crash(late)
        await grow(leader, 300)
        await until(lambda: leader.driver.raft.server.log.first_index > 10)
        good = leader.disk.read_snapshot
        damaged = 0

        def bad(offset: int, size: int) -> bytes:
            nonlocal damaged
            data = good(offset, size)
            if damaged == 0:
                damaged += 1
                return b"\xff" * len(data)
            return data

        leader.disk.read_snapshot = bad  # type: ignore[method-assign]
        await cluster.start(late)
        await caught_up(cluster, leader, late)
        assert damaged == 1
        assert await cluster[late].get("k7", timeout=30) == "v" * 500


@pytest.mark.parametrize("bad", ["garbage", "nothing", "another state"])
async def test_a_snapshot_that_is_no_state_is_asked_for_again(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: str
) -> None:
    """Whole, as its checksum says, but what the leader sent was never that state: log and state are
    not given up for it."""
    async with running(
        tmp_path, raft=SMALL, segment_bytes=8192, snapshot_log_bytes=32_768
    ) as cluster:
        leader = await cluster.leader()
        late = next(name for name in cluster.names if name != leader.name)
        await cluster.crash(late)
        await grow(leader, 300)
        await until(lambda: leader.driver.raft.server.log.first_index > 10)
        good, server = leader.driver.snapshots.fill, cluster[late]
        data = b"no database" if bad == "garbage" else b""
        if bad == "another state":
            leader.store.snapshot(tmp_path / "other")
            data = (tmp_path / "other").read_bytes()
        sent = 0

        async def fill(request: InstallSnapshotRequest) -> InstallSnapshotRequest | None:
            nonlocal sent
            if sent > 2:
                return await good(request)
            sent += 1
            await trio.sleep(0.01)
            return msgspec.structs.replace(
                request,
                last_included_index=request.last_included_index - 1,
                data=data,
                offset=0,
                size=len(data),
                checksum=hashlib.sha256(data).hexdigest(),
                done=True,
            )

        leader.driver.snapshots.fill = fill  # type: ignore[method-assign]
        await cluster.start(late)
        await caught_up(cluster, leader, late)
        assert server.error is None
        assert sent == 3
        assert "a received snapshot cannot be used" in caplog.text
        assert not list((server.directory / "snapshots").glob("*.tmp"))
        assert await server.get("k7", timeout=30) == "v" * 500


async def test_who_knows_no_members_yet_takes_no_snapshot(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A new member that has not come to its own admission: its snapshot would say that there is
    nobody in the cluster. pitfall 42"""
    async with running(tmp_path) as cluster:
        node = await cluster.leader()
        await grow(node, 3)
        server = node.driver.raft.server
        members, server.configurations = server.configurations, [(0, Configuration(()))]
        await node.driver.snapshots._take()
        assert server.snapshot.last_included_index == 0
        server.configurations = members
        await node.driver.snapshots._take()
        assert server.snapshot.last_included_index > 0


async def left_behind(cluster: Cluster, name: str) -> Node:
    """That node hears nothing until the log does not reach back to it; the leader."""
    last = cluster[name].driver.raft.server.log.last_index
    cluster.network.isolate(name, cluster.names)
    leader = await cluster.leader(among=[each for each in cluster.names if each != name])
    await grow(leader, 300)
    await until(lambda: leader.driver.raft.server.log.first_index > last + 10)
    return leader


@pytest.mark.parametrize("asked", [True, False], ids=["asked for", "as the log grows"])
async def test_a_snapshot_taken_here_is_overtaken_by_the_leaders(
    autojump_clock: MockClock, tmp_path: Path, asked: bool
) -> None:
    """A large state takes long; the leader's snapshot, and its log, are another beginning."""
    async with running(
        tmp_path,
        raft=SMALL,
        segment_bytes=8192,
        snapshot_log_bytes=32_768,
        started=("n1", "n2"),
    ) as cluster:
        slow = cluster["n3"]
        held = Held(slow, "snapshot", behind=True)
        await cluster.start("n3")
        leader = await cluster.leader(among=["n1", "n2"])
        await grow(leader, 5 if asked else 100)
        await caught_up(cluster, leader, "n3")
        async with trio.open_nursery() as nursery:
            if asked:
                nursery.start_soon(slow.driver.take_snapshot)
            await held.reached.wait()
            leader = await left_behind(cluster, "n3")
            cluster.network.heal()
            await caught_up(cluster, leader, "n3")
            newest = slow.disk.snapshot
            assert newest.last_included_index > 10
            held.release()
            await trio.sleep(1)
        assert slow.error is None
        assert slow.disk.snapshot.last_included_index >= newest.last_included_index
        assert not list((slow.directory / "snapshots").glob("*.tmp"))
        await leader.put("after", "1")
        assert await slow.get("after") == "1"


@pytest.mark.parametrize("newer", [1, 2])
async def test_newer_snapshots_come_while_one_is_being_installed(
    autojump_clock: MockClock, tmp_path: Path, newer: int
) -> None:
    """A large state on a slow disk; the leader has counted its request as lost long ago."""
    async with running(
        tmp_path,
        raft=SMALL,
        segment_bytes=8192,
        snapshot_log_bytes=32_768,
        started=("n1", "n2"),
    ) as cluster:
        slow = cluster["n3"]
        held = Held(slow, "install_snapshot")
        leader = await cluster.leader(among=["n1", "n2"])
        await grow(leader, 300)
        await cluster.start("n3")
        await held.reached.wait()
        for number in range(newer):
            last = slow.driver.raft.server.snapshot.last_included_index
            await trio.sleep(25)
            leader = await cluster.leader(among=["n1", "n2"])
            await grow(leader, 600, f"{number}-")
            await until(lambda: slow.driver.raft.server.snapshot.last_included_index > last)  # noqa: B023
        held.release()
        await caught_up(cluster, leader, "n3")
        assert slow.error is None
        assert not slow.driver.snapshots._to_install
        assert not list((slow.directory / "snapshots").glob("*.tmp"))
        assert await slow.get("0-599") == "v" * 500
