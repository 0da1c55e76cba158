"""The built-in state machine: keys and values are bytes, on SQLite, with a revision per change.

Way in: `apply`, one transaction for a batch of committed entries. Way out: `read`, and `snapshot`.
Deterministic: a result depends on the entries alone, never on time, dice, or this node.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

from raftd.kv import database, describe
from raftd.kv.commands import (
    MAX_RANGE,
    Get,
    Item,
    Items,
    Query,
    Range,
    decode_query,
    encode,
)
from raftd.kv.errors import Damaged, OSErrors
from raftd.kv.readers import Readers
from raftd.kv.table import Table
from raftd.state_machine import Committed

logger = logging.getLogger("raftd.kv")

MAX_RESULT_BYTES = 4 << 20
"""A step ends once its results have this: each comparison that fails brings a whole value along."""
MAX_ANSWER_BYTES = 1 << 20
"""A list ends before it has more than this, but never before its first item."""
_ITEM_OVERHEAD = 16
_SYNC_BYTES = 16 << 20
_STEPS_BETWEEN_LOOKS = 20_000
"""Steps of SQLite's machine, some milliseconds, between two looks whether a snapshot shall stop."""

_GET_TAG = encode(Get(b""))[1:2]
_GET_AND_POSITION = (
    "SELECT last_applied_index, revision, value FROM position LEFT JOIN items ON key = ?"
)
_ADVANCE = "UPDATE position SET last_applied_index = ?, last_applied_term = ?"


