"""What commands do to the key-value store's table. Way in: `apply`, inside of a transaction."""

from __future__ import annotations

import sqlite3
from typing import assert_never

from raftd.kv.commands import (
    Changed,
    Command,
    CompareAndSet,
    CompareFailed,
    Delete,
    Invalid,
    Put,
    Result,
    decode_command,
)

MAX_KEY_BYTES = 4096

_GET = "SELECT revision, value FROM items WHERE key = ?"
_UPDATE = "UPDATE items SET value = ?, revision = ? WHERE key = ?"
_INSERT = "INSERT INTO items (value, revision, key) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
_DELETE = "DELETE FROM items WHERE key = ?"


class Table:
    """The items, for one writer."""

    __slots__ = ("_cursor", "_last_was_new")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()
        self._last_was_new = False

    def apply(self, body: bytes, index: int) -> Result:
        """Do the command in `body`, of the entry at `index`. Raises sqlite3.Error."""
        try:
            command: Command = decode_command(body)
        except (ValueError, RecursionError) as error:
            return Invalid(f"this is no command of the key-value store: {error}")
        if not 0 < len(command.key) <= MAX_KEY_BYTES:
            return Invalid(f"a key has 1 to {MAX_KEY_BYTES} bytes")
        match command:
            case Put():
                return Changed(index, self._put(command.key, command.value, index))
            case Delete():
                return Changed(index, self._delete(command.key))
            case CompareAndSet():
                return self._compare_and_set(command, index)
            case _ as never:
                assert_never(never)

    def get(self, key: bytes) -> tuple[int, bytes] | None:
        """Revision and value; None: there is none. Raises sqlite3.Error."""
        row: tuple[int, bytes] | None = self._cursor.execute(_GET, (key,)).fetchone()
        return row

    def _compare_and_set(self, command: CompareAndSet, index: int) -> Result:
        row = self.get(command.key)
        revision, value = (0, None) if row is None else row
        if command.expected_revision is not None:
            as_expected = revision == command.expected_revision
        else:
            as_expected = value == command.expected_value
        if not as_expected:
            return CompareFailed(revision, value)
        if command.value is None:
            self._delete(command.key)
        else:
            self._put(command.key, command.value, index)
        return Changed(index, existed=row is not None)

    def _put(self, key: bytes, value: bytes, index: int) -> bool:
        """Set `key`; did it exist before? Keys that are new come in a row, and so do those that
        are not: what was right the last time is tried first, as each try costs a search."""
        row, execute = (value, index, key), self._cursor.execute
        if self._last_was_new:
            if execute(_INSERT, row).rowcount > 0:
                return False
            self._last_was_new = False
            execute(_UPDATE, row)
            return True
        if execute(_UPDATE, row).rowcount > 0:
            return True
        self._last_was_new = True
        execute(_INSERT, row)
        return False

    def _delete(self, key: bytes) -> bool:
        """Did it exist before?"""
        return self._cursor.execute(_DELETE, (key,)).rowcount > 0
