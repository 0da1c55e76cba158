"""The log as the algorithm sees it: terms of all of it, entries of its tail.

Every entry's term is known without IO, because terms never fall along a log: a run-length list
(`term_runs`) holds them all. The entries themselves stay in memory only near the end, bounded in
bytes; older ones are read from disk by the driver when a follower needs them.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from raftd.raft.configuration import Configuration


class EntryType(enum.IntEnum):
    NO_OP = 0
    COMMAND = 1
    CONFIGURATION = 2
    FEATURES = 3
    CHECK = 4


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One log entry. `record` is its one encoding, opaque here: raftd.record makes and reads it."""

    index: int
    term: int
    type: EntryType
    record: bytes
    configuration: Configuration | None = None


class Log:
    """Indexes `first_index` to `last_index`; `base_index` is the one in front of them.

    `base_term` is None where a snapshot reaches beyond the base and nobody knows it any more.
    """

    def __init__(
        self,
        base_index: int = 0,
        base_term: int | None = 0,
        last_index: int = 0,
        term_runs: Iterable[tuple[int, int]] = (),
        tail: Sequence[Entry] = (),
    ) -> None:
        self.base_index = base_index
        self.base_term = base_term
        self.last_index = last_index
        self._runs = list(term_runs)
        self._tail = list(tail)
        self._tail_first = last_index + 1 - len(self._tail)
        self.tail_bytes = sum(len(entry.record) for entry in self._tail)
        assert last_index >= base_index
        assert not self._tail or self._tail[-1].index == last_index

    @property
    def first_index(self) -> int:
        return self.base_index + 1

    @property
    def tail_first_index(self) -> int:
        """The first index whose entry is in memory; last_index + 1 if there is none."""
        return self._tail_first

    @property
    def last_term(self) -> int:
        return self._runs[-1][1] if self._runs else self.base_term or 0

    @property
    def term_runs(self) -> tuple[tuple[int, int], ...]:
        """(first index, term) of each run of equal terms."""
        return tuple(self._runs)

    def term(self, index: int) -> int | None:
        """The term of the entry at `index`; None if there is none, or nobody knows."""
        if index == self.base_index:
            return self.base_term
        if not self.base_index < index <= self.last_index:
            return None
        return self._runs[bisect_right(self._runs, index, key=_run_start) - 1][1]

    def append(self, entry: Entry) -> None:
        assert entry.index == self.last_index + 1, "a log has no gaps"
        assert entry.term >= self.last_term, "terms never fall along a log"
        if entry.term != self.last_term or not self._runs:
            self._runs.append((entry.index, entry.term))
        self._tail.append(entry)
        self.tail_bytes += len(entry.record)
        self.last_index = entry.index

    def truncate_from(self, index: int) -> None:
        """Drop `index` and everything behind it (paper 5.3: a conflict with the leader's log)."""
        assert self.base_index < index <= self.last_index
        keep = max(0, index - self._tail_first)
        self.tail_bytes -= sum(len(entry.record) for entry in self._tail[keep:])
        del self._tail[keep:]
        self._tail_first = min(self._tail_first, index)
        self.last_index = index - 1
        while self._runs and self._runs[-1][0] >= index:
            self._runs.pop()

    def entry(self, index: int) -> Entry | None:
        """The entry at `index` if it is in memory."""
        if self._tail_first <= index <= self.last_index:
            return self._tail[index - self._tail_first]
        return None

    def slice(self, first: int, max_bytes: int) -> tuple[Entry, ...] | None:
        """Entries from `first` on, at most `max_bytes` of them but at least one; None: not in
        memory."""
        if first > self.last_index:
            return ()
        if first < self._tail_first:
            return None
        start = first - self._tail_first
        size = 0
        for position in range(start, len(self._tail)):
            size += len(self._tail[position].record)
            if size > max_bytes and position > start:
                return tuple(self._tail[start:position])
        return tuple(self._tail[start:])

    def evict(self, up_to: int, max_bytes: int) -> None:
        """Forget entries up to index `up_to`, oldest first, while the tail has over `max_bytes`.

        Acts in steps of an eighth of the bound, so that its cost does not fall on every call.
        """
        if self.tail_bytes <= max_bytes + max_bytes // 8:
            return
        count = 0
        for entry in self._tail:
            if self.tail_bytes <= max_bytes or entry.index > up_to:
                break
            self.tail_bytes -= len(entry.record)
            count += 1
        del self._tail[:count]
        self._tail_first += count

    def compact(self, index: int) -> None:
        """Drop everything up to `index`: a snapshot has it."""
        if index <= self.base_index:
            return
        term = self.term(index)
        assert term is not None, "only what the log has can be compacted"
        self.base_index, self.base_term = index, term
        position = bisect_right(self._runs, index, key=_run_start)
        runs = self._runs[position:]
        if index < self.last_index and (not runs or runs[0][0] > index + 1):
            runs.insert(0, (index + 1, self._runs[position - 1][1]))
        self._runs = runs
        drop = max(0, index + 1 - self._tail_first)
        self.tail_bytes -= sum(len(entry.record) for entry in self._tail[:drop])
        del self._tail[:drop]
        self._tail_first = max(self._tail_first, index + 1)

    def restart_at(self, index: int, term: int) -> None:
        """A snapshot from the leader replaces the whole log."""
        self.base_index, self.base_term, self.last_index = index, term, index
        self._runs, self._tail, self.tail_bytes = [], [], 0
        self._tail_first = index + 1

    def last_index_with_term_at_most(self, term: int, index: int) -> int:
        """The largest index <= `index` whose term is <= `term`; the base if there is none.

        Paper 5.3, end: skips all entries of a conflicting term in one step.
        """
        index = min(index, self.last_index)
        position = bisect_right(self._runs, index, key=_run_start) - 1
        while position >= 0 and self._runs[position][1] > term:
            index = self._runs[position][0] - 1
            position -= 1
        return max(index, self.base_index)


def _run_start(run: tuple[int, int]) -> int:
    return run[0]
