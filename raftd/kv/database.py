"""The SQLite file behind the key-value store: its format, and how it is opened, checked and copied.

`kv.db` is valid if and only if its application id and schema version are the ones below, its
tables are exactly those of SCHEMA, SQLite's quick_check finds no fault, and `position` has its one
row: index and term of the last entry applied, written in the same transaction as what it did.

The file is a view that can be made again from snapshot and log, so SQLite never fsyncs it
(synchronous=OFF). After a crash of the process every transaction is whole, because what was
written is in the kernel's hands. After a crash of the machine the file may be anything, even a
whole database of pages old and new: start with a fresh one. Only `closed_durably` makes it good for
another boot. A snapshot is such a file by itself, without a write-ahead log.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from raftd.kv.errors import Damaged, OSErrors, StateError, faults_are_damage, files, in_words

logger = logging.getLogger("raftd.kv")

APPLICATION_ID = 0x7261_6674  # "raft"
SCHEMA_VERSION = 1
CONTEXT_VERSION = 2
"""With the table for a context, which is made when there is one: an older raftd reads the other."""
SCHEMA = {
    "items": "CREATE TABLE items (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL,"
    " revision INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "position": "CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1),"
    " last_applied_index INTEGER NOT NULL, last_applied_term INTEGER NOT NULL) STRICT",
}
CONTEXT_SCHEMA = {
    "context": "CREATE TABLE context (one INTEGER PRIMARY KEY CHECK (one = 1),"
    " value BLOB NOT NULL) STRICT",
}
_WAL_LIMIT = 64 << 20
_CACHE_KIB = 16 << 10
_PATIENCE = 0.1
"""Seconds for which another process may keep the database locked: the event loop may wait here."""


def connect(
    path: Path, *, mode: str = "rw", immutable: bool = False, patience: float = 5.0
) -> sqlite3.Connection:
    """A connection without implicit transactions that any one thread at a time may use.

    `mode` is SQLite's: ro, rw, or rwc to create the file. With `immutable` no log is looked at.
    `patience`: seconds to wait while another process has it locked.
    """
    uri = f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=patience
    )
    try:
        connection.execute("PRAGMA synchronous = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def open_writer(path: Path) -> sqlite3.Connection:
    """The database at `path`, made if there is none, and made anew if it is damaged.

    Raises OSError if the file cannot be opened or written.
    """
    _remove_others(path)
    with OSErrors(path):
        try:
            return _open_existing(path) if path.exists() else _create(path)
        except Damaged as error:
            logger.warning(
                "%s cannot be used (%s): starting with an empty state, to be filled from"
                " snapshot and log",
                path,
                error,
            )
            remove(path)
            return _create(path)


def remove(path: Path) -> None:
    """Delete the database; its main file goes first, so that its logs never belong to another."""
    for file in files(path):
        file.unlink(missing_ok=True)


def _remove_others(path: Path) -> None:
    """What is no file: to open a FIFO, say, would wait for ever."""
    for file in files(path):
        if file.exists() and not file.is_file():
            try:
                file.unlink()
            except OSError as error:
                raise in_words(error, file) from error
            logger.warning("removed %s, which was no regular file", file)


def has_log(path: Path) -> bool:
    """Is there a write-ahead log or journal that belongs to the file at `path`?"""
    return any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-journal"))


@contextlib.contextmanager
def closed_durably(path: Path) -> Iterator[None]:
    """A context that closes the last connection: at its end the database is durable, all of it in
    its main file. OSError if it is not; then it must not be believed after a crash of the machine.
    """
    # Open before SQLite lets go of the file, so that no write that failed in the background is
    # forgotten; close behind that, because it takes away the locks SQLite has (fcntl(2)).
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise in_words(error, path) from error
    try:
        yield
        if has_log(path):
            # The next start would bring it into the file, which is not durable then.
            reason = "another process has it open, or the disk is full"
            raise StateError(errno.EBUSY, reason, str(path))
        _sync(path, handle)
    finally:
        os.close(handle)


def copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise in_words(error, target) from error


def verify(path: Path) -> int:
    """The index of the last entry applied to the file at `path`, without any log beside it. Raises
    Damaged if it is no valid database."""
    with (
        OSErrors(path),
        faults_are_damage(),
        contextlib.closing(connect(path, mode="ro", immutable=True)) as connection,
    ):
        _check(connection, path)
        return position(connection)[0]


def position(connection: sqlite3.Connection) -> tuple[int, int]:
    """Index and term of the last entry applied. Raises Damaged if that is missing."""
    row = connection.execute(
        "SELECT last_applied_index, last_applied_term FROM position"
    ).fetchone()
    if row is None:
        raise Damaged("it does not say which entry was applied last")
    return row[0], row[1]


def context(connection: sqlite3.Connection) -> bytes:
    """What was stored beside the state; empty if nothing was."""
    if _pragma(connection, "user_version") != CONTEXT_VERSION:
        return b""
    row = connection.execute("SELECT value FROM context").fetchone()
    return b"" if row is None else bytes(row[0])


def store_context(cursor: sqlite3.Cursor, value: bytes, *, replaces: bytes) -> None:
    """In a transaction. `replaces` is what was stored before; empty: nothing, as far as known."""
    if replaces:
        cursor.execute("UPDATE context SET value = ?", (value,))
        return
    if _pragma(cursor.connection, "user_version") != CONTEXT_VERSION:
        for statement in CONTEXT_SCHEMA.values():
            cursor.execute(statement)
        cursor.execute(f"PRAGMA user_version = {CONTEXT_VERSION}")
    cursor.execute("INSERT OR REPLACE INTO context VALUES (1, ?)", (value,))


class Transaction:
    """A context: all or nothing. `kind` is IMMEDIATE to write, DEFERRED to read one state."""

    __slots__ = ("_begin", "_connection", "_cursor")

    def __init__(self, connection: sqlite3.Connection, kind: str) -> None:
        self._connection = connection
        self._begin = f"BEGIN {kind}"
        self._cursor = connection.cursor()

    def __enter__(self) -> sqlite3.Cursor:
        self._cursor.execute(self._begin)
        return self._cursor

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: object
    ) -> None:
        try:
            if error is None:
                self._cursor.execute("COMMIT")
        finally:
            # After some errors, a full disk among them, SQLite has rolled back by itself.
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")


def _sync(path: Path, handle: int) -> None:
    try:
        os.fsync(handle)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        # What is in memory looks durable now, to the next fsync too, and is not.
        with contextlib.suppress(OSError):
            remove(path)
        raise in_words(error, path) from error


def _open_existing(path: Path) -> sqlite3.Connection:
    with faults_are_damage():
        connection = connect(path, patience=_PATIENCE)
        try:
            # Bring what stands in the write-ahead log into the file.
            _pragma(connection, "wal_checkpoint(TRUNCATE)")
            _check(connection, path)
            _tune(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise Damaged("it is no file of raftd's key-value store")
    version = _pragma(connection, "user_version")
    if version not in {SCHEMA_VERSION, CONTEXT_VERSION}:
        raise Damaged(
            f"its schema has version {version}, this raftd knows version {CONTEXT_VERSION}"
        )
    schema = SCHEMA if version == SCHEMA_VERSION else SCHEMA | CONTEXT_SCHEMA
    # The very same tables and nothing else: no triggers, no views.
    if dict(connection.execute("SELECT name, sql FROM sqlite_schema").fetchall()) != schema:
        raise Damaged("its tables are not those of the key-value store")
    # SQLite itself reads zeros where a last page is cut short.
    pages, page_size = _pragma(connection, "page_count"), _pragma(connection, "page_size")
    if (size := path.stat().st_size) != int(pages or 0) * int(page_size or 0):
        raise Damaged(f"it has {size} bytes, which are not {pages} pages of {page_size}")
    if (fault := _pragma(connection, "quick_check(1)")) != "ok":
        raise Damaged(f"SQLite finds it damaged: {fault}")
    index, term = position(connection)
    if index < 0 or term < 0:
        raise Damaged(f"it says it stands at index {index}, term {term}")


def _create(path: Path) -> sqlite3.Connection:
    connection = connect(path, mode="rwc", patience=_PATIENCE)
    try:
        with Transaction(connection, "IMMEDIATE"):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            for statement in SCHEMA.values():
                connection.execute(statement)
            connection.execute("INSERT INTO position VALUES (1, 0, 0)")
        _tune(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _tune(connection: sqlite3.Connection) -> None:
    _pragma(connection, "journal_mode = WAL")
    # A snapshot that takes long lets the write-ahead log grow; give the room back afterwards.
    _pragma(connection, f"journal_size_limit = {_WAL_LIMIT}")
    connection.execute(f"PRAGMA cache_size = {-_CACHE_KIB}")


def _pragma(connection: sqlite3.Connection, text: str) -> int | str | None:
    row = connection.execute(f"PRAGMA {text}").fetchone()
    return row[0] if row else None
