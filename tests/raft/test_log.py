"""The log against a list: whatever is done to both, they say the same."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raftd.raft.log import Entry, EntryType, Log
from tests.raft.durable import log_of


def an_entry(index: int, term: int, size: int = 3) -> Entry:
    return Entry(index, term, EntryType.COMMAND, b"x" * size)


class LogAndList(RuleBasedStateMachine):
    """`entries` are those above `base_index`; those from `memory` on are to be in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.base_index = 0
        self.base_term = 0
        self.entries: list[Entry] = []
        self.memory = 1

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    def an_index(self, data: st.DataObject, first: int, last: int) -> int:
        index: int = data.draw(st.integers(first, last))
        return index

    @rule(rise=st.integers(0, 2), size=st.integers(0, 40), count=st.integers(1, 4))
    def append(self, rise: int, size: int, count: int) -> None:
        for _ in range(count):
            entry = an_entry(self.last_index + 1, self.log.last_term + rise, size)
            self.entries.append(entry)
            self.log.append(entry)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        index = self.an_index(data, self.base_index + 1, self.last_index)
        del self.entries[index - self.base_index - 1 :]
        self.log.truncate_from(index)
        self.memory = min(self.memory, index)

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        index = self.an_index(data, 0, self.last_index)
        self.log.compact(index)
        if index > self.base_index:
            self.base_term = self.entries[index - self.base_index - 1].term
            del self.entries[: index - self.base_index]
            self.base_index = index
        self.memory = max(self.memory, index + 1)

    @rule(data=st.data(), max_bytes=st.integers(0, 60))
    def evict(self, data: st.DataObject, max_bytes: int) -> None:
        up_to = self.an_index(data, 0, self.last_index)
        sizes = [len(entry.record) for entry in self.entries if entry.index >= self.memory]
        if sum(sizes) > max_bytes + max_bytes // 8:
            while sum(sizes) > max_bytes and self.memory <= up_to:
                self.memory += 1
                del sizes[0]
        self.log.evict(up_to, max_bytes)

    @rule(ahead=st.integers(1, 5), rise=st.integers(0, 2))
    def restart(self, ahead: int, rise: int) -> None:
        self.base_term = self.log.last_term + rise
        self.base_index = self.last_index + ahead
        self.entries = []
        self.memory = self.base_index + 1
        self.log.restart_at(self.base_index, self.base_term)

    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        """A new life of it, with as much of its tail in memory as there is room for."""
        self.memory = self.an_index(data, self.base_index + 1, self.last_index + 1)
        tail = self.entries[self.memory - self.base_index - 1 :]
        runs = self.log.term_runs
        self.log = Log(self.base_index, self.base_term, self.last_index, runs, tail)

    @invariant()
    def same_ends(self) -> None:
        assert (self.log.base_index, self.log.base_term) == (self.base_index, self.base_term)
        assert (self.log.first_index, self.log.last_index) == (self.base_index + 1, self.last_index)
        last_term = self.entries[-1].term if self.entries else self.base_term
        assert self.log.last_term == last_term

    @invariant()
    def same_terms(self) -> None:
        assert self.log.term(self.base_index) == self.base_term
        assert self.log.term(self.base_index - 1) is None
        assert self.log.term(self.last_index + 1) is None
        runs: list[tuple[int, int]] = []
        for entry in self.entries:
            assert self.log.term(entry.index) == entry.term
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
        assert self.log.term_runs == tuple(runs)

    @invariant()
    def same_entries_in_memory(self) -> None:
        held = [entry for entry in self.entries if entry.index >= self.memory]
        for entry in self.entries:
            assert self.log.entry(entry.index) == (entry if entry in held else None)
        assert self.log.tail_bytes == sum(len(entry.record) for entry in held)

    @rule(data=st.data(), max_bytes=st.integers(0, 100))
    def slice(self, data: st.DataObject, max_bytes: int) -> None:
        first = self.an_index(data, self.base_index, self.last_index + 2)
        entries = self.log.slice(first, max_bytes)
        wanted = self.entries[max(0, first - self.base_index - 1) :]
        if first > self.last_index:
            assert entries == ()
        elif first < self.memory:
            assert entries is None
        else:
            assert entries is not None
            assert list(entries) == wanted[: len(entries)]
            size = sum(len(entry.record) for entry in entries)
            assert size <= max_bytes or len(entries) == 1
            if len(entries) < len(wanted):
                assert size + len(wanted[len(entries)].record) > max_bytes

    @rule(data=st.data())
    def last_index_with_term_at_most(self, data: st.DataObject) -> None:
        index = self.an_index(data, 0, self.last_index + 2)
        term = self.an_index(data, 0, self.log.last_term + 1)
        expected = max(
            (entry.index for entry in self.entries if entry.index <= index and entry.term <= term),
            default=self.base_index,
        )
        assert self.log.last_index_with_term_at_most(term, index) == expected


TestLogAndList = LogAndList.TestCase
TestLogAndList.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_no_snapshot_no_term_at_the_base() -> None:
    """A snapshot that reaches beyond the first segment: nobody knows the term in front of it."""
    log = Log(4, None, 6, [(5, 2)], ())
    assert log.term(4) is None
    assert log.term(5) == 2
    log.compact(5)
    assert (log.base_term, log.term_runs) == (2, ((6, 2),))


@pytest.mark.parametrize(("index", "term"), [(3, 5), (5, 5), (4, 4)])
def test_a_log_takes_only_what_follows(index: int, term: int) -> None:
    """Indexes have no gaps, and terms never fall along a log."""
    log = Log()
    for entry in log_of([1, 5, 5]):
        log.append(entry)
    with pytest.raises(AssertionError):
        log.append(an_entry(index, term))


def test_committed_entries_go_oldest_first_and_in_steps() -> None:
    """The tail stays bounded, but is not cut at every call."""
    log = Log()
    for index in range(1, 11):
        log.append(an_entry(index, 1, 100))
    log.evict(10, 900)
    assert log.tail_bytes == 1000, "less than an eighth too much"
    log.append(an_entry(11, 1, 100))
    log.evict(10, 900)
    assert log.tail_bytes == 900
    log.evict(3, 100)
    assert log.entry(3) is None
    assert log.entry(4) is not None, "only up to where it may"
