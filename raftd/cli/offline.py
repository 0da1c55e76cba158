"""What the commands for stopped nodes share: exit statuses, plans that are typed back, owners."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import click

from raftd.backup import NoBackup
from raftd.cli import say
from raftd.kv import database
from raftd.kv.store import KeyValueStore
from raftd.storage.disk import (
    DirectoryDamaged,
    DirectoryLocked,
    DirectoryMismatch,
    DiskFull,
    RealFiles,
    StorageError,
    StorageFailed,
)
from raftd.storage.errors import is_full
from raftd.storage.repair import Irreparable
from raftd.storage.stopped import Stopped

USAGE, LOCKED, DAMAGED, STORAGE_FAILED, NO_SPACE = 2, 3, 4, 5, 7
_STATUSES: dict[type[Exception], int] = {
    DirectoryLocked: LOCKED,
    DirectoryDamaged: DAMAGED,
    DirectoryMismatch: DAMAGED,
    Irreparable: DAMAGED,
    NoBackup: DAMAGED,
    DiskFull: NO_SPACE,
    StorageFailed: STORAGE_FAILED,
}
_MISTAKES = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
"""Of who has named a file or directory, or has run the command: no disk has failed."""


@contextmanager
def exit_statuses() -> Iterator[None]:
    """What goes wrong becomes one sentence and the documented exit status."""
    try:
        yield
    except (StorageError, NoBackup) as error:
        fail(str(error), _STATUSES.get(type(error), 1))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{error.strerror or error}", _status(error))


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """That what the command line names is not there, or not to be read, is a wrong command line."""
    try:
        yield
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror or error}", USAGE)


def _status(error: OSError) -> int:
    if isinstance(error, _MISTAKES):
        return USAGE
    return NO_SPACE if is_full(error) else STORAGE_FAILED


def fail(sentence: str, status: int) -> None:
    """Say it and end the process."""
    say.error(sentence)
    sys.exit(status)


def demand(digest: str, given: str | None, command: str) -> None:
    """Go on only if the plan's hash was given, or is typed now. Exits with 2 otherwise."""
    if given is None and sys.stdin.isatty():
        given = click.prompt(f"Type {digest} to do it", default="", show_default=False)
    if given is None:
        fail(f"nothing was changed. To do this: {command} --yes {digest}", USAGE)
    elif given.strip() != digest:
        fail(
            f"nothing was changed: the hash of this plan is {digest}, not {given.strip()!r};"
            " has something changed since you looked?",
            USAGE,
        )


def rows(pairs: Sequence[tuple[str, str]]) -> None:
    """One field a line."""
    width = max(len(title) for title, _ in pairs)
    for title, text in pairs:
        click.echo(f"{title:{width}}  {clean(text)}")


def table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Columns; those whose title begins with a blank are numbers, and stand right."""
    cells = [[title.strip() for title in titles], *[[clean(each) for each in x] for x in lines]]
    widths = [max(len(line[number]) for line in cells) for number in range(len(titles))]
    for line in cells:
        parts = [
            text.rjust(width) if title.startswith(" ") else text.ljust(width)
            for text, width, title in zip(line, widths, titles, strict=True)
        ]
        click.echo("  ".join(parts).rstrip())


def clean(text: str) -> str:
    """Nothing in it acts on a terminal."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def moment(unix_ms: int) -> str:
    """Local time and how long ago that is."""
    try:
        local = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(unix_ms / 1000))
    except (OverflowError, ValueError, OSError):
        return f"{unix_ms} ms"
    seconds = int(time.time() - unix_ms / 1000)
    if seconds < 0:
        return local
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{local}, {seconds // size} {unit} ago"
    return f"{local}, {seconds} s ago"


def stamp() -> str:
    """Now, in UTC, fit for a file's name."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def open_stopped(directory: Path) -> Stopped:
    """A stopped node's directory, locked, with its state machine looked at."""
    if not directory.is_dir():
        fail(f"{directory}: there is no such directory", USAGE)
    try:
        return Stopped(RealFiles(), directory, last_applied)
    except DirectoryMismatch as error:
        raise DirectoryMismatch(
            directory, "this is no data directory of raftd: it has none of its files"
        ) from error


def last_applied(directory: Path) -> int:
    """What the state machine in a stopped node's directory has applied; 0 if that cannot be read.

    It is a view that can be made anew, so its own damage means nothing.
    """
    file = directory / "state" / "kv.db"
    if not file.is_file():
        return 0
    try:
        alone = not database.has_log(file)
        with closing(database.connect(file, mode="ro", immutable=alone)) as connection:
            return database.position(connection)[0]
    except (sqlite3.Error, ValueError):
        return 0


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A place in `directory` for what is gone afterwards, whatever happens."""
    place = directory / f"scratch-{os.getpid()}"
    place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def state_machine(place: Path, snapshot: Path | None) -> Iterator[KeyValueStore]:
    """A key-value store in `place`, with what the snapshot has. Raises NoBackup if it is none."""
    machine = KeyValueStore(place / "state", fresh=True)
    try:
        if snapshot is not None:
            machine.restore(snapshot)
        yield machine
    except ValueError as error:
        raise NoBackup(str(error)) from error
    finally:
        machine.close()


def give_to_owner_of(path: Path, made: Path) -> None:
    """Root may work on the directory of another user, who must be able to use the result."""
    if os.geteuid() != 0:
        return
    owner = path.stat()
    for each in (made, *made.rglob("*")):
        os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)


class Progress:
    """A line on standard error that shows how far something is, if that is a terminal."""

    def __init__(self, what: str, whole: int) -> None:
        self._what = what
        self._whole = max(1, whole)
        self._shown = -1
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int) -> None:
        percent = min(100, done * 100 // self._whole)
        if not self._terminal or percent == self._shown:
            return
        self._shown = percent
        bar = "#" * (percent * 30 // 100)
        end = "\n" if percent == 100 else ""
        click.echo(f"\r{self._what}  [{bar:30}] {percent:3d} %{end}", err=True, nl=False)
