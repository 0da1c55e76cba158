"""`raftctl kv`: the replicated key-value store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from raftctl import encoding, table
from raftctl.completion import complete_keys
from raftctl.failure import Failure
from raftctl.options import Group, exactly_one, pass_session
from raftctl.session import Session
from raftctl.table import Cell, Column
from raftctl.text import columns, cut, readable
from raftd.admin.protocol import KV

if TYPE_CHECKING:
    from raftctl.answers import Item

_PAGE = 1000
_EXAMPLES = """
raftctl kv put app/mode blue
raftctl kv get app/mode
raftctl kv range app/
raftctl kv cas app/mode --expect blue green
raftctl kv put app/logo --file logo.png
"""
_NOTES = """Keys and values are bytes: what the shell passes, UTF-8 or not. Write -- before
a word that starts with a dash. With --base64 keys and values, in and out, are
base64. JSON has "key" and "value" as text where the bytes are UTF-8; where they
are not, or with --base64, it has "key_base64" and "value_base64" instead. A
revision is the index of the log entry that made the change, for log show."""

_key = click.argument("key", shell_complete=complete_keys)
_value = click.argument("value", required=False)
_file = click.option("--file", type=click.Path(), help="Read the value from this file.")
_base64 = click.option("--base64", is_flag=True, help="Keys and values are base64, in and out.")
_stale = click.option(
    "--stale", is_flag=True, help="What this node has, perhaps old; needs no quorum."
)


@click.group(cls=Group, examples=_EXAMPLES, notes=_NOTES)
def kv() -> None:
    """Read and write the replicated key-value store."""


@kv.command(
    examples="""
    raftctl kv put app/mode blue
    raftctl kv put app/offset -- -5
    date | raftctl kv put app/started -
    """
)
@_key
@_value
@_file
@_base64
@pass_session
def put(session: Session, key: str, value: str | None, file: str | None, base64: bool) -> None:
    """Set KEY to VALUE.

    VALUE - reads standard input to its end; so does --file -. Bytes are kept as they are.
    """
    exactly_one(VALUE=value, file=file)
    parameters = _parameters(session, key, base64) | _new_value(value, file, base64)
    answer = session.call(f"{KV}.Put", parameters, changes=True)
    _changed(session, answer, "replaced" if answer["existed"] else "new")


@kv.command(
    examples="""
    raftctl kv get app/mode
    raftctl kv get app/logo > logo.png
    raftctl kv get app/mode -o json | jq .revision
    """
)
@_key
@_stale
@click.option("--raw", is_flag=True, help="Add no newline on a terminal.")
@_base64
@pass_session
def get(session: Session, key: str, stale: bool, raw: bool, base64: bool) -> None:
    """Print the value of KEY, byte for byte.

    On a terminal a newline is added. The value is the newest one that any node had
    acknowledged when you asked, except with --stale. Ends with 5 if there is no such key.
    """
    parameters = _parameters(session, key, base64) | {"stale": stale}
    item = session.call(f"{KV}.Get", parameters)["item"]
    printer = session.printer
    if session.json:
        printer.json(encoding.item_json(item, base64=base64))
    elif base64:
        printer.lines([encoding.wire(encoding.from_wire(item["value"]))])
    else:
        newline = b"\n" if printer.terminal and not raw else b""
        printer.raw(encoding.from_wire(item["value"]) + newline)


@kv.command(examples="raftctl kv delete app/mode")
@_key
@_base64
@pass_session
def delete(session: Session, key: str, base64: bool) -> None:
    """Remove KEY.

    It is no failure if it does not exist.
    """
    answer = session.call(f"{KV}.Delete", _parameters(session, key, base64), changes=True)
    _changed(session, answer, "deleted" if answer["existed"] else "did not exist")


@kv.command(
    "range",
    examples="""
    raftctl kv range app/
    raftctl kv range --keys-only --limit 100
    raftctl kv range app/ -o json | jq -r .key
    """,
)
@click.argument("prefix", required=False, default="", shell_complete=complete_keys)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N keys.")
@click.option("--keys-only", is_flag=True, help="Show no values.")
@_stale
@_base64
@pass_session
def range_(
    session: Session, prefix: str, limit: int | None, keys_only: bool, stale: bool, base64: bool
) -> None:
    """List keys that start with PREFIX, or all keys.

    They come in the order of their bytes. Unprintable bytes are shown as \\xNN and a backslash
    as \\\\; on a terminal long values are cut. -o json prints one object a line, whole.

    More than 1000 keys are read in several steps, between which the store may change.
    """
    start = encoding.argument(prefix, "PREFIX", base64=base64)
    first = True
    for page in _pages(session, start, limit, stale):
        if session.json:
            for item in page:
                session.printer.json(encoding.item_json(item, base64=base64, keys_only=keys_only))
        else:
            rows = [row(item, keys_only, base64) for item in page]
            session.printer.lines(listed(session, rows, keys_only, first))
        first = False


@kv.command(
    examples="""
    raftctl kv cas lock/backup --absent "$(hostname)"
    raftctl kv cas lock/backup --expect "$(hostname)" --delete
    raftctl kv cas app/mode --expect-revision 42 green
    """
)
@_key
@_value
@click.option("--expect", metavar="VALUE", help="Only if the key has this value.")
@click.option(
    "--expect-revision",
    type=click.IntRange(min=0),
    metavar="N",
    help="Only if its last change was revision N.",
)
@click.option("--absent", is_flag=True, help="Only if there is no such key.")
@click.option("--delete", is_flag=True, help="Remove the key instead of setting it.")
@_file
@_base64
@pass_session
def cas(
    session: Session,
    key: str,
    value: str | None,
    expect: str | None,
    expect_revision: int | None,
    absent: bool,
    delete: bool,
    file: str | None,
    base64: bool,
) -> None:
    """Change KEY only if it is what you think it is.

    It is set to VALUE, or removed. Compare and change are one step, whoever else writes. Ends
    with 8 if the key was something else; nothing is changed then.
    """
    expected = exactly_one(expect=expect, expect_revision=expect_revision, absent=absent)
    changed = exactly_one(VALUE=value, file=file, delete=delete)
    parameters = _parameters(session, key, base64)
    if expect is not None:
        parameters["expected_value"] = encoding.wire(
            encoding.argument(expect, "--expect", base64=base64)
        )
    elif expected == "expect_revision":
        parameters["expected_revision"] = expect_revision
    else:
        parameters["absent"] = True
    if changed != "delete":
        parameters |= _new_value(value, file, base64)
    answer = session.call(f"{KV}.CompareAndSet", parameters, changes=True)
    outcome = "replaced" if answer["existed"] else "new"
    if delete:
        outcome = "deleted" if answer["existed"] else "did not exist"
    _changed(session, answer, outcome)


def _parameters(session: Session, key: str, base64: bool) -> dict[str, Any]:
    return {
        "key": encoding.wire(encoding.argument(key, "KEY", base64=base64)),
        "timeout_ms": session.timeout_ms,
    }


def _new_value(value: str | None, file: str | None, base64: bool) -> dict[str, str]:
    return {"value": encoding.wire(encoding.value(value, file, base64=base64))}


def _changed(session: Session, answer: dict[str, Any], outcome: str) -> None:
    if session.json:
        session.printer.json({"revision": answer["revision"], "existed": answer["existed"]})
    else:
        session.printer.lines([f"revision {answer['revision']} ({outcome})"])


def _pages(session: Session, prefix: bytes, limit: int | None, stale: bool) -> Iterator[list[Item]]:
    """Page after page, so that a large range needs little memory and any number of keys is fine."""
    after: str | None = None
    left = limit
    while left is None or left > 0:
        count = _PAGE if left is None else min(left, _PAGE)
        parameters: dict[str, Any] = {"prefix": encoding.wire(prefix), "limit": count}
        parameters |= {"stale": stale, "timeout_ms": session.timeout_ms}
        if after is not None:
            parameters["after"] = after
        answer = session.call(f"{KV}.Range", parameters)
        items: list[Item] = answer["items"]
        if items:
            yield items
        if not answer["more"]:
            return
        if not items or items[-1]["key"] == after:
            raise Failure("the daemon's answer makes no sense: more keys, but none after this one")
        after = items[-1]["key"]
        left = None if left is None else left - len(items)


def row(item: Item, keys_only: bool, base64: bool) -> list[str]:
    show = encoding.wire if base64 else readable
    key = show(encoding.from_wire(item["key"]))
    if keys_only:
        return [key]
    return [str(item["revision"]), key, show(encoding.from_wire(item["value"]))]


def listed(session: Session, rows: list[list[str]], keys_only: bool, first: bool) -> list[str]:
    """Lines of a page: the value is last, and cut where a terminal's line ends."""
    printer = session.printer
    if keys_only:
        return [row[0] for row in rows]
    used = max(8, *(len(row[0]) for row in rows)) + max(3, *(columns(row[1]) for row in rows)) + 4
    room = max(20, printer.columns - used) if printer.terminal else None
    heads = (Column("REVISION", right=True), Column("KEY"), Column("VALUE"))
    cells = [
        [
            Cell(revision),
            Cell(key),
            Cell(value if room is None else cut(value, room, printer.symbols.ellipsis)),
        ]
        for revision, key, value in rows
    ]
    lines = table.render(heads, cells, max(printer.columns, used + 20), printer.paint)
    return lines if first else lines[1:]
