"""`raftctl snapshot`: take, list, save, check and restore snapshots."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from raftctl import download, table, units
from raftctl.failure import Failure
from raftctl.options import Group, pass_session
from raftctl.session import Session
from raftctl.table import Cell, Column
from raftd import backup
from raftd.admin.protocol import SNAPSHOTS
from raftd.backup import NoBackup

_COLUMNS = (
    Column("NODE"),
    Column("ENTRIES"),
    Column("TERM", right=True),
    Column("SIZE", right=True),
    Column("SHA-256"),
)
_EXAMPLES = """
raftctl snapshot save /backup/raftd-$(date +%F)
raftctl snapshot inspect /backup/raftd-2026-11-23
sqlite3 /backup/raftd-2026-11-23 'select count(*) from items'
"""


@click.group(cls=Group, examples=_EXAMPLES)
def snapshot() -> None:
    """Take, save and check snapshots of the state."""


@snapshot.command(examples="raftctl snapshot take")
@pass_session
def take(session: Session) -> None:
    """Take a snapshot now, on this node.

    The daemon takes one by itself whenever its log has grown enough. Writes go on meanwhile.
    """
    parameters: dict[str, object] = {}
    session.timeout = session.timeout or 3600.0
    answer = session.call(f"{SNAPSHOTS}.Take", parameters, changes=True)["snapshot"]
    if session.json:
        session.printer.json({"snapshot": answer})
        return
    size = units.size(answer["size"])
    session.printer.lines([f"snapshot up to entry {answer['last_included_index']}, {size}"])


@snapshot.command("list", examples="raftctl snapshot list")
@pass_session
def list_snapshots(session: Session) -> None:
    """List the snapshots that this node has."""
    found = session.call(f"{SNAPSHOTS}.List")["snapshots"]
    if session.json:
        session.printer.json({"snapshots": found})
        return
    if not found:
        session.printer.lines(["no snapshot yet: the log has everything from its first entry on"])
        return
    rows = [
        [
            Cell(each["node"]),
            Cell(f"up to {each['last_included_index']}"),
            Cell(str(each["last_included_term"])),
            Cell(units.size(each["size"])),
            Cell(each["sha256"][:16]),
        ]
        for each in found
    ]
    printer = session.printer
    printer.lines(table.render(_COLUMNS, rows, printer.columns, printer.paint))


@snapshot.command(examples="raftctl snapshot save /backup/raftd-$(date +%F)")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--newest", is_flag=True, help="Save what is there; do not take one first.")
@pass_session
def save(session: Session, file: Path, newest: bool) -> None:
    """Save the state as it is now to FILE.

    FILE must not exist; it gets its name when it is whole. It is a SQLite database, and says of
    which cluster and up to which entry it is. `raftctl snapshot restore` begins a new cluster
    from it.
    """
    if file.exists():
        raise Failure(f"{file} is there already; take another name")
    if not newest:
        session.timeout = session.timeout or 3600.0
        session.call(f"{SNAPSHOTS}.Take", changes=True)
    about = download.fetch(session, file, None)
    if session.json:
        session.printer.json({"file": str(file), **about._asdict()})
        return
    size = units.size(about.size)
    session.printer.lines([f"saved all up to entry {about.last_included_index} to {file}, {size}"])


@snapshot.command(examples="raftctl snapshot inspect /backup/raftd-2026-11-23")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@pass_session
def inspect(session: Session, file: Path) -> None:
    """Check every byte of the backup FILE, and show what it is.

    Needs no daemon. Ends with 1 if FILE is damaged or no backup.
    """
    try:
        bar = download.Bar(file.stat().st_size)
        about = backup.verify(file, bar.show)
        bar.show(file.stat().st_size)
    except NoBackup as error:
        raise Failure(str(error)) from None
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from None
    if session.json:
        session.printer.json({"file": str(file), "whole": True, **about._asdict()})
        return
    rows = [("File", Cell(f"{file}: whole"))]
    rows += [(title, Cell(text)) for title, text in download.rows(about)]
    session.printer.lines(table.fields(rows, session.printer.columns, session.printer.paint))


@snapshot.command(examples="raftctl snapshot restore /backup/raftd-2026-11-23 --config node1.toml")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--config", type=click.Path(), help="The configuration of this host's node.")
@pass_session
def restore(session: Session, file: Path, config: str | None) -> None:
    """Begin a new cluster on this host from the backup FILE.

    This is `raftd restore`: the node must not run, and its data directory must be empty. Do it on
    every host, with the same FILE, and start the nodes then. Exit codes are those of raftd(8): 2
    if FILE or the configuration cannot be read, 4 if FILE is damaged or no backup.
    """
    del session
    beside = Path(sys.argv[0]).absolute().with_name("raftd")
    daemon = str(beside) if beside.exists() else shutil.which("raftd")
    if daemon is None:
        raise Failure("there is no raftd on this host that could restore it")
    chosen = ["--config", config] if config is not None else []
    try:
        os.execv(daemon, ["raftd", "restore", str(file), *chosen])  # noqa: S606 - our own
    except OSError as error:
        raise Failure(f"cannot run {daemon}: {error.strerror}") from None
