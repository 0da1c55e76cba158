"""What a cluster does when a disk is full, stalls, or fails."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from errno import EDQUOT, EIO, ENOSPC
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from raftd.driver.errors import Refused
from raftd.kv.errors import StateError
from raftd.raft.state import Role, Settings
from raftd.storage.disk import DiskFull, StorageFailed
from tests.driver.cluster import Node, running, until
from tests.driver.test_snapshots import SMALL, caught_up, grow


def failing(node: Node, error: Exception, method: str = "save") -> Callable[[], None]:
    """Make a method of the node's disk raise until the returned function is called."""
    good = getattr(node.disk, method)

    def bad(*_: Any) -> None:
        raise error

    setattr(node.disk, method, bad)
    return lambda: setattr(node.disk, method, good)


async def test_a_leader_with_a_full_disk_gives_up_leadership_and_comes_back(
    autojump_clock: MockClock,
    tmp_path: Path,
) -> None:
    """pitfall 37, 66, 67: nothing is acknowledged or applied that was not saved."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        mend = failing(leader, DiskFull("write", tmp_path, ENOSPC))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.put, "b", "2", 60)
            await until(lambda: leader.role is not Role.LEADER)
            new = await cluster.leader(among=[n for n in cluster.names if n != leader.name])
            status = await new.driver.status(timeout=1)
            problem = next(each.problem for each in status.members if each.name == leader.name)
            assert problem is not None
            assert "disk full" in problem
            assert status.writable
            assert status.failures_tolerated == 0
            await new.put("c", "3")
            await trio.sleep(10)
            assert leader.driver.makes_progress, "a full disk is no reason for the watchdog"
            mend()
        last = new.driver.raft.server.log.last_index
        await until(lambda: leader.driver.applier.applied_index >= last)
        assert leader.driver.problem is None
        assert await leader.get("c") == "3"
        assert await leader.driver.transfer_leadership(leader.name, timeout=5) == leader.name


async def test_a_stalled_disk_costs_leadership(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 78: within twice the longest election timeout, and it comes back."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        leader.stalled = trio.Event()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.put, "b", "2", 60)
            await until(lambda: leader.role is not Role.LEADER)
            assert trio.current_time() - began < 2 * 2.0
            assert "stalled" in (leader.driver.problem or "")
            new = await cluster.leader(among=[n for n in cluster.names if n != leader.name])
            await new.put("c", "3")
            leader.stalled.set()
        await until(lambda: leader.driver.problem is None)
        assert await leader.get("c") == "3"


async def test_what_the_watchdog_asks_saves_that_do_not_end_and_an_algorithm_nobody_calls(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A node that stands still is not fed; one that waits for space, or has nothing to do, is."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        assert leader.driver.makes_progress
        await trio.sleep(100)
        assert leader.driver.makes_progress, "an idle node is no dead node"
        leader.stalled = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.put, "b", "2", 60)
            await until(lambda: not leader.driver.makes_progress)
            leader.stalled.set()
        await until(lambda: leader.driver.makes_progress)
        leader.driver._loop.deadline = trio.current_time() - 100
        assert not leader.driver.makes_progress


async def test_a_save_that_fails_ends_the_node(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 36, 65: never acknowledged, never tried again."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        tries: list[Sequence[object]] = []

        def fail(*args: object) -> None:
            tries.append(args)
            raise StorageFailed("write to", tmp_path, EIO)

        leader.disk.save = fail  # type: ignore[method-assign, assignment]
        with trio.move_on_after(3):
            await leader.put("a", "1")
            pytest.fail("acknowledged what was not saved")
        assert len(tries) == 1
        assert isinstance(leader.error, BaseExceptionGroup)
        assert leader.error.subgroup(StorageFailed) is not None
        leader = await cluster.leader(among=[n for n in cluster.names if n != leader.name])
        await leader.put("b", "2")


async def test_a_log_that_cannot_be_read_ends_the_leader_and_harms_no_follower(
    autojump_clock: MockClock,
    tmp_path: Path,
) -> None:
    """pitfall 34"""
    small = Settings(tail_bytes=2000, max_append_bytes=1000)
    async with running(tmp_path, raft=small) as cluster:
        leader = await cluster.leader()
        late = next(name for name in cluster.names if name != leader.name)
        await leader.put("first", "1")
        await until(lambda: cluster[late].driver.applier.applied_index >= 2)
        await cluster.crash(late)
        for number in range(100):
            await leader.put(f"k{number}", "v" * 50)
        failing(leader, StorageFailed("read from", tmp_path, EIO), "read")
        await cluster.start(late)
        await until(lambda: leader.name not in cluster.network.handlers)
        assert cluster[late].driver.raft.server.log.last_index >= 2
        assert await cluster[late].get("k99", timeout=60) == "v" * 50


async def test_a_state_machine_without_space_is_waited_for(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        good = leader.store.apply

        def full(batch: object, context: object = None) -> list[bytes]:
            raise StateError(ENOSPC, "disk full", "kv.db")

        leader.store.apply = full  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.put, "b", "2", 60)
            await until(lambda: leader.role is not Role.LEADER)
            assert leader.driver.problem == "disk full: kv.db"
            leader.store.apply = good  # type: ignore[method-assign]
        assert await leader.get("b") == "2"


async def test_a_state_that_somebody_has_locked_is_waited_for(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Somebody's sqlite3 in the middle of a transaction."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        other = sqlite3.connect(leader.directory / "state" / "kv.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.put, "b", "2", 60)
            await until(lambda: leader.role is not Role.LEADER)
            assert "another process has locked the state: " in (leader.driver.problem or "")
            await trio.sleep(20)
            other.close()
        await until(lambda: leader.driver.problem is None)
        assert await leader.get("b") == "2"


@pytest.mark.parametrize("number", [ENOSPC, EDQUOT])
async def test_a_received_snapshot_without_space_for_the_state_is_waited_for(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The snapshot itself was the last that fitted."""
    async with running(
        tmp_path,
        raft=SMALL,
        segment_bytes=8192,
        snapshot_log_bytes=32_768,
        started=("n1", "n2"),
    ) as cluster:
        leader = await cluster.leader(among=["n1", "n2"])
        await grow(leader, 300)
        await until(lambda: leader.driver.raft.server.log.first_index > 20)
        tries = 0

        def full(source: Path, target: Path) -> None:
            nonlocal tries
            tries += 1
            raise OSError(number, "no space", str(source))

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "copyfile", full)
            await cluster.start("n3")
            await until(lambda: tries > 3)
            assert "disk full" in (cluster["n3"].driver.problem or "")
        await caught_up(cluster, leader, "n3")
        assert cluster["n3"].driver.problem is None
        assert await cluster["n3"].get("k299") == "v" * 500


