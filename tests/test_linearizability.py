"""The checker of histories: by hand, against brute force, and against a simulated register."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import history
from tests.history import Kind, Operation, Outcome, Recorder
from tests.linearizability import Illegal, Undecided, check


def op(
    times: str,
    operation: Kind,
    value: str | None = None,
    *,
    expected: str | None = None,
    outcome: Outcome = "ok",
    result: str | None = None,
    key: str = "k",
) -> Operation:
    """One operation; `times` is "call-return"."""
    call, returned = (int(each) for each in times.split("-"))
    if operation == "get":
        value, result = None, value
    return Operation(0, call, returned, operation, key, value, expected, outcome, result)


LEGAL = {
    "nothing at all": [],
    "read of a key that was never written": [op("0-1", "get", None)],
    "write, then read": [op("0-1", "put", "a"), op("2-3", "get", "a")],
    "two reads during one write, old value first": [
        op("0-9", "put", "a"),
        op("1-2", "get", None),
        op("3-4", "get", "a"),
    ],
    "writes at the same time, in either order": [
        op("0-5", "put", "a"),
        op("0-5", "put", "b"),
        op("6-7", "get", "a"),
    ],
    "delete, then nothing": [
        op("0-1", "put", "a"),
        op("2-3", "delete"),
        op("4-5", "get", None),
    ],
    "chain of cas from nothing": [
        op("0-9", "cas", "b", expected="a"),
        op("0-9", "cas", "a", expected=None),
        op("10-11", "get", "b"),
    ],
    "cas that deletes": [
        op("0-1", "put", "a"),
        op("2-3", "cas", None, expected="a"),
        op("4-5", "get", None),
    ],
    "one of two cas finds what the other has written": [
        op("0-1", "put", "a"),
        op("2-9", "cas", "b", expected="a"),
        op("2-9", "cas", "c", expected="a", outcome="mismatch", result="b"),
    ],
    "unknown write that took effect long after hope was given up": [
        op("0-1", "put", "a", outcome="unknown"),
        op("2-3", "get", None),
        op("4-5", "put", "b"),
        op("6-7", "get", "b"),
        op("8-9", "get", "a"),
    ],
    "unknown write that never took effect": [
        op("0-1", "put", "a", outcome="unknown"),
        op("2-3", "get", None),
    ],
    "unknown cas behind an unknown write": [
        op("0-1", "put", "a", outcome="unknown"),
        op("2-3", "cas", "b", expected="a", outcome="unknown"),
        op("4-5", "get", "b"),
    ],
    "unknown delete that had to happen": [
        op("0-1", "put", "a"),
        op("2-3", "delete", outcome="unknown"),
        op("4-5", "get", "a"),
        op("6-7", "get", None),
    ],
    "unknown read": [op("0-1", "get", "z", outcome="unknown")],
    "other keys do not matter": [
        op("0-1", "put", "a"),
        op("2-3", "get", None, key="other"),
    ],
}

ILLEGAL = {
    "value that nobody wrote": [op("0-1", "get", "a")],
    "stale read": [
        op("0-1", "put", "a"),
        op("2-3", "put", "b"),
        op("4-5", "get", "a"),
    ],
    "lost update": [op("0-1", "put", "a"), op("2-3", "get", None)],
    "both cas from one value succeed": [
        op("0-1", "put", "a"),
        op("2-9", "cas", "b", expected="a"),
        op("2-9", "cas", "c", expected="a"),
    ],
    "unknown write that was read and then not read": [
        op("0-1", "put", "a"),
        op("2-3", "put", "b", outcome="unknown"),
        op("4-5", "get", "b"),
        op("6-7", "get", "a"),
    ],
    "unknown write before its call": [
        op("0-1", "get", "a"),
        op("2-3", "put", "a", outcome="unknown"),
    ],
    "failed write that was read": [
        op("0-1", "put", "a", outcome="failed"),
        op("2-3", "get", "a"),
    ],
    "two readers disagree about the order of two writes": [
        op("0-9", "put", "a"),
        op("0-9", "put", "b"),
        op("10-11", "get", "a"),
        op("12-13", "get", "b"),
    ],
    "cas finds as another value what it expected": [
        op("0-1", "put", "a"),
        op("2-3", "cas", "b", expected="a", outcome="mismatch", result="a"),
    ],
    "write applied twice": [
        op("0-1", "put", "a"),
        op("2-3", "put", "b"),
        op("4-5", "get", "b"),
        op("6-7", "get", "a"),
    ],
    "unknown write that took effect twice": [
        op("0-1", "put", "a", outcome="unknown"),
        op("2-3", "get", "a"),
        op("4-5", "put", "b"),
        op("6-7", "get", "b"),
        op("8-9", "get", "a"),
    ],
    "unknown write that took effect twice, though an equal one comes later": [
        op("0-1", "put", "a", outcome="unknown"),
        op("2-3", "get", "a"),
        op("4-5", "put", "b"),
        op("6-7", "get", "b"),
        op("8-9", "get", "a"),
        op("10-11", "put", "a", outcome="unknown"),
    ],
    "unknown cas that worked although a write came between": [
        op("0-1", "put", "a"),
        op("2-3", "cas", "b", expected="a", outcome="unknown"),
        op("4-9", "get", "b"),
        op("5-8", "put", "c"),
        op("10-11", "get", "b"),
    ],
    "deleted value comes back": [
        op("0-1", "put", "a"),
        op("2-3", "delete"),
        op("4-5", "get", None),
        op("6-7", "get", "a"),
    ],
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal_history_is_accepted(name: str) -> None:
    assert check(LEGAL[name]) is None
    assert brute_force(LEGAL[name])


@pytest.mark.parametrize("name", ILLEGAL)
def test_illegal_history_is_rejected(name: str) -> None:
    assert isinstance(check(ILLEGAL[name]), Illegal)
    assert not brute_force(ILLEGAL[name])


def test_an_unknown_write_hides_another_and_brings_back_what_was_there() -> None:
    """put a, delete, cas from nothing to b: although there was nothing at first, too."""
    history = [
        Operation(0, 0, 10, "put", "k", value="a"),
        Operation(1, 1, 5, "delete", "k", outcome="unknown"),
        Operation(2, 2, 9, "cas", "k", value="b"),
        Operation(3, 20, 21, "get", "k", result="b"),
    ]
    assert check(history) is None
    assert check([*history[:1], *history[2:]]) is not None


def test_initial_values_count() -> None:
    assert check([op("0-1", "get", "a")], {"k": "a"}) is None
    assert check([op("0-1", "get", None)], {"k": "a"})


def test_smallest_prefix_and_culprit_are_named() -> None:
    stale = op("40-50", "get", "a")
    operations = [
        op("0-1", "put", "a"),
        op("2-3", "put", "b"),
        stale,
        op("45-60", "put", "c"),
        op("61-62", "get", "c"),
        op("0-1", "get", "nonsense", key="later"),
    ]
    illegal = check(operations)
    assert illegal
    assert illegal.key == "k"
    assert illegal.culprit == stale
    assert [each.operation for each in illegal.prefix] == ["put", "put", "get", "put"]
    assert illegal.prefix[-1].outcome == "unknown", "it had not returned yet"
    assert "get k -> a" in illegal.explanation
    assert "put k = b" in illegal.explanation


def test_search_without_end_is_given_up() -> None:
    operations = [op("0-99", "cas", str(each + 1), expected=str(each % 3)) for each in range(9)]
    with pytest.raises(Undecided):
        check([op("0-99", "put", str(each)) for each in range(9)] + operations, None, 50)


# Brute force: the definition, word by word.


def brute_force(operations: Sequence[Operation]) -> bool:
    """Is there a legal order for every key? Tries all of them."""
    keys = {each.key for each in operations}
    return all(
        any(_legal(order) for order in _orders([each for each in operations if each.key == key]))
        for key in keys
    )


def _orders(left: list[Operation]) -> Iterator[list[Operation]]:
    """Every order that obeys real time, with and without each unknown operation."""
    if not left:
        yield []
        return
    if all(each.outcome in {"unknown", "failed"} for each in left):
        yield []
    for index, operation in enumerate(left):
        before = (o for o in left if o is not operation and o.outcome in {"ok", "mismatch"})
        if operation.outcome != "failed" and all(o.returned >= operation.call for o in before):
            for rest in _orders(left[:index] + left[index + 1 :]):
                yield [operation, *rest]


def _legal(order: list[Operation]) -> bool:
    """Does one register, doing `order` step by step, give these results?"""
    value: str | None = None
    for each in order:
        match each.operation, each.outcome:
            case "get", "ok":
                if each.result != value:
                    return False
            case "cas", "ok":
                if each.expected != value:
                    return False
                value = each.value
            case "cas", "mismatch":
                if value == each.expected or value != each.result:
                    return False
            case "cas", "unknown":
                value = each.value if value == each.expected else value
            case (("put" | "delete"), _):
                value = each.value
    return True


VALUES = st.sampled_from(["a", "b", None])


@st.composite
def tiny_histories(draw: st.DrawFn) -> list[Operation]:
    """Up to six operations with any results: most are illegal, many only just."""
    operations = []
    for process in range(draw(st.integers(1, 6))):
        call = draw(st.integers(0, 12))
        returned = call + draw(st.integers(0, 6))
        kind: Kind = draw(st.sampled_from(["get", "get", "put", "delete", "cas", "cas"]))
        value = draw(st.sampled_from("ab")) if kind == "put" else draw(VALUES)
        outcomes: list[Outcome] = ["ok", "ok", "ok", "unknown", "failed"]
        if kind == "cas":
            outcomes.append("mismatch")
        outcome = draw(st.sampled_from(outcomes))
        operations.append(
            Operation(
                process,
                call,
                returned,
                kind,
                "k",
                value if kind in {"put", "cas"} else None,
                draw(VALUES) if kind == "cas" else None,
                outcome,
                draw(VALUES) if kind == "get" or outcome == "mismatch" else None,
            )
        )
    return operations


@settings(max_examples=1000, deadline=None)
@given(tiny_histories())
def test_agrees_with_brute_force(operations: list[Operation]) -> None:
    assert (check(operations) is None) == brute_force(operations)


# A simulated atomic register with delays, and clients that see only their calls and returns.


def simulate(seed: int, *, clients: int, operations: int, keys: int = 2) -> list[Operation]:
    """A legal history: every operation takes effect at one instant between call and return.

    Some get no answer, and take effect in time, much later, or never. Values are unique, except
    those of deletes.
    """
    dice = random.Random(seed)
    clock = [dice.randrange(20) for _ in range(clients)]
    planned: list[tuple[int, Operation]] = []
    for number in range(operations):
        client = dice.randrange(clients)
        call = clock[client] + dice.randrange(10)
        effect = call + dice.randrange(30)
        returned = effect + dice.randrange(30)
        clock[client] = returned + 1
        kind: Kind = dice.choice(["get", "get", "put", "put", "delete", "cas", "cas"])
        outcome: Outcome = "unknown" if dice.random() < 0.1 else "ok"
        if outcome == "unknown":
            effect += dice.choice([0, 500, 10**9])
        value = f"{client}.{number}" if kind in {"put", "cas"} else None
        key = f"key{dice.randrange(keys)}"
        planned.append((effect, Operation(client, call, returned, kind, key, value, None, outcome)))
    state: dict[str, str | None] = {}
    finished = []
    for _, each in sorted(planned, key=lambda pair: pair[0]):
        expected = state.get(each.key) if dice.random() < 0.7 else "never written"
        finished.append(_happen(each, state, expected))
    return finished


def _happen(each: Operation, state: dict[str, str | None], expected: str | None) -> Operation:
    now = state.get(each.key)
    answered = each.outcome == "ok"
    match each.operation:
        case "get":
            return msgspec.structs.replace(each, result=now if answered else None)
        case "put" | "delete":
            state[each.key] = each.value
        case "cas" if expected == now:
            state[each.key] = each.value
            return msgspec.structs.replace(each, expected=expected)
        case "cas":
            outcome: Outcome = "mismatch" if answered else "unknown"
            return msgspec.structs.replace(
                each, expected=expected, outcome=outcome, result=now if answered else None
            )
    return each


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20))
def test_what_a_register_did_is_accepted(seed: int, clients: int) -> None:
    operations = simulate(seed, clients=clients, operations=300)
    illegal = check(operations)
    assert illegal is None, illegal


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_swapped_values_are_judged_like_brute_force_does(seed: int, data: st.DataObject) -> None:
    operations = simulate(seed, clients=3, operations=7, keys=1)
    reads = [number for number, each in enumerate(operations) if each.operation == "get"]
    if len(reads) >= 2:
        one, other = data.draw(st.permutations(reads))[:2]
        swapped = operations[one].result, operations[other].result
        for number, result in zip((other, one), swapped, strict=True):
            operations[number] = msgspec.structs.replace(operations[number], result=result)
    assert (check(operations) is None) == brute_force(operations)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32))
def test_stale_read_in_a_long_history_is_found(seed: int) -> None:
    operations = simulate(seed, clients=10, operations=600)
    end = max(each.returned for each in operations)
    key = operations[-1].key
    operations += [
        Operation(0, end + 1, end + 2, "put", key, "new"),
        Operation(1, end + 3, end + 4, "get", key, result="new"),
    ]
    assert check(operations) is None
    stale = Operation(2, end + 5, end + 6, "get", key, result="0.never")
    illegal = check([*operations, stale])
    assert illegal
    assert illegal.culprit == stale


def test_long_history_of_many_clients() -> None:
    operations = simulate(1, clients=20, operations=10_000, keys=4)
    assert check(operations) is None


def test_history_survives_its_file(tmp_path: Path) -> None:
    operations = simulate(2, clients=3, operations=50)
    path = tmp_path / "history.jsonl"
    recorder = Recorder(path)
    for each in operations:
        recorder.add(each)
    recorder.close()
    assert list(history.read(path)) == operations == recorder.operations()
    history.write(path, operations[:3])
    assert list(history.read(path)) == operations[:3]


def test_damaged_history_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.write(path, simulate(3, clients=1, operations=2))
    path.write_bytes(path.read_bytes() + b'{"process": 1, "ca')
    with pytest.raises(history.HistoryError, match=r"history\.jsonl:3"):
        list(history.read(path))
