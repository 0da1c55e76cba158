"""The story of a run: the algorithm's own notes, and what happened to the nodes, with times."""

from __future__ import annotations

import hashlib


class Trace:
    """`lines` grows; `limit` keeps only the newest of a long run. `echo` prints as it grows."""

    __slots__ = ("echo", "lines")

    def __init__(self, *, echo: bool = False) -> None:
        self.lines: list[tuple[float, str]] = []
        self.echo = echo

    def say(self, time: float, text: str) -> None:
        self.lines.append((time, text))
        if self.echo:
            print(_line(time, text))

    def text(self, last: int | None = None) -> str:
        """The newest `last` lines, or all."""
        lines = self.lines if last is None else self.lines[-last:]
        return "\n".join(_line(*line) for line in lines)

    def digest(self) -> str:
        """The same for the same run, and only then."""
        return hashlib.sha256(repr(self.lines).encode()).hexdigest()


def _line(time: float, text: str) -> str:
    return f"{time:11.6f}  {text}"
