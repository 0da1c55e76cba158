"""What a node's log is, and what of it is durable, as seen from outside: by its updates alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry
from raftd.raft.state import HardState, Recovered, SnapshotMetadata


class ShadowLog:
    """Terms of the entries behind `base_index`, and the configurations among them."""

    __slots__ = ("base_index", "base_term", "configurations", "terms")

    def __init__(self, snapshot: SnapshotMetadata) -> None:
        self.restart(snapshot)

    def restart(self, snapshot: SnapshotMetadata) -> None:
        """Nothing but the snapshot."""
        self.base_index = snapshot.last_included_index
        self.base_term = snapshot.last_included_term
        self.terms: list[int] = []
        self.configurations = [(self.base_index, snapshot.configuration)]

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.terms)

    @property
    def last_term(self) -> int:
        return self.terms[-1] if self.terms else self.base_term

    @property
    def configuration(self) -> Configuration:
        return self.configurations[-1][1]

    def term(self, index: int) -> int | None:
        """None where there is no entry, or it lies before the base."""
        position = index - self.base_index
        if position == 0:
            return self.base_term
        return self.terms[position - 1] if 0 < position <= len(self.terms) else None

    def has(self, index: int, term: int) -> bool:
        """That entry, or a snapshot that covers its index."""
        return index < self.base_index or self.term(index) == term

    def put(self, entries: Sequence[Entry]) -> None:
        """Contiguous entries; the first takes the place of what is at and behind its index."""
        first = entries[0].index
        if first <= self.last_index:
            del self.terms[max(0, first - self.base_index - 1) :]
            while len(self.configurations) > 1 and self.configurations[-1][0] >= first:
                self.configurations.pop()
        for entry in entries:
            if entry.index <= self.base_index:
                continue
            self.terms.append(entry.term)
            if entry.configuration is not None:
                self.configurations.append((entry.index, entry.configuration))

    def install(self, snapshot: SnapshotMetadata) -> None:
        """Paper, Figure 13: what lies behind the snapshot's last entry stays if that is here."""
        index = snapshot.last_included_index
        if self.term(index) != snapshot.last_included_term:
            self.restart(snapshot)
            return
        del self.terms[: index - self.base_index]
        self.base_index, self.base_term = index, snapshot.last_included_term
        later = [each for each in self.configurations if each[0] > index]
        self.configurations = [(index, snapshot.configuration), *later]

    def copy(self) -> ShadowLog:
        other = ShadowLog.__new__(ShadowLog)
        other.base_index, other.base_term = self.base_index, self.base_term
        other.terms = list(self.terms)
        other.configurations = list(self.configurations)
        return other

    def above(self, index: int) -> tuple[int, list[int]]:
        """(last index, terms behind `index`), which is not below the base."""
        return self.last_index, self.terms[index - self.base_index :]


class Attempt:
    """What a call on the disk would make durable; it may or may not have, when it is cut off."""

    __slots__ = ("entries", "hard_state", "snapshot")

    def __init__(
        self,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
        snapshot: SnapshotMetadata | None = None,
    ) -> None:
        self.hard_state = hard_state
        self.entries = entries
        self.snapshot = snapshot


class Durable:
    """What a node's disk has promised to keep, over all its lives. `attempts` are under way."""

    def __init__(self, initial: Configuration) -> None:
        self.hard_state = HardState()
        self.snapshot = SnapshotMetadata(0, 0, initial)
        self.log = ShadowLog(self.snapshot)
        self.attempts: list[Attempt] = []

    def begin(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def done(self, attempt: Attempt) -> None:
        self.attempts.remove(attempt)
        self._take(attempt)

    def full(self, attempt: Attempt) -> None:
        """The disk was full: the log is as before; the hard state may be there."""
        attempt.entries = ()
        attempt.snapshot = None

    def _take(self, attempt: Attempt) -> None:
        if attempt.hard_state is not None:
            self.hard_state = attempt.hard_state
        if attempt.snapshot is not None:
            self.snapshot = attempt.snapshot
            self.log.install(attempt.snapshot)
        if attempt.entries:
            self.log.put(attempt.entries)

    def accept(self, recovered: Recovered, configurations: list[tuple[int, Configuration]]) -> None:
        """What a new life found is durable from now on, promised or not."""
        self.attempts.clear()
        self.hard_state = recovered.hard_state
        self.snapshot = recovered.snapshot
        self.log.restart(recovered.snapshot)
        self.log.terms = terms_of(recovered)
        self.log.configurations += configurations


def terms_of(recovered: Recovered) -> list[int]:
    """The term of each entry behind the snapshot."""
    first = recovered.snapshot.last_included_index + 1
    terms: list[int] = []
    bounds = [*recovered.term_runs, (recovered.last_index + 1, 0)]
    for (start, term), (end, _) in pairwise(bounds):
        terms += [term] * (end - max(first, start))
    return terms
