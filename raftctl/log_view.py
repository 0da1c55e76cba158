"""Log entries for people: one line each, or one at length; and the files of the log.

On a terminal of less than 100 columns the state is a mark with a legend, and the date has a line of
its own, so that there is room for what the entry does. Elsewhere each line has all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from raftctl import table, units
from raftctl.printer import Printer
from raftctl.status_view import span
from raftctl.table import Cell, Column, Paint
from raftctl.text import clean, columns, cut

if TYPE_CHECKING:
    from raftctl.answers import Entry, LogInfo, Segment

_STATES = ("uncommitted", "committed", "applied", "truncated")
_LOOKS = {"committed": "strong", "applied": "good", "truncated": "struck"}
_KINDS = {"configuration": "config"}
_MARKS_BELOW = 100
_PRECISE_FROM = 120
_TITLES = ("INDEX", "TERM", "TIME", "STATE", "KIND", "WHO", "WHAT")
_LONGEST_WHO = 20


class EntryLines:
    """Makes lines of entries. Columns grow with what they hold, and never shrink again."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._widths = [5, 4, 8, 11, 7, 10]
        self._date = ""

    def prepare(self, entries: Sequence[Entry]) -> None:
        """Make the columns wide enough."""
        for entry in entries:
            for number, text in enumerate(self._texts(entry)[:-1]):
                longest = _LONGEST_WHO if number == 5 else 40
                self._widths[number] = max(self._widths[number], min(columns(text), longest))

    def head(self) -> list[str]:
        """The titles, behind a legend if the state is a mark."""
        printer = self._printer
        texts = list(_TITLES)
        lines = []
        if self._marks:
            legend = "  ".join(f"{self._mark(state)} {state}" for state in _STATES)
            lines.append(printer.paint(legend, "faint"))
            texts[3] = " "
        return [*lines, printer.paint(self._join(texts).rstrip(), "strong")]

    def date(self, entry: Entry) -> list[str]:
        """The line that says the date, if the entry's own line does not, and it is another one."""
        date, has_date, _ = units.moment(entry["time_ms"]).partition("T")
        if not self._marks or not has_date or date == self._date:
            return []
        self._date = date
        return [self._printer.paint(date, "faint")]

    def line(self, entry: Entry) -> str:
        """One entry. On a terminal the line ends before the last column."""
        printer = self._printer
        text = self._join(self._texts(entry))
        if printer.terminal:
            text = cut(text, printer.columns - 1, printer.symbols.ellipsis)
        state = entry["state"]
        if state == "truncated":
            return printer.paint(text, "struck")
        start = 0 if self._marks else sum(self._widths[:3]) + 3
        end = start + (1 if self._marks else len(clean(state)))
        return text[:start] + printer.paint(text[start:end], _LOOKS.get(state, "")) + text[end:]

    @property
    def _marks(self) -> bool:
        return self._printer.terminal and self._printer.columns < _MARKS_BELOW

    def _mark(self, state: str) -> str:
        return str(getattr(self._printer.symbols, state)) if state in _STATES else "-"

    def _texts(self, entry: Entry) -> list[str]:
        precise = self._printer.terminal and self._printer.columns >= _PRECISE_FROM
        kind = clean(entry["kind"])
        time = units.moment(entry["time_ms"], precise=precise)
        return [
            str(entry["index"]),
            str(entry["term"]),
            time.partition("T")[2] or time if self._marks else time,
            self._mark(entry["state"]) if self._marks else clean(entry["state"]),
            _KINDS.get(kind, kind),
            clean(units.who(entry.get("uid"), entry.get("node"))),
            clean(entry["what"]),
        ]

    def _join(self, texts: Sequence[str]) -> str:
        index, term, time, state, kind, who, what = texts
        widths = self._widths
        who = cut(who, widths[5], self._printer.symbols.ellipsis)
        parts = [
            index.rjust(widths[0]),
            term.rjust(widths[1]),
            time.ljust(widths[2]),
            state.ljust(widths[3]),
            kind.ljust(widths[4]),
            who + " " * (widths[5] - columns(who)),
            what,
        ]
        if self._marks:
            parts.insert(0, parts.pop(3).rstrip() or " ")
        return " ".join(parts).rstrip()


def entry_at_length(entry: Entry, payload: bytes, width: int, paint: Paint) -> list[str]:
    """All fields, without the payload's bytes."""
    uid = entry.get("uid")
    who = units.who(uid, entry.get("node"))
    fields = [
        ("Index", Cell(str(entry["index"]))),
        ("Term", Cell(str(entry["term"]))),
        ("Time", Cell(units.moment(entry["time_ms"], precise=True, zone=True))),
        ("State", Cell(entry["state"], _LOOKS.get(entry["state"], ""))),
        ("Kind", Cell(entry["kind"])),
        ("Who", Cell(who if uid is None else f"{who} (uid {uid})")),
        ("What", Cell(entry["what"])),
        ("Size", Cell(f"{entry['size']} bytes as a record, {len(payload)} of them payload")),
    ]
    return table.fields(fields, width, paint)


def dump(data: bytes) -> Iterator[str]:
    """Bytes as text if they are nothing else; else as hexdump -C has them, in 78 columns."""
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        lines = ["\0"]
    if all(line.isprintable() for line in lines):
        yield from ("  " + line for line in lines)
        return
    for offset in range(0, len(data), 16):
        row = data[offset : offset + 16]
        left, right = row[:8].hex(" "), row[8:].hex(" ")
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        yield f"{offset:08x}  {left:23}  {right:23}  |{shown}|"


def held(info: LogInfo) -> str:
    """ "has 1 to 7", or "is empty"."""
    first, last = info["first_index"], info["last_index"]
    return f"has {first} to {last}" if first <= last else "is empty"


def information(info: LogInfo, width: int, paint: Paint) -> list[str]:
    entries = span(info["first_index"], info["last_index"])
    snapshot = f"up to {info['snapshot_index']} (term {info['snapshot_term']})"
    used, size = units.size(info["used_bytes"]), units.size(info["size_bytes"])
    files = len(info["segments"])
    fields = [
        ("Entries", Cell(f"{entries}, the last of term {info['last_term']}")),
        ("Committed", Cell(str(info["commit_index"]))),
        ("Applied", Cell(str(info["applied_index"]))),
        ("Snapshot", Cell(snapshot if info["snapshot_index"] else "none yet")),
        ("Size", Cell(f"{used} used of {size}, {files} segment{'' if files == 1 else 's'}")),
    ]
    heads = (
        Column("SEGMENT"),
        Column("ENTRIES", right=True),
        Column("TERMS", right=True),
        Column("USED", right=True),
        Column("SIZE", right=True),
    )
    rows = [_segment(segment) for segment in info["segments"]]
    lines = table.fields(fields, width, paint)
    return [*lines, "", *table.render(heads, rows, width, paint)] if rows else lines


def _segment(segment: Segment) -> list[Cell]:
    return [
        Cell(segment["file"]),
        Cell(_range(segment.get("first_index"), segment.get("last_index"))),
        Cell(_range(segment.get("first_term"), segment.get("last_term"))),
        Cell(units.size(segment["used_bytes"])),
        Cell(units.size(segment["size_bytes"])),
    ]


def _range(first: int | None, last: int | None) -> str:
    if first is None or last is None:
        return "-"
    return str(first) if first == last else span(first, last)
