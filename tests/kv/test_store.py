"""raftd.kv.store: what commands do, and what queries find."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftd.kv import commands
from raftd.kv.commands import (
    Changed,
    CompareAndSet,
    CompareFailed,
    Delete,
    Get,
    Invalid,
    Item,
    Items,
    Put,
    Range,
)
from raftd.kv.store import MAX_ANSWER_BYTES, KeyValueStore
from raftd.kv.table import MAX_KEY_BYTES
from raftd.state_machine import Committed, StateMachine


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KeyValueStore]:
    opened = KeyValueStore(tmp_path)
    yield opened
    opened.close()


def run(store: KeyValueStore, *batch: commands.Command | bytes | None) -> list[commands.Result]:
    """Apply one batch and decode its results."""
    first = store.last_applied + 1
    bodies = [b if isinstance(b, bytes) or b is None else commands.encode(b) for b in batch]
    results = store.apply([Committed(first + i, 1, 0, b) for i, b in enumerate(bodies)])
    assert len(results) == len(batch)
    return [commands.decode_result(result) for result in results if result]


def ask(store: KeyValueStore, query: commands.Query) -> Items:
    """A Get in both ways, which must say the same."""
    encoded = commands.encode(query)
    answer = store.read(encoded)
    if store.is_quick(encoded) and threading.current_thread() is threading.main_thread():
        assert store.read_now(encoded) == answer
    return commands.decode_items(answer)


def keys(store: KeyValueStore, query: Range) -> list[bytes]:
    return [item.key for item in ask(store, query).items]


def test_it_is_a_state_machine(store: KeyValueStore) -> None:
    machine: StateMachine = store
    assert machine.last_applied == 0


def test_put_get_delete(store: KeyValueStore) -> None:
    assert run(store, Put(b"a", b"1")) == [Changed(1, existed=False)]
    assert ask(store, Get(b"a")) == Items((Item(b"a", b"1", 1),), more=False, applied_index=1)
    assert run(store, Put(b"a", b"2")) == [Changed(2, existed=True)]
    assert ask(store, Get(b"a")).items == (Item(b"a", b"2", 2),)
    assert run(store, Delete(b"a"), Delete(b"a")) == [
        Changed(3, existed=True),
        Changed(4, existed=False),
    ]
    assert ask(store, Get(b"a")) == Items((), more=False, applied_index=4)


@pytest.mark.parametrize("blob", [b"", b"\0", b"\xff\xff", b"a\0b", b"\x1b[2J", bytes(range(256))])
def test_bytes_of_every_kind(store: KeyValueStore, blob: bytes) -> None:
    key = b"\0" + blob
    run(store, Put(key, blob))
    assert ask(store, Get(key)).items == (Item(key, blob, 1),)
    assert ask(store, Range(key)).items == (Item(key, blob, 1),)
    assert run(store, CompareAndSet(key, None, blob, blob + b"!")) == [Changed(2, existed=True)]
    assert ask(store, Get(key)).items == (Item(key, blob + b"!", 2),)


def test_a_large_value(store: KeyValueStore) -> None:
    value = bytes(range(256)) * (8 << 12)
    run(store, Put(b"large", value))
    assert ask(store, Get(b"large")).items[0].value == value


def test_entries_without_a_command_advance_the_index(store: KeyValueStore) -> None:
    results = store.apply([Committed(1, 3, 0, None), Committed(2, 4, 0, None)])
    assert results == [b"", b""]
    assert (store.last_applied, store.last_applied_term) == (2, 4)
    assert store.apply([]) == []


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (CompareAndSet(b"a", 1, None, b"2"), Changed(2, existed=True)),
        (CompareAndSet(b"a", 9, None, b"2"), CompareFailed(1, b"1")),
        (CompareAndSet(b"a", 0, None, b"2"), CompareFailed(1, b"1")),
        (CompareAndSet(b"a", -1, None, b"2"), CompareFailed(1, b"1")),
        (CompareAndSet(b"a", 2**64 - 1, None, b"2"), CompareFailed(1, b"1")),
        (CompareAndSet(b"a", None, b"1", b"2"), Changed(2, existed=True)),
        (CompareAndSet(b"a", None, b"x", b"2"), CompareFailed(1, b"1")),
        (CompareAndSet(b"a", None, b"", b"2"), CompareFailed(1, b"1")),
        (CompareAndSet(b"a", None, None, b"2"), CompareFailed(1, b"1")),
        (CompareAndSet(b"a", 1, b"ignored", b"2"), Changed(2, existed=True)),
        (CompareAndSet(b"a", 1, None, None), Changed(2, existed=True)),
        (CompareAndSet(b"new", 0, None, b"2"), Changed(2, existed=False)),
        (CompareAndSet(b"new", None, None, b"2"), Changed(2, existed=False)),
        (CompareAndSet(b"new", None, None, None), Changed(2, existed=False)),
        (CompareAndSet(b"new", 1, None, b"2"), CompareFailed(0, None)),
        (CompareAndSet(b"new", None, b"", b"2"), CompareFailed(0, None)),
    ],
)
def test_compare_and_set(
    store: KeyValueStore, command: CompareAndSet, result: commands.Result
) -> None:
    run(store, Put(b"a", b"1"))
    before = ask(store, Get(command.key)).items
    assert run(store, command) == [result]
    after = ask(store, Get(command.key)).items
    if isinstance(result, CompareFailed):
        assert after == before
    elif command.value is None:
        assert after == ()
    else:
        assert after == (Item(command.key, command.value, 2),)


BAD_COMMANDS = [
    b"",
    b"\xc1",
    b"\x00",
    b"\xff" * 100,
    b"\x91" * 100_000,
    msgspec.msgpack.encode([1, b"key"]),
    msgspec.msgpack.encode([1, "key", b"value"]),
    msgspec.msgpack.encode([9, b"key", b"value"]),
    msgspec.msgpack.encode([3, b"key", 1.0, None, b"value"]),
    msgspec.msgpack.encode([3, b"key", True, None, b"value"]),
    msgspec.msgpack.encode({"key": b"key"}),
    b"\x93\x01\xc6\xff\xff\xff\xffx",
    commands.encode(Put(b"", b"value")),
    commands.encode(Put(b"x" * (MAX_KEY_BYTES + 1), b"value")),
    commands.encode(Delete(b"")),
    commands.encode(CompareAndSet(b"", 0, None, b"value")),
]


@pytest.mark.parametrize("body", BAD_COMMANDS)
def test_a_command_that_makes_no_sense_changes_nothing(store: KeyValueStore, body: bytes) -> None:
    """pitfall 74, pitfall 77: it costs its place in the log, and its neighbours do not suffer."""
    first, bad, last = run(store, Put(b"a", b"1"), body, Put(b"b", b"2"))
    assert (first, last) == (Changed(1, existed=False), Changed(3, existed=False))
    assert isinstance(bad, Invalid)
    assert bad.reason
    assert store.last_applied == 3
    assert keys(store, Range(b"")) == [b"a", b"b"]


def test_the_longest_key(store: KeyValueStore) -> None:
    """pitfall 73"""
    key = b"x" * MAX_KEY_BYTES
    assert run(store, Put(key, b"v")) == [Changed(1, existed=False)]
    assert ask(store, Get(key)).items == (Item(key, b"v", 1),)
    assert keys(store, Range(key)) == [key]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (b"", [b"\0", b"a", b"a\0", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff\x01"]),
        (b"a", [b"a", b"a\0", b"a\xff", b"a\xff\xff"]),
        (b"a\xff", [b"a\xff", b"a\xff\xff"]),
        (b"\xff", [b"\xff", b"\xff\xff\x01"]),
        (b"\xff\xff", [b"\xff\xff\x01"]),
        (b"\xff\xff\xff", []),
        (b"\0", [b"\0"]),
        (b"aa", []),
        (b"x" * 10_000, []),
    ],
)
def test_ranges(store: KeyValueStore, prefix: bytes, expected: list[bytes]) -> None:
    every = [b"b", b"a\xff\xff", b"\xff\xff\x01", b"a", b"\0", b"a\xff", b"\xff", b"a\0"]
    run(store, *[Put(key, b"") for key in every])
    found = ask(store, Range(prefix))
    assert [item.key for item in found.items] == expected
    assert (found.more, found.applied_index) == (False, len(every))
    paged: list[bytes] = []
    after = None
    while True:
        page = ask(store, Range(prefix, 1, after))
        paged += [item.key for item in page.items]
        if not page.more:
            break
        after = paged[-1]
    assert paged == expected


def test_after_before_and_behind_the_prefix(store: KeyValueStore) -> None:
    run(store, *[Put(key, b"") for key in (b"a", b"b1", b"b2", b"c")])
    assert keys(store, Range(b"b", after=b"a")) == [b"b1", b"b2"]
    assert keys(store, Range(b"b", after=b"")) == [b"b1", b"b2"]
    assert keys(store, Range(b"b", after=b"b1")) == [b"b2"]
    assert keys(store, Range(b"b", after=b"c")) == []
    assert keys(store, Range(b"", after=b"b2")) == [b"c"]


@pytest.mark.parametrize(
    ("limit", "count", "more"),
    [
        (2, 2, True),
        (0, 0, True),
        (-5, 0, True),
        (999, 999, True),
        (1000, 1000, True),
        (1001, 1000, True),
        (2**64 - 1, 1000, True),
    ],
)
def test_limits(store: KeyValueStore, limit: int, count: int, more: bool) -> None:
    run(store, *[Put(b"%05d" % i, b"") for i in range(1001)])
    found = ask(store, Range(b"", limit))
    assert (len(found.items), found.more) == (count, more)
    found = ask(store, Range(b"01000", limit))
    assert found.more == (limit <= 0)


def test_an_answer_is_bounded_but_never_stuck(store: KeyValueStore) -> None:
    half = MAX_ANSWER_BYTES // 2 - 100
    run(store, *[Put(b"%d" % i, b"x" * half) for i in range(5)])
    run(store, Put(b"huge", b"x" * (2 * MAX_ANSWER_BYTES)))
    found = ask(store, Range(b""))
    assert ([item.key for item in found.items], found.more) == ([b"0", b"1"], True)
    found = ask(store, Range(b"", after=b"3"))
    assert ([item.key for item in found.items], found.more) == ([b"4"], True)
    found = ask(store, Range(b"", after=b"4"))
    assert ([item.key for item in found.items], found.more) == ([b"huge"], False)


@pytest.mark.parametrize("query", [b"", b"\xc1", b"\x91" * 100_000, b"\x92\x01\xa1x"])
def test_a_query_that_makes_no_sense(store: KeyValueStore, query: bytes) -> None:
    """pitfall 77"""
    with pytest.raises(ValueError, match="no query"):
        store.read(query)


def test_entries_out_of_order_are_our_bug(store: KeyValueStore) -> None:
    with pytest.raises(AssertionError):
        store.apply([Committed(2, 1, 0, None)])


def test_a_failing_batch_leaves_no_trace(store: KeyValueStore) -> None:
    """pitfall 37: a full disk in the middle of a batch, and room again afterwards."""
    run(store, Put(b"a", b"1"))
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    big = [Put(b"big%d" % i, b"x" * 4000) for i in range(10)]
    with pytest.raises(OSError, match="full") as caught:
        run(store, Put(b"a", b"2"), *big)
    assert caught.value.errno == 28
    assert store.last_applied == 1
    assert ask(store, Range(b"")) == Items((Item(b"a", b"1", 1),), more=False, applied_index=1)
    store._writer.execute("PRAGMA max_page_count = 100000")
    assert len(run(store, Put(b"a", b"2"), *big)) == 11
    assert ask(store, Get(b"a")).items == (Item(b"a", b"2", 2),)


def test_a_bug_in_the_middle_of_a_batch_leaves_no_trace(store: KeyValueStore) -> None:
    run(store, Put(b"a", b"1"))
    good = commands.encode(Put(b"a", b"2"))
    broken: Any = 5
    with pytest.raises(TypeError):
        store.apply([Committed(2, 1, 0, good), Committed(3, 1, 0, broken)])
    assert store.last_applied == 1
    assert ask(store, Get(b"a")) == Items((Item(b"a", b"1", 1),), more=False, applied_index=1)
    assert run(store, Put(b"a", b"3")) == [Changed(2, existed=True)]


def test_readers_in_many_threads_see_whole_batches(store: KeyValueStore) -> None:
    """Each batch gives all keys the same value; no reader may ever see two values."""
    names = [b"%d" % i for i in range(20)]
    run(store, *[Put(name, b"0") for name in names])
    stop = threading.Event()
    seen: list[tuple[int, set[bytes]]] = []

    def watch() -> None:
        while not stop.is_set():
            found = ask(store, Range(b""))
            seen.append((found.applied_index, {item.value for item in found.items}))

    threads = [threading.Thread(target=watch) for _ in range(6)]
    for thread in threads:
        thread.start()
    for number in range(1, 50):
        run(store, *[Put(name, b"%d" % number) for name in names])
    stop.set()
    for thread in threads:
        thread.join()
    assert seen
    for index, values in seen:
        assert values == {b"%d" % (index // len(names) - 1)}


def test_a_context_is_kept_with_the_state_and_replaced_by_a_later_one(tmp_path: Path) -> None:
    store = KeyValueStore(tmp_path)
    assert store.context == b""
    for index, context in enumerate([b"", b"one", b"two", b"two", b"three"], 1):
        _apply_with(store, index, context)
        assert store.context == context
        store.close()
        store = KeyValueStore(tmp_path)
        assert (store.last_applied, store.context) == (index, context)
    _apply_with(store, 6, b"four")
    _apply_with(store, 7, b"five")
    store.apply([Committed(8, 1, 0, None)])
    store.close()
    store = KeyValueStore(tmp_path)
    assert (store.last_applied, store.context) == (8, b"five")
    store.close()


def _apply_with(store: KeyValueStore, index: int, context: bytes) -> None:
    store.apply([Committed(index, 1, 0, None)], lambda _: context)