async def test_a_received_snapshot_that_cannot_be_copied_ends_the_node(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(
        tmp_path,
        raft=SMALL,
        segment_bytes=8192,
        snapshot_log_bytes=32_768,
        started=("n1", "n2"),
    ) as cluster:
        leader = await cluster.leader(among=["n1", "n2"])
        await grow(leader, 300)
        await until(lambda: leader.driver.raft.server.log.first_index > 20)

        def fail(source: Path, target: Path) -> None:
            raise OSError(EIO, "broken", str(source))

        monkeypatch.setattr(shutil, "copyfile", fail)
        await cluster.start("n3")
        await until(lambda: cluster["n3"].error is not None)
        assert isinstance(cluster["n3"].error, BaseExceptionGroup)
        assert cluster["n3"].error.subgroup(StorageFailed) is not None


async def test_a_disk_that_fails_under_a_snapshot_ends_the_node(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who asked for the snapshot is told why."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        failing(leader, StorageFailed("fsync", tmp_path, EIO), "adopt_snapshot")
        with pytest.raises(Refused, match="no snapshot was taken: cannot fsync"):
            await leader.driver.take_snapshot()
        await until(lambda: leader.error is not None)
        assert isinstance(leader.error, BaseExceptionGroup)
        assert leader.error.subgroup(StorageFailed) is not None
        assert not [each for each in caplog.records if each.exc_info]
