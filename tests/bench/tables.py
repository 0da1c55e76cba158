"""A table of numbers that grows row by row while it is shown."""

from __future__ import annotations

import msgspec

MIN_WIDTH = 9


class Table(msgspec.Struct):
    """Columns are as wide as their heads."""

    title: str
    columns: list[str]
    rows: list[list[float]] = []
    failure: str = ""
    """what is wrong with these numbers, if something is"""

    def add(self, *values: float) -> None:
        assert len(values) == len(self.columns), "a value for each column"
        self.rows.append(list(values))

    def lines(self) -> list[str]:
        widths = [max(MIN_WIDTH, len(name)) for name in self.columns]
        heads = "  ".join(f"{n:>{w}}" for n, w in zip(self.columns, widths, strict=True))
        return [
            self.title,
            heads,
            *(
                "  ".join(f"{number(v):>{w}}" for v, w in zip(row, widths, strict=True))
                for row in self.rows
            ),
        ]


def number(value: float) -> str:
    """Three digits at least: 12,345  123  12.3  0.123."""
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
