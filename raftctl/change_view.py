"""What a change of the members means, for people: quorums before and after, and what to beware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftctl import table
from raftctl.table import Cell, Column, Paint

if TYPE_CHECKING:
    from raftctl.answers import Change, Quorum

_COLUMNS = (
    Column(""),
    Column("VOTERS"),
    Column("LEARNERS"),
    Column("QUORUM"),
    Column("ANSWER", right=True),
    Column("MAY FAIL", right=True),
)


def lines(change: Change, width: int, paint: Paint) -> list[str]:
    rows = [_row("before", change["before"]), _row("after", change["after"])]
    warnings = [f"warning: {warning}" for warning in change["warnings"]]
    return [*table.render(_COLUMNS, rows, width, paint), *warnings]


def _row(title: str, side: Quorum) -> list[Cell]:
    voters, answering = side["voters"], len(side["answering"])
    short = answering < side["quorum"]
    return [
        Cell(title),
        Cell(", ".join(voters)),
        Cell(", ".join(side["learners"]) or "-"),
        Cell(f"{side['quorum']} of {len(voters)}"),
        Cell(str(answering), "bad" if short else ""),
        Cell("no quorum" if short else str(side["may_fail"]), "bad" if short else ""),
    ]
