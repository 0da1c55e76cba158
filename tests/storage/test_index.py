"""The index of live entries against a plain list of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftd.storage.index import OFFSET_BITS, Index
from tests.storage.node import entry

Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(st.sampled_from(["append", "truncate", "drop", "restart"]), st.integers(0, 12))
)


@given(steps, st.integers(1, 50))
def test_it_says_what_a_list_says(changes: list[tuple[str, int]], first: int) -> None:
    index = Index(first)
    model: list[tuple[int, int, int]] = []  # index, term, word
    next_index, place, term = first, 1, 1
    for change, number in changes:
        match change:
            case "append":
                places = range(place, place + number)
                new = [
                    (next_index + at, term + at // 5, _word(each)) for at, each in enumerate(places)
                ]
                if new:
                    entries = [entry(index, term, b"") for index, term, _ in new]
                    index.extend(entries, [word for _, _, word in new])
                    term = new[-1][1]
                model += new
                next_index, place = next_index + number, place + number
            case "truncate":
                next_index = max(1, next_index - number)
                index.truncate_from(next_index)
                model = [each for each in model if each[0] < next_index]
                term += 1
            case "drop":
                index.drop_until(index.first_index + number - 1)
                model = model[number:]
            case _:
                next_index += number
                index.restart(next_index)
                model = []
        check(index, model, next_index)


def _word(place: int) -> int:
    return (place // 10 << OFFSET_BITS) + place


def check(index: Index, model: list[tuple[int, int, int]], next_index: int) -> None:
    assert index.next_index == next_index == index.last_index + 1
    assert index.first_index == (model[0][0] if model else next_index)
    assert list(index.words) == [word for _, _, word in model]
    assert index.last_term == (model[-1][1] if model else 0)
    for number, term, _ in model:
        assert index.term(number) == term
    assert index.term(next_index) is None
    assert index.term(index.first_index - 1) is None
    for start in range(index.first_index - 1, next_index + 1):
        runs: list[tuple[int, int]] = []
        for number, term, _ in model:
            if number >= start and (not runs or runs[-1][1] != term):
                runs.append((number, term))
        assert index.runs_from(start) == runs
    for sequence in range(12):
        live = [number for number, _, word in model if word >> OFFSET_BITS == sequence]
        first, last = index.live(sequence)
        assert list(range(first, last + 1)) == live
