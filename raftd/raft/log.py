"""The log as the algorithm sees it: terms of all of it, entries of its tail.

Every entry's term is known without IO, because terms never fall along a log: a run-length list
(`term_runs`) holds them all. The entries themselves stay in memory only near the end, bounded in
bytes; older ones are read from disk by the driver when a follower needs them.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

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
        self._starts = [0, *accumulate(len(entry.record) for entry in self._tail)]
        """Where each record of the tail would start if they stood back to back behind others, and
        where the last one ends: what any stretch takes is a difference of two."""
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
    def tail_bytes(self) -> int:
        return self._starts[-1] - self._starts[0]

    @property
    def last_term(self) -> int:
        return self._runs[-1][1] if self._runs else self.base_term or 0

    @property
    def term_runs(self) -> tuple[tuple[int, int], ...]:
        """(first index, term) of each run of equal terms."""
        return tuple(self._runs)

    def term(self, index: int) -> int | None:
        """The term of the entry at `index`; None if there is none, or nobody knows."""
        runs = self._runs
        if runs and runs[-1][0] <= index <= self.last_index:
            return runs[-1][1]
        if index == self.base_index:
            return self.base_term
        if not self.base_index < index <= self.last_index:
            return None
        return runs[bisect_right(runs, index, key=_run_start) - 1][1]

    def append(self, *entries: Entry) -> None:
        index, term = self.last_index, self.last_term
        starts, end = self._starts, self._starts[-1]
        for entry in entries:
            index += 1
            assert entry.index == index, "a log has no gaps"
            if entry.term != term or not self._runs:
                assert entry.term >= term, "terms never fall along a log"
                term = entry.term
                self._runs.append((index, term))
            self._tail.append(entry)
            end += len(entry.record)
            starts.append(end)
        self.last_index = index

    def truncate_from(self, index: int) -> None:
        """Drop `index` and everything behind it (paper 5.3: a conflict with the leader's log)."""
        assert self.base_index < index <= self.last_index
        keep = max(0, index - self._tail_first)
        del self._tail[keep:], self._starts[keep + 1 :]
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
        end = bisect_right(self._starts, self._starts[start] + max_bytes) - 1
        return tuple(self._tail[start : max(end, start + 1)])

    def bytes_above(self, index: int) -> int:
        """What the entries above `index` take, as far as they are in memory."""
        return self._starts[-1] - self._starts[max(0, index + 1 - self._tail_first)]

    def evict(self, up_to: int, max_bytes: int) -> None:
        """Forget entries up to index `up_to`, oldest first, while the tail has over `max_bytes`.

        Acts in steps of an eighth of the bound, so that its cost does not fall on every call.
        """
        starts = self._starts
        if starts[-1] - starts[0] <= max_bytes + max_bytes // 8:
            return
        surplus = bisect_left(starts, starts[-1] - max_bytes)
        self._forget(max(0, min(surplus, up_to + 1 - self._tail_first)))

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
        self._forget(max(0, index + 1 - self._tail_first))

    def restart_at(self, index: int, term: int) -> None:
        """A snapshot from the leader replaces the whole log."""
        self.base_index, self.base_term, self.last_index = index, term, index
        self._runs, self._tail, self._starts = [], [], [0]
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

    def _forget(self, count: int) -> None:
        """Drop the first entries of the tail."""
        del self._tail[:count], self._starts[:count]
        self._tail_first += count


def _run_start(run: tuple[int, int]) -> int:
    return run[0]
