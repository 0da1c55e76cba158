"""Connections for readers: any number of threads at once, none while the file is exchanged."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from raftd.kv import database

_IDLE_LIMIT = 4


class Readers:
    """Hands out read-only connections to the database at `path`, and keeps a few open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._idle: list[sqlite3.Connection] = []
        self._in_use = 0
        self._paused = False
        self._closed = False

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """One connection for one read; waits while readers are paused."""
        with self._changed:
            self._changed.wait_for(lambda: not self._paused)
            if self._closed:
                raise ValueError("the key-value store is closed")
            connection = self._idle.pop() if self._idle else None
            self._in_use += 1
        try:
            if connection is None:
                connection = database.connect(self._path, mode="ro")
            yield connection
        finally:
            with self._changed:
                self._in_use -= 1
                keep = len(self._idle) < _IDLE_LIMIT and not self._paused and not self._closed
                if connection is not None:
                    if keep:
                        self._idle.append(connection)
                    else:
                        connection.close()
                self._changed.notify_all()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, no connection is open; new readers wait."""
        with self._changed:
            self._paused = True
            self._changed.wait_for(lambda: not self._in_use)
            self._close_idle()
        try:
            yield
        finally:
            with self._changed:
                self._paused = False
                self._changed.notify_all()

    def close(self) -> None:
        """Let running reads end, refuse new ones."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._in_use)
            self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
