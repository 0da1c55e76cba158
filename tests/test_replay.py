"""raftd.replay: from entries to a state."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from raftd import features, record
from raftd.kv import commands
from raftd.kv.commands import CompareAndSet, CompareFailed, Put
from raftd.kv.store import MAX_RESULT_BYTES, KeyValueStore
from raftd.raft.log import Entry, EntryType
from raftd.replay import apply_entries, replay
from raftd.state_hash import context_of
from raftd.state_machine import Command, encode_command

LARGE = b"x" * (MAX_RESULT_BYTES // 2)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[KeyValueStore]:
    store = KeyValueStore(tmp_path)
    yield store
    store.close()


def entry(index: int, kind: EntryType, payload: bytes) -> Entry:
    return Entry(index, 1, kind, record.encode(index, 1, kind, payload, 0))


def command(index: int, body: commands.Command) -> Entry:
    payload = encode_command(Command(0, "a", commands.encode(body)))
    return entry(index, EntryType.COMMAND, payload)


def entries_with_large_results() -> list[Entry]:
    """Each of the last six brings half of what one step may hold."""
    return [
        entry(1, EntryType.FEATURES, features.encode(features.CHECKS)),
        command(2, Put(b"k", LARGE)),
        *(command(index, CompareAndSet(b"k", 1, None, b"never")) for index in range(3, 9)),
    ]


def test_a_step_ends_before_its_results_take_too_much_memory(machine: KeyValueStore) -> None:
    """A few bytes in the log are a large value in the result of each comparison that fails."""
    entries = entries_with_large_results()
    ends = [0]
    while ends[-1] < len(entries):
        results = apply_entries(machine, entries[ends[-1] :])
        ends.append(ends[-1] + len(results))
        assert machine.last_applied == ends[-1]
        assert sum(len(result) for result in results) < MAX_RESULT_BYTES + len(LARGE)
        assert commands.decode_result(results[-1]) == CompareFailed(2, LARGE)
    assert [end - start for start, end in pairwise(ends)] == [4, 2, 2]


def test_the_hash_of_a_state_does_not_depend_on_the_steps(
    machine: KeyValueStore, tmp_path: Path
) -> None:
    entries = entries_with_large_results()
    single = KeyValueStore(tmp_path / "single")
    for each in entries:
        assert len(apply_entries(single, [each])) == 1
    replay(machine, lambda first, last, _: entries[first - 1 : last], len(entries))
    assert context_of(machine) == context_of(single)
    assert context_of(machine).hash
    single.close()
