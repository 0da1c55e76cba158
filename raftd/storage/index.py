"""Where each live entry of the log stands on disk, and its term; all in memory.

One 8-byte word per entry: the segment's sequence in the upper half, the offset of its record in
the lower. Words grow along the log, because the log is only ever appended to: an entry
that supersedes others stands behind them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from raftd.raft.log import Entry

OFFSET_BITS = 32
OFFSET_MASK = (1 << OFFSET_BITS) - 1


class Index:
    """Entries `first_index` to `last_index`, none if that is one less."""

    __slots__ = ("first_index", "runs", "words")

    def __init__(self, first_index: int) -> None:
        self.first_index = first_index
        self.words: array[int] = array("Q")
        self.runs: list[tuple[int, int]] = []

    @property
    def next_index(self) -> int:
        return self.first_index + len(self.words)

    @property
    def last_index(self) -> int:
        return self.first_index + len(self.words) - 1

    @property
    def last_term(self) -> int:
        """The last entry's term; 0 if there is no entry."""
        return self.runs[-1][1] if self.runs else 0

    def term(self, index: int) -> int | None:
        """The term of the entry at `index`; None if there is none."""
        if not self.first_index <= index <= self.last_index:
            return None
        return self.runs[bisect_right(self.runs, index, key=_start) - 1][1]

    def extend(self, entries: Sequence[Entry], words: Iterable[int]) -> None:
        """Append entries; `words` has one for each."""
        last_term = self.last_term
        if entries[-1].term != last_term:
            for entry in entries:
                if entry.term != last_term:
                    last_term = entry.term
                    self.runs.append((entry.index, last_term))
        self.words.extend(words)

    def truncate_from(self, index: int) -> None:
        """Forget the entry at `index` and all behind it; `index` may lie before the first."""
        if index <= self.first_index:
            self.restart(index)
            return
        del self.words[index - self.first_index :]
        while self.runs and self.runs[-1][0] >= index:
            self.runs.pop()

    def drop_until(self, index: int) -> None:
        """Forget the entries up to `index`."""
        count = min(index + 1 - self.first_index, len(self.words))
        if count <= 0:
            return
        del self.words[:count]
        self.first_index += count
        self.runs = self.runs_from(self.first_index)

    def restart(self, first_index: int) -> None:
        self.first_index = first_index
        self.words = array("Q")
        self.runs = []

    def runs_from(self, index: int) -> list[tuple[int, int]]:
        """(first index, term) of each run of equal terms among the entries from `index` on."""
        if index > self.last_index:
            return []
        position = bisect_right(self.runs, index, key=_start) - 1
        if position < 0:
            return list(self.runs)
        return [(max(index, start), term) for start, term in self.runs[position:]]

    def live(self, sequence: int) -> tuple[int, int]:
        """First and last index of the live entries in that segment; last < first if none is."""
        low = bisect_left(self.words, sequence << OFFSET_BITS)
        high = bisect_left(self.words, (sequence + 1) << OFFSET_BITS, low)
        return self.first_index + low, self.first_index + high - 1


def _start(run: tuple[int, int]) -> int:
    return run[0]
