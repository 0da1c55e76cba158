"""What counts as growing, and how tables look."""

from __future__ import annotations

import pytest

from tests.bench.soak import judge
from tests.bench.tables import Table, number

COLUMNS = ["seconds", "op/s", "MiB", "peak MiB", "open files", "threads", "disk MiB"]
FLAT = [0.0, 100.0, 50.0, 60.0, 30.0, 4.0, 80.0]


def table(**last: float) -> Table:
    """Twelve rows; the columns named in `last` go from FLAT's value to that one, step by step."""
    found = Table("Uptime", COLUMNS)
    for step in range(12):
        row = list(FLAT)
        for name, value in last.items():
            place = COLUMNS.index(name.replace("_", " "))
            row[place] += (value - row[place]) * step / 11
        found.add(*row)
    return found


@pytest.mark.parametrize(
    ("column", "value"), [("MiB", 80.0), ("disk_MiB", 800.0), ("open_files", 60.0), ("threads", 20)]
)
def test_what_grows_is_named(column: str, value: float) -> None:
    assert column.replace("_", " ") in judge(table(**{column: value}))


def test_what_is_flat_is_right() -> None:
    assert judge(table()) == ""
    assert judge(table(MiB=30, open_files=32)) == "", "a little more open, and less memory"


def test_what_grows_at_the_beginning_only_is_right() -> None:
    found = table()
    for row, size in zip(found.rows, (10, 20, 30, 40), strict=False):
        row[2] = size
    assert judge(found) == ""


def test_a_table() -> None:
    found = Table("Keys", ["keys", "puts in a second"])
    found.add(10_000, 12.345)
    assert found.lines() == ["Keys", "     keys  puts in a second", "   10,000              12.3"]
    with pytest.raises(AssertionError, match="a value for each column"):
        found.add(1)


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (99.94, "99.9"), (1.234, "1.23"), (7, "7"), (0, "0")]
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text