class KeyValueStore:
    """A raftd.state_machine.StateMachine, with its threads, in the file `directory`/kv.db.

    With `fresh` it starts empty, whatever is there: to be used after a crash of the machine. A
    damaged file is replaced by an empty one, with a line in the log. Every method raises
    OSError when the disk fails or is full; the state is then what it was before the call.
    """

    def __init__(self, directory: Path, *, fresh: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "kv.db"
        self._incoming = directory / "kv.db.new"
        database.remove(self._incoming)
        if fresh:
            database.remove(self._path)
        self._os_errors = OSErrors(self._path)
        self._open()
        self._readers = Readers(self._path)
        self._closed = False

    def _open(self) -> None:
        self._writer = database.open_writer(self._path)
        self._table = Table(self._writer)
        self._transaction = database.Transaction(self._writer, "IMMEDIATE")
        self._last_applied, self._last_applied_term = database.position(self._writer)
        self._context = database.context(self._writer)

    @property
    def last_applied(self) -> int:
        return self._last_applied

    @property
    def last_applied_term(self) -> int:
        """The term of the entry at `last_applied`; 0 for none."""
        return self._last_applied_term

    @property
    def context(self) -> bytes:
        return self._context

    def apply(
        self,
        batch: Sequence[Committed],
        context: Callable[[Sequence[bytes]], bytes] | None = None,
    ) -> list[bytes]:
        """A result is a commands.Result, or b"" where there was nothing to do."""
        if not batch:
            return []
        assert batch[0].index == self._last_applied + 1, "entries are applied in order"
        with self._os_errors, self._transaction as cursor:
            results = self._results(batch)
            last = batch[len(results) - 1]
            cursor.execute(_ADVANCE, (last.index, last.term))
            kept = self._context if context is None else context(results)
            if kept != self._context:
                database.store_context(cursor, kept, replaces=self._context)
        self._context = kept
        self._last_applied, self._last_applied_term = last.index, last.term
        return results

    def _results(self, batch: Sequence[Committed]) -> list[bytes]:
        apply = self._table.apply
        results = []
        size = 0
        for entry in batch:
            result = b"" if entry.body is None else encode(apply(entry.body, entry.index))
            results.append(result)
            size += len(result)
            if size >= MAX_RESULT_BYTES:
                break
        return results

    def read_now(self, query: bytes) -> bytes:
        """A Get. Raises as `read`."""
        wanted = _decoded(query)
        assert isinstance(wanted, Get)
        with self._os_errors:
            found = self._table.get(wanted.key)
        items = () if found is None else (Item(wanted.key, found[1], found[0]),)
        return encode(Items(items, more=False, applied_index=self._last_applied))

    def read(self, query: bytes) -> bytes:
        """The commands.Items that answer a commands.Query. Raises ValueError if `query` is none."""
        wanted = _decoded(query)
        with self._os_errors, self._readers.connection() as connection:
            match wanted:
                case Get(key):
                    return encode(_get(connection, key))
                case Range():
                    with database.Transaction(connection, "DEFERRED"):
                        index, _ = database.position(connection)
                        found, more = _range(connection, wanted)
                    return encode(Items(tuple(found), more, index))
                case _ as never:
                    assert_never(never)

    def is_quick(self, query: bytes) -> bool:
        """A Get is: msgpack array, then its tag."""
        return query[1:2] == _GET_TAG

    def snapshot(self, path: Path) -> int:
        """A copy of one state, a SQLite file by itself. `close` ends it early, with an OSError."""
        if path.exists():
            raise FileExistsError(errno.EEXIST, "a snapshot goes to a new file", str(path))
        with OSErrors(path):
            source = database.connect(self._path, mode="ro")
            try:
                watch = _Watch(path, self._must_stop)
                source.set_progress_handler(watch, _STEPS_BETWEEN_LOOKS)
                # Reads in one transaction of its own; in WAL mode that holds up no writer.
                source.execute("VACUUM INTO ?", (str(path),))
            except sqlite3.Error:
                path.unlink(missing_ok=True)
                raise
            finally:
                source.close()
            copy = database.connect(path, mode="ro", immutable=True)
            try:
                return database.position(copy)[0]
            finally:
                copy.close()

    def verify(self, path: Path) -> int:
        """Every byte of the snapshot at `path` is read."""
        return _verified(path, path)

    def restore(self, path: Path) -> None:
        """Take over the snapshot at `path`. A crash leaves the old state, the new one, or none."""
        if not path.is_file():
            raise ValueError(f"{path} is no snapshot of the key-value store: there is no such file")
        try:
            # Check the copy and not the original: what is checked is what is used.
            database.copy(path, self._incoming)
            _verified(self._incoming, path)
            with self._os_errors, self._readers.paused():
                self._writer.close()
                if database.has_log(self._path):
                    # Someone else has the file open: its log must not meet the new file.
                    database.remove(self._path)
                self._incoming.replace(self._path)
                self._open()
        finally:
            database.remove(self._incoming)
        logger.debug("restored the key-value store from %s, index %d", path, self._last_applied)

    def scratch(self, directory: Path) -> KeyValueStore:
        return KeyValueStore(directory, fresh=True)

    def describe(self, body: bytes) -> str:
        return describe.describe(body)

    def close(self) -> None:
        self._closed = True
        self._readers.close()
        self._writer.close()

    def close_durably(self) -> None:
        """`close`, and the state may be believed after a crash of the machine, too. OSError: it
        may not, though it is closed."""
        try:
            with database.closed_durably(self._path):
                self.close()
        finally:
            self.close()

    def _must_stop(self) -> bool:
        """Asked again and again by SQLite while a snapshot is made."""
        return self._closed


class _Watch:
    """Brings a snapshot to the disk bit by bit, while it is made: a gigabyte at once, at the end,
    would hold up the log on the same disk. If that fails the snapshot stops: a later fsync would
    not tell."""

    def __init__(self, path: Path, must_stop: Callable[[], bool]) -> None:
        self._path = path
        self._must_stop = must_stop
        self._synced = 0

    def __call__(self) -> bool:
        try:
            size = self._path.stat().st_size
            if size - self._synced >= _SYNC_BYTES:
                handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fdatasync(handle)
                finally:
                    os.close(handle)
                self._synced = size
        except OSError:
            return True
        return self._must_stop()


def _verified(file: Path, snapshot: Path) -> int:
    """The index that a copy of `snapshot` stands for. Raises ValueError if it is none."""
    try:
        return database.verify(file)
    except Damaged as error:
        raise ValueError(f"{snapshot} is no snapshot of the key-value store: {error}") from error


def _decoded(query: bytes) -> Query:
    try:
        wanted: Query = decode_query(query)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no query of the key-value store: {error}") from error
    return wanted


def _get(connection: sqlite3.Connection, key: bytes) -> Items:
    """In one statement, which sees one state without a transaction around it."""
    row = connection.execute(_GET_AND_POSITION, (key,)).fetchone()
    if row is None:
        raise Damaged("it does not say which entry was applied last")
    index, revision, value = row
    items = () if revision is None else (Item(key, value, revision),)
    return Items(items, more=False, applied_index=index)


def _range(connection: sqlite3.Connection, wanted: Range) -> tuple[list[Item], bool]:
    """The items, and whether there are more."""
    limit = max(0, min(wanted.limit, MAX_RANGE))
    # One lower bound only: given two, SQLite may seek to the smaller one and walk from there.
    if wanted.after is None or wanted.after < wanted.prefix:
        conditions, bounds = "key >= ?", [wanted.prefix]
    else:
        conditions, bounds = "key > ?", [wanted.after]
    if (end := _end_of_prefix(wanted.prefix)) is not None:
        conditions += " AND key < ?"
        bounds.append(end)
    rows = connection.execute(
        f"SELECT key, value, revision FROM items WHERE {conditions} ORDER BY key LIMIT ?",  # noqa: S608
        (*bounds, limit + 1),
    )
    items: list[Item] = []
    size = 0
    for key, value, revision in rows:
        size += len(key) + len(value) + _ITEM_OVERHEAD
        if len(items) == limit or (items and size > MAX_ANSWER_BYTES):
            rows.close()
            return items, True
        items.append(Item(key, value, revision))
    return items, False


def _end_of_prefix(prefix: bytes) -> bytes | None:
    """The first key behind all that start with `prefix`; None if there can be none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
