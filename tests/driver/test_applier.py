"""The applier, where its tasks meet."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from raftd.driver.applier import Applier
from raftd.driver.errors import Busy, OutcomeUnknown
from raftd.driver.proposal import Proposal
from raftd.raft.log import Log
from raftd.state_machine import Committed
from tests.driver.cluster import Held, running, until
from tests.driver.test_snapshots import SMALL, caught_up, grow, left_behind
from tests.raft.durable import log_of


class Restored:
    """A state machine that has what a snapshot brought. `applied`: the entries, all told. `most`
    are applied in one step."""

    last_applied = 0
    most = 100
    context = b""

    def __init__(self) -> None:
        self.applied: list[int] = []

    def apply(self, batch: Sequence[Committed], context: object = None) -> list[bytes]:
        indexes = [each.index for each in batch[: self.most]]
        self.applied += indexes
        return [b"%d" % index for index in indexes]

    def restore(self, path: Path) -> None:
        self.last_applied = 5


@asynccontextmanager
async def applying(*, in_place: bool) -> AsyncIterator[tuple[Applier, Restored]]:
    """An applier that runs, and may apply nine entries."""

    async def here(function: Any, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)

    log = Log()
    log.append(*log_of([1] * 9))
    raft: Any = SimpleNamespace(server=SimpleNamespace(log=log))
    disk: Any = None
    restored = Restored()
    machine: Any = restored
    applier = Applier(raft, disk, machine, here, lambda: None, lambda: in_place)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(applier.run)
        await trio.testing.wait_all_tasks_blocked()
        yield applier, restored
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("in_place", [True, False])
async def test_nothing_is_applied_until_an_expected_snapshot_is_there(in_place: bool) -> None:
    """The log it would be read from goes with the state. pitfall 54"""
    async with applying(in_place=in_place) as (applier, machine):
        applier.expect_snapshot(5)
        applier.advance(5)
        await trio.testing.wait_all_tasks_blocked()
        assert machine.applied == []
        await applier.restore(Path("snapshot"), 5)
        applier.advance(7)
        await trio.testing.wait_all_tasks_blocked()
        assert machine.applied == [6, 7]


async def test_who_waits_for_its_turn_to_apply_notices_that_a_snapshot_comes() -> None:
    async with applying(in_place=False) as (applier, machine):
        async with applier._busy:
            applier.advance(5)
            await trio.testing.wait_all_tasks_blocked()
            applier.expect_snapshot(5)
        await trio.testing.wait_all_tasks_blocked()
        assert machine.applied == []


@pytest.mark.parametrize("in_place", [True, False])
async def test_a_state_machine_may_take_its_entries_in_steps(in_place: bool) -> None:
    """Each command gets the result of its own entry."""
    async with applying(in_place=in_place) as (applier, machine):
        machine.most = 2
        proposals = [Proposal(b"", 60.0) for _ in range(5)]
        applier.expect(1, 1, proposals)
        applier.advance(5)
        await trio.testing.wait_all_tasks_blocked()
        assert machine.applied == [1, 2, 3, 4, 5]
        assert [each.result().result for each in proposals] == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_snapshot_answers_those_whose_commands_it_covers() -> None:
    """At once: nobody will ever know what became of them. Others go on waiting. pitfall 88"""
    async with applying(in_place=True) as (applier, _):
        covered, behind = Proposal(b"", 60.0), Proposal(b"", 60.0)
        applier.expect(5, 1, [covered, behind])
        applier.expect_snapshot(5)
        await applier.restore(Path("snapshot"), 5)
        with pytest.raises(OutcomeUnknown, match="a snapshot took the place"):
            covered.result()
        assert not behind.is_done
        applier.advance(6)
        assert behind.result().index == 6


async def test_nothing_is_applied_that_a_snapshot_has_overtaken() -> None:
    """The task that applies waits for its turn while a snapshot takes the place of the state."""

    async def here(function: Any, *args: Any) -> Any:
        await trio.testing.wait_all_tasks_blocked()
        return function(*args)

    raft: Any = SimpleNamespace(server=SimpleNamespace(log=SimpleNamespace(slice=lambda *_: ())))
    disk: Any = None
    machine: Any = Restored()
    applier = Applier(raft, disk, machine, here, lambda: None, lambda: True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(applier.restore, Path("snapshot"), 5)
        await trio.lowlevel.checkpoint()
        applier.advance(5)
        nursery.start_soon(applier.run)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert applier.applied_index == 5
        nursery.cancel_scope.cancel()


async def test_a_read_that_waits_for_the_state_says_so(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """After a start there may be much to apply; the leader is not to blame."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        follower = (await cluster.followers())[0]
        await until(lambda: follower.driver.applier.applied_index == 2)
        async with follower.driver.applier._busy:
            await leader.put("a", "2")
            with pytest.raises(Busy, match="has applied entry 2, and needs 3 for an answer"):
                await follower.get("a", timeout=2)
        assert await follower.get("a") == "2"


async def test_the_log_is_gone_that_is_to_be_applied(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A snapshot takes its place while a slow disk is asked for it."""
    async with running(
        tmp_path, raft=SMALL, segment_bytes=8192, snapshot_log_bytes=32_768
    ) as cluster:
        leader = await cluster.leader()
        slow = (await cluster.followers())[0]
        await grow(leader, 40)
        await caught_up(cluster, leader, slow.name)
        await cluster.crash(slow.name)
        shutil.rmtree(slow.directory / "state")
        held = Held(slow, "read")
        await cluster.start(slow.name)
        await held.reached.wait()
        leader = await left_behind(cluster, slow.name)
        cluster.network.heal()
        await until(lambda: slow.disk.first_index > 50)
        held.release()
        await caught_up(cluster, leader, slow.name)
        assert slow.error is None
        assert await slow.get("k7") == "v" * 500
