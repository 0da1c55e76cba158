"""`raftctl state`: the key-value store as it was behind an entry of the log."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raftctl import download, encoding, units
from raftctl.commands.kv import listed, row
from raftctl.failure import Failure
from raftctl.options import Command, pass_session
from raftctl.session import Session

if TYPE_CHECKING:
    from raftctl.answers import Item

_PAGE = 1000
_EXAMPLES = """
raftctl state --at 1041 app/               what app/ was before entry 1042
raftctl state --at 1041 --save /tmp/then   a backup as of then
"""


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("prefix", required=False, default="")
@click.option(
    "--at", required=True, type=click.IntRange(min=1), metavar="INDEX", help="Behind this entry."
)
@click.option(
    "--save",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all of it to a backup FILE, from which a cluster can be restored.",
)
@click.option("--keys-only", is_flag=True, help="Show no values.")
@click.option("--base64", is_flag=True, help="Keys and values are base64, in and out.")
@pass_session
def state(
    session: Session, prefix: str, at: int, file: Path | None, keys_only: bool, base64: bool
) -> None:
    """Show the keys as they were at an entry.

    All that start with PREFIX, as they were behind entry INDEX; `raftctl log tail` shows the
    entries. This node's snapshot and log must reach INDEX; what is in the way is replayed beside
    the running store. Ends with 5 if they do not.
    """
    if file is not None:
        if file.exists():
            raise Failure(f"{file} is there already; take another name")
        about = download.fetch(session, file, at)
        session.printer.lines([f"saved all up to entry {at} to {file}, {units.size(about.size)}"])
        return
    start = encoding.argument(prefix, "PREFIX", base64=base64)
    with tempfile.TemporaryDirectory(prefix="raftctl-") as directory:
        path = Path(directory) / "state"
        download.fetch(session, path, at)
        first = True
        for page in _pages(path, start):
            if session.json:
                for item in page:
                    session.printer.json(
                        encoding.item_json(item, base64=base64, keys_only=keys_only)
                    )
            else:
                rows = [row(item, keys_only, base64) for item in page]
                session.printer.lines(listed(session, rows, keys_only, first))
            first = False


def _pages(path: Path, prefix: bytes) -> Iterator[list[Item]]:
    """The items, in the order of their bytes, some at a time."""
    import sqlite3  # noqa: PLC0415 - costs more than the rest of the command

    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            found = connection.execute(
                "SELECT key, value, revision FROM items WHERE key >= ? AND"
                " substr(key, 1, ?) = ? ORDER BY key",
                (prefix, len(prefix), prefix),
            )
            while page := found.fetchmany(_PAGE):
                yield [
                    {"key": encoding.wire(key), "value": encoding.wire(value), "revision": revision}
                    for key, value, revision in page
                ]
    except sqlite3.Error as error:
        raise Failure(f"what the daemon sent is not its store: {error}") from None
