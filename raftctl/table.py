"""Plain tables: columns as wide as their content, or, where that is too wide, one field a line.

No table library: a call of raftctl is over in the time it takes to import one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from raftctl.text import clean, columns

_GAP = "  "
Paint = Callable[[str, str], str]


class Column(NamedTuple):
    title: str
    right: bool = False


class Cell(NamedTuple):
    """One value. `look` is one of those of `Printer.paint`; what it says is in the text, too."""

    text: str
    look: str = ""


Row = Sequence[Cell]


def render(heads: Sequence[Column], rows: Sequence[Row], width: int, paint: Paint) -> list[str]:
    """The lines of a table; records, each field in a line of its own, if it exceeds `width`."""
    rows = [[Cell(clean(cell.text), cell.look) for cell in row] for row in rows]
    if not fits(heads, rows, width):
        return _records(heads, rows, paint)
    widths = _widths(heads, rows)
    titles = [Cell(head.title, "strong") for head in heads]
    return [_line(heads, row, widths, paint) for row in (titles, *rows)]


def fits(heads: Sequence[Column], rows: Sequence[Row], width: int) -> bool:
    return sum(_widths(heads, rows)) + len(_GAP) * (len(heads) - 1) <= width


def fields(pairs: Sequence[tuple[str, Cell]], width: int, paint: Paint) -> list[str]:
    """One field a line, "Title  text", the text wrapped within `width`."""
    indent = max(columns(title) for title, _ in pairs) + len(_GAP)
    lines = []
    for title, cell in pairs:
        first, *others = wrap(clean(cell.text), max(20, width - indent))
        lines.append(paint(title, "strong") + " " * (indent - columns(title)))
        lines[-1] = (lines[-1] + paint(first, cell.look)).rstrip()
        lines += [" " * indent + paint(other, cell.look) for other in others]
    return lines


def wrap(text: str, width: int) -> list[str]:
    """Clean text in lines of at most `width` columns; a word that is too long is broken."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if columns(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        lines[-1] = word
        while columns(lines[-1]) > width:
            end = width
            while columns(lines[-1][:end]) > width:
                end -= 1
            lines[-1:] = [lines[-1][:end], lines[-1][end:]]
    return lines


def _widths(heads: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    return [
        max([columns(head.title), *(columns(row[number].text) for row in rows)])
        for number, head in enumerate(heads)
    ]


def _line(heads: Sequence[Column], row: Row, widths: Sequence[int], paint: Paint) -> str:
    parts = []
    for head, cell, width in zip(heads, row, widths, strict=True):
        space = " " * (width - columns(cell.text))
        text = paint(cell.text, cell.look)
        parts.append(space + text if head.right else text + space)
    return _GAP.join(parts).rstrip()


def _records(heads: Sequence[Column], rows: Sequence[Row], paint: Paint) -> list[str]:
    indent = max(columns(head.title) for head in heads) + len(_GAP)
    lines: list[str] = []
    for row in rows:
        if lines:
            lines.append("")
        for head, cell in zip(heads, row, strict=True):
            space = " " * (indent - columns(head.title))
            lines.append(f"{paint(head.title, 'strong')}{space}{paint(cell.text, cell.look)}")
    return lines
