"""The applier of raftd.driver.applier in virtual time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from raftd.raft.log import Entry
from raftd.replay import apply_entries

if TYPE_CHECKING:
    from tests.simulation.process import Process

Answer = Callable[[str, int, bytes], None]
"""Outcome (applied, no-quorum, unknown), index, result."""


class Applier:
    """The only one who touches the state machine's `apply` and `restore`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._machine = process.machine
        self.applied_index = self._target = process.machine.last_applied
        self._installing = False
        self._busy = False
        self._commands: dict[int, list[tuple[int, Answer]]] = {}
        self._readers: list[tuple[int, int, Callable[[], None]]] = []
        self._reader_count = 0
        self._batch_bytes = process.random.choice((1, 300, 1 << 20))

    def advance(self, commit_index: int) -> None:
        """Entries up to here are committed and saved."""
        if commit_index > self._target:
            self._target = commit_index
            self._go_on()

    def expect(self, index: int, term: int, answer: Answer) -> None:
        self._commands.setdefault(index, []).append((term, answer))

    def when_applied(self, index: int, action: Callable[[], None]) -> None:
        if index <= self.applied_index:
            action()
            return
        self._reader_count += 1
        heapq.heappush(self._readers, (index, self._reader_count, action))

    def expect_snapshot(self) -> None:
        """A snapshot is about to replace the state: apply nothing until `restore`."""
        self._installing = True

    def restore(self, path: Path, index: int) -> None:
        self._machine.restore(path)
        self.applied_index = self._target = max(index, self._machine.last_applied)
        self._process.world.outcomes.restored(self._process, index)
        self._installing = False
        for waiting in sorted(each for each in self._commands if each <= index):
            for _, answer in self._commands.pop(waiting):
                answer("unknown", waiting, b"")
        self._answer_readers()
        self._go_on()

    def _go_on(self) -> None:
        process = self._process
        while not self._busy and not self._installing and self.applied_index < self._target:
            if process.random.random() < 0.3:
                self._busy = True
                delay = process.world.plan.disk_latency * process.random.random()
                process.later(delay, self._apply_later)
                return
            self._apply_some()

    def _apply_later(self) -> None:
        self._busy = False
        if not self._installing and self.applied_index < self._target:
            self._apply_some()
            self._go_on()

    def _apply_some(self) -> None:
        process = self._process
        entries = self._read()
        results = apply_entries(self._machine, entries)
        entries = entries[: len(results)]
        self.applied_index = entries[-1].index
        process.world.outcomes.applied(process, entries, results)
        for entry, result in zip(entries, results, strict=True):
            for term, answer in self._commands.pop(entry.index, ()):
                if term == entry.term:
                    answer("applied", entry.index, result)
                else:
                    answer("no-quorum", entry.index, b"")
        self._answer_readers()
        process.snapshots.consider()

    def _read(self) -> list[Entry]:
        first = self.applied_index + 1
        entries = self._process.raft.server.log.slice(first, self._batch_bytes)
        if entries is None:
            return self._process.disk.read(first, self._target, self._batch_bytes)
        return list(entries[: self._target - self.applied_index])

    def _answer_readers(self) -> None:
        while self._readers and self._readers[0][0] <= self.applied_index:
            heapq.heappop(self._readers)[2]()
