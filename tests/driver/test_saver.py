"""The saver: what one save takes together, and in which order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from raftd.driver.life import Life
from raftd.driver.saver import Saver
from raftd.promise import Promise
from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry
from raftd.raft.state import HardState, SnapshotMetadata
from raftd.raft.update import Update
from tests.raft.durable import log_of

SNAPSHOT = SnapshotMetadata(9, 2, Configuration(("n1",)))


def update(
    entries: Sequence[Entry] = (),
    *,
    term: int | None = None,
    snapshot: SnapshotMetadata | None = None,
) -> Update:
    hard_state = None if term is None else HardState(term)
    return Update((), hard_state, snapshot, tuple(entries), (), 0, (), (), (), 0.0, (), 0)


class Writes:
    """A disk whose saves end one by one. `done`: what has been begun, and what is durable."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self._running: list[Promise[None]] = []

    def write(self, save: Any, hard_state: HardState | None, entries: list[Entry]) -> Promise[None]:
        del save
        term = None if hard_state is None else hard_state.current_term
        self.done.append((term, [(entry.index, entry.term) for entry in entries]))
        promise: Promise[None] = Promise()
        self._running.append(promise)
        return promise

    async def install(self, snapshot: SnapshotMetadata) -> None:
        await trio.lowlevel.checkpoint()
        self.done.append(snapshot)

    async def end_all(self) -> None:
        """Until nothing is left to save."""
        while self._running:
            self._running.pop(0).set(None)
            await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def saving() -> AsyncIterator[tuple[Saver, Writes]]:
    """A saver that is in the middle of its first save."""
    writes, life = Writes(), Life()
    disk: Any = SimpleNamespace(save=None, spare_wanted=False)

    async def here(function: Any, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)

    saver = Saver(
        disk,
        life,
        here,
        writes.write,
        writes.done.append,
        writes.install,
        lambda: None,
        stall_limit=1.0,
    )
    async with trio.open_nursery() as nursery:
        life.begin(nursery)
        saver.put(update(log_of([1]), term=1))
        assert writes.done == [(1, [(1, 1)])]
        yield saver, writes
        life.end()


async def test_what_gathers_during_a_save_is_one_save() -> None:
    """Of what later updates replace nothing is written: a log on disk has no gaps, and no index
    twice. pitfall 31"""
    async with saving() as (saver, writes):
        updates = [
            update(log_of([1, 1, 1], 2)),
            update(term=2),
            update(log_of([2, 2], 3), term=3),
            update(log_of([3], 4)),
        ]
        for each in updates:
            saver.put(each)
        await writes.end_all()
        assert writes.done[2:] == [(3, [(2, 1), (3, 2), (4, 3)]), *updates]


async def test_a_snapshot_is_installed_between_what_comes_in_front_and_behind_it() -> None:
    """The log on disk begins behind it: what the one save would take is not the other's."""
    async with saving() as (saver, writes):
        before = update(log_of([1, 1], 2))
        with_it = update(log_of([2], 10), term=2, snapshot=SNAPSHOT)
        behind = update(log_of([2], 11))
        for each in (before, with_it, behind):
            saver.put(each)
        await writes.end_all()
        assert writes.done[2:] == [
            (None, [(2, 1), (3, 1)]),
            before,
            (2, []),
            SNAPSHOT,
            (None, [(10, 2), (11, 2)]),
            with_it,
            behind,
        ]
