"""`log tail -f` on a terminal: each entry keeps its line, whose state changes as it happens.

Only lines that are still on the screen can be redrawn. An entry that has scrolled away gets a new
line when its state is final (applied or truncated). When the terminal's size changes, nothing
that stands above is where it was, so everything counts as scrolled away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raftctl.log_view import EntryLines
from raftctl.printer import Printer

if TYPE_CHECKING:
    from raftctl.answers import Entry

_FINAL = {"applied", "truncated"}
Key = tuple[int, int]


class LiveLog:
    """Shows batches of entries as `ReadLog` sends them."""

    def __init__(self, printer: Printer, lines: EntryLines) -> None:
        self._printer = printer
        self._lines = lines
        self._size = printer.size()
        self._visible: deque[tuple[Key | None, str]] = deque(maxlen=self._rows())
        self._newest: Key = (0, 0)

    def show(self, entries: Sequence[Entry]) -> None:
        if self._size != self._printer.size():
            self._size = self._printer.size()
            self._visible = deque(maxlen=self._rows())
        self._lines.prepare(entries)
        self._printer.text("".join(self._drawn(entry) for entry in entries))

    def _rows(self) -> int:
        """Lines above the cursor that it can go back to."""
        return max(0, self._size[1] - 1)

    def _drawn(self, entry: Entry) -> str:
        key = (entry["term"], entry["index"])
        line = self._lines.line(entry)
        for position, (other, shown) in enumerate(self._visible):
            if other == key:
                self._visible[position] = (key, line)
                return "" if shown == line else _redrawn(line, len(self._visible) - position)
        # Terms and indexes grow together along a log, so what is larger than all is new.
        if key <= self._newest and entry["state"] not in _FINAL:
            return ""
        self._newest = max(self._newest, key)
        dates = self._lines.date(entry)
        self._visible.extend((None, date) for date in dates)
        self._visible.append((key, line))
        return "".join(f"{each}\n" for each in (*dates, line))


def _redrawn(line: str, rows_up: int) -> str:
    """Go up, write over the line, go back (ECMA-48: CUU, EL, CUD)."""
    return f"\x1b[{rows_up}A\r{line}\x1b[K\x1b[{rows_up}B\r"
