"""What a terminal shows after it got some bytes: as much of ECMA-48 as raftctl may use.

Anything else that begins with ESC is an error, and so is a line that is too wide.
"""

from __future__ import annotations

import re

_SEQUENCE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")


class Screen:
    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns = columns
        self.rows = rows
        self.scrolled: list[str] = []
        self._lines = [""]
        self._struck: list[bool] = [False]
        self._row = 0
        self._column = 0
        self._strike = False

    @property
    def lines(self) -> list[str]:
        """The lines on the screen, struck ones between tildes."""
        shown = zip(self._lines, self._struck, strict=True)
        return [f"~{line}~" if struck else line for line, struck in shown]

    def feed(self, text: str) -> None:
        position = 0
        while position < len(text):
            char = text[position]
            if char == "\x1b":
                found = _SEQUENCE.match(text, position)
                assert found is not None, f"no sequence this terminal knows: {text[position:]!r}"
                self._control(found[1], found[2])
                position = found.end()
                continue
            position += 1
            if char == "\n":
                self._line_feed()
            elif char == "\r":
                self._column = 0
            else:
                self._put(char)

    def _put(self, char: str) -> None:
        assert char.isprintable(), f"{char!r} reached the terminal"
        assert self._column < self.columns, f"too wide: {self._lines[self._row]!r}"
        line = self._lines[self._row].ljust(self._column)
        self._lines[self._row] = line[: self._column] + char + line[self._column + 1 :]
        self._struck[self._row] = self._strike
        self._column += 1

    def _line_feed(self) -> None:
        self._row += 1
        self._column = 0
        if self._row == len(self._lines):
            self._lines.append("")
            self._struck.append(False)
        if len(self._lines) > self.rows:
            self.scrolled.append(self.lines[0])
            del self._lines[0], self._struck[0]
            self._row -= 1

    def _control(self, parameter: str, final: str) -> None:
        match final:
            case "A":
                self._row -= int(parameter)
                assert self._row >= 0, "the cursor would stop at the top"
            case "B":
                self._row += int(parameter)
                assert self._row < len(self._lines), "the cursor would stop at the bottom"
            case "K":
                self._lines[self._row] = self._lines[self._row][: self._column]
            case "m":
                self._strike = "9" in parameter.split(";")
            case _:
                raise AssertionError(f"CSI {parameter}{final} is none that raftctl may use")
