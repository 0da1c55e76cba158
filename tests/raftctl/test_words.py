"""Text, numbers and tables."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import NotRequired, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftctl import answers, table, text, units
from raftctl.table import Cell, Column
from raftd.admin.protocol import KV, NODE, interface_text


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain text", "plain text"),
        ("Grüße, 世界".encode(), "Grüße, 世界"),
        (b"\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        (b"a\\x00", "a\\\\x00"),
        (b"a\x00", "a\\x00"),
        (b"\xff\xc3", "\\xff\\xc3"),
        ("\u202e\u200b\x9b\U000e0001".encode(), "\\u202e\\u200b\\x9b\\U000e0001"),
        (b"\n\t", "\\x0a\\x09"),
    ],
)
def test_bytes_for_people(data: bytes, shown: str) -> None:
    assert text.readable(data) == shown


@given(st.binary(), st.binary())
def test_different_bytes_read_differently_and_nothing_is_raw(one: bytes, other: bytes) -> None:
    assert (text.readable(one) == text.readable(other)) == (one == other)
    assert text.readable(one).isprintable()


@given(st.text(), st.integers(0, 30))
def test_cut_text_fits(words: str, width: int) -> None:
    shown = text.cut(text.clean(words), width, "…")
    assert text.columns(shown) <= width
    assert shown == text.clean(words) or shown.endswith("…") or width == 0


def test_wide_and_combining_characters() -> None:
    assert text.columns("世界") == 4
    assert text.columns("e\u0301") == 1
    assert text.cut("世界世界", 6, "…") == "世界…"


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (-5, "0.0 s"),
        (87, "0.1 s"),
        (9_999, "10.0 s"),
        (12_900, "12 s"),
        (60_000, "1 min"),
        (185_000, "3 min 5 s"),
        (11_520_000, "3 h 12 min"),
        (86_400_000, "1 d"),
        (356_400_000, "4 d 3 h"),
    ],
)
def test_durations(milliseconds: int, shown: str) -> None:
    assert units.duration(milliseconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_048_575, "1.0 MiB"),
        (64 << 20, "64.0 MiB"),
        (2**63, "8.0 EiB"),
        (2**80, "1048576.0 EiB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert units.size(count) == shown


def test_moments_are_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    moment = 1_763_900_000_007
    assert units.moment(moment) == "2025-11-23T13:13:20"
    assert units.moment(moment, precise=True, zone=True) == "2025-11-23T13:13:20.007+01:00"


def test_a_moment_out_of_all_calendars() -> None:
    assert units.moment(2**63 - 1) == f"{2**63 - 1} ms"


@pytest.mark.parametrize(
    ("uid", "node", "shown"),
    [
        (0, "node1", "root@node1"),
        (424242, "node1", "424242@node1"),
        (2**40, "node1", f"{2**40}@node1"),
        (0, None, "root"),
        (None, "node1", "@node1"),
        (None, None, "-"),
    ],
)
def test_who(uid: int | None, node: str | None, shown: str) -> None:
    assert units.who(uid, node) == shown


def test_wrapping_breaks_lines_between_words_and_long_words_anywhere() -> None:
    assert table.wrap("one two three", 8) == ["one two", "three"]
    assert table.wrap("x" * 20 + " y", 8) == ["xxxxxxxx", "xxxxxxxx", "xxxx y"]
    assert table.wrap("", 8) == [""]


@given(st.lists(st.text(max_size=30), min_size=3, max_size=3), st.integers(20, 90))
def test_a_table_is_never_too_wide_unless_one_value_is(values: list[str], width: int) -> None:
    heads = [Column("A"), Column("B", right=True), Column("C")]
    lines = table.render(heads, [[Cell(value) for value in values]], width, lambda t, _: t)
    longest = max(text.columns(text.clean(value)) for value in values)
    assert max(text.columns(line) for line in lines) <= max(width, longest + 3)


def test_colours_do_not_move_columns() -> None:
    def paint(words: str, look: str) -> str:
        return f"<{look}>{words}</>" if look else words

    rows = [[Cell("long name", "good"), Cell("1")], [Cell("x"), Cell("22", "bad")]]
    lines = table.render([Column("N"), Column("M", right=True)], rows, 80, paint)
    plain = [re.sub(r"<.*?>", "", line) for line in lines]
    assert plain == ["N           M", "long name   1", "x          22"]


@pytest.mark.parametrize(
    "shape", [answers.Member, answers.Status, answers.Entry, answers.Segment, answers.LogInfo]
)
def test_the_shapes_of_answers_are_those_of_the_interface(shape: type) -> None:
    _compare(shape, interface_text(NODE))


def test_an_item_is_that_of_the_interface() -> None:
    _compare(answers.Item, interface_text(KV))


def _compare(shape: type, interface: str) -> None:
    found = re.search(rf"^type {shape.__name__} \((.*?)^\)", interface, re.MULTILINE | re.DOTALL)
    assert found is not None
    fields = dict(re.findall(r"(\w+): ([^,\n]+)", found[1]))
    assert list(fields) == list(get_type_hints(shape))
    optional = {name for name, kind in fields.items() if kind.startswith("?")}
    hints = get_type_hints(shape, include_extras=True)
    assert optional == {name for name, hint in hints.items() if get_origin(hint) is NotRequired}


def test_raftctl_draws_with_nothing_but_itself() -> None:
    """What may be imported at all; test_process has what is imported when."""
    allowed = {"raftctl", "raftd", "click", "platformdirs"}
    sources = Path(text.__file__).parent.rglob("*.py")
    for source in sources:
        for module in re.findall(
            r"^\s*(?:from|import) (\w+)[\w.]* ", source.read_text(), re.MULTILINE
        ):
            assert module in allowed | set(sys.stdlib_module_names) | {"__future__"}, source
        for imported in re.findall(
            r"^\s*from (raftd[\w.]*) import (.*)", source.read_text(), re.MULTILINE
        ):
            assert imported[0] == "raftd.admin.protocol" or imported in {
                ("raftd", "__version__"),
                ("raftd.admin", "protocol"),
                ("raftd", "backup"),
                ("raftd.backup", "Backup"),
                ("raftd.backup", "NoBackup"),
                ("raftd.backup", "Backup, NoBackup"),
            }, source
