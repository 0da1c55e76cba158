"""`raftctl status` for people: four answers, then the members, in as many columns as there are.

At 80 columns the members come as two tables (how they follow, what they store), on a wider terminal
as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftctl import table, units
from raftctl.table import Cell, Column, Paint, Row

if TYPE_CHECKING:
    from raftctl.answers import Member, Status

_FOLLOWING = (
    Column("MEMBER"),
    Column("ROLE"),
    Column("CONTACT"),
    Column("TERM", right=True),
    Column("MATCH", right=True),
    Column("BEHIND", right=True),
)
_STORING = (
    Column("LOG", right=True),
    Column("APPLIED", right=True),
    Column("SNAPSHOT", right=True),
    Column("DISK", right=True),
    Column("UP", right=True),
    Column("VERSION"),
)


def lines(status: Status, width: int, paint: Paint, now_ms: int) -> list[str]:
    return [
        *_head(status, width, paint, now_ms),
        "",
        *_members(status, width, paint),
        *_problems(status, width, paint),
    ]


def leader(status: Status, now_ms: int) -> str:
    """Who leads, in which term, since when."""
    name = status.get("leader")
    if name is None:
        return f"none known to {status['node']}, in term {status['term']}"
    text = f"{name} in term {status['term']}"
    since = status.get("leader_since_ms")
    if since is not None:
        text += f", since {units.moment(since)} ({units.duration(now_ms - since)} ago)"
    return text


def contact(member: Member, asked: str) -> Cell:
    """Does it answer, or when did it last?"""
    if member["name"] == asked:
        return Cell("this node")
    age = member.get("last_contact_ms")
    if member["reachable"]:
        return Cell("yes" if age is None else f"{units.duration(age)} ago")
    return Cell("NO, never" if age is None else f"NO, {units.duration(age)} ago", "bad")


def role(member: Member) -> Cell:
    name = member["role"]
    membership = member.get("membership") or ("voter" if member["voter"] else "learner")
    marks = [] if membership in {"voter", name} else [membership]
    if member.get("drained"):
        marks.append("drained")
    look = {"leader": "strong", "unknown": "bad"}.get(name, "")
    return Cell(f"{name} ({', '.join(marks)})" if marks else name, look)


def _head(status: Status, width: int, paint: Paint, now_ms: int) -> list[str]:
    quorum = f"a quorum is {status['quorum']} of {status['voters']} voters"
    if status["writable"]:
        writable = Cell("yes", "good")
    else:
        writable = Cell(f"NO: {status.get('reason') or 'the node does not say why'}", "bad")
    if status.get("joint"):
        quorum += "; the voters are just being changed"
    tolerated = status["failures_tolerated"]
    may_fail = f"{tolerated} more ({quorum})" if tolerated else f"none ({quorum})"
    stay = status["must_not_stop"]
    if stay:
        must_not_stop = Cell(", ".join(stay), "strong")
    elif tolerated:
        must_not_stop = Cell("none: any one node may be stopped")
    else:
        must_not_stop = Cell("-")
    answers = [
        ("Can write", writable),
        ("Leader", Cell(leader(status, now_ms), "" if status.get("leader") else "bad")),
        ("May fail", Cell(may_fail)),
        ("Must not stop", must_not_stop),
        ("Seen by", Cell(f"{status['node']} ({status['role']})")),
        ("Cluster", Cell(status["cluster_id"])),
    ]
    return table.fields(answers, width, paint)


def _members(status: Status, width: int, paint: Paint) -> list[str]:
    members = status["members"]
    following = [_following(member, status) for member in members]
    storing = [_storing(member) for member in members]
    joined = [[*left, *right] for left, right in zip(following, storing, strict=True)]
    if table.fits((*_FOLLOWING, *_STORING), joined, width):
        return table.render((*_FOLLOWING, *_STORING), joined, width, paint)
    named = [[row[0], *others] for row, others in zip(following, storing, strict=True)]
    return [
        *table.render(_FOLLOWING, following, width, paint),
        "",
        *table.render((_FOLLOWING[0], *_STORING), named, width, paint),
    ]


def _following(member: Member, status: Status) -> Row:
    term = member.get("term")
    match, behind = member.get("match_index"), member.get("behind")
    if not match and not member["reachable"]:
        match = behind = None  # a new leader begins at 0: it does not know
    return [
        Cell(member["name"]),
        role(member),
        contact(member, status["node"]),
        Cell(_number(term), "bad" if term not in {None, status["term"]} else ""),
        Cell(_number(match)),
        Cell(_number(behind), "strong" if behind else ""),
    ]


def _storing(member: Member) -> Row:
    first, last = member.get("first_index"), member.get("last_index")
    log = "-" if first is None or last is None else span(first, last)
    disk, uptime = member.get("disk_used_bytes"), member.get("uptime_ms")
    return [
        Cell(log),
        Cell(_number(member.get("applied_index"))),
        Cell(_number(member.get("snapshot_index") or None)),
        Cell("-" if disk is None else units.size(disk)),
        Cell("-" if uptime is None else units.duration(uptime)),
        Cell(member.get("version") or "-"),
    ]


def span(first: int, last: int) -> str:
    """A range of indexes of the log; "empty" if its end lies before its start."""
    return f"{first}-{last}" if first <= last else "empty"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _problems(status: Status, width: int, paint: Paint) -> list[str]:
    problems = [
        (member["name"], Cell(problem, "bad"))
        for member in status["members"]
        if (problem := member.get("problem"))
    ]
    if not problems:
        return []
    return ["", paint("Problems", "strong"), *table.fields(problems, width, paint)]
