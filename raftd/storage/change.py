"""What may happen to an open directory: changes, of which one that fails halfway is the last."""

from __future__ import annotations

from errno import EIO
from pathlib import Path

from raftd.storage.errors import DiskFull, SnapshotRejected, StorageFailed, failed


class Health:
    """Of an open directory. `failure`: the first failed change, final for this life."""

    __slots__ = ("closed", "failure")

    def __init__(self) -> None:
        self.closed = False
        self.failure: StorageFailed | None = None

    def check(self) -> None:
        """Raises StorageFailed, and again each time, after a change that failed."""
        if self.failure is not None:
            raise StorageFailed(self.failure.what, self.failure.path, self.failure.errno)
        assert not self.closed, "the directory is closed"


class Change:
    """A context in which an OSError is StorageFailed. Whatever ends a change halfway is final, but
    for the errors that leave all as it was. It keeps nothing, and can be used again and again."""

    __slots__ = ("_health", "_path", "_what")

    def __init__(self, health: Health, what: str, path: Path) -> None:
        self._health = health
        self._what = what
        self._path = path

    def __enter__(self) -> None:
        self._health.check()

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: object
    ) -> None:
        if error is None or isinstance(error, DiskFull | SnapshotRejected):
            return
        if isinstance(error, StorageFailed):
            failure = error
        elif isinstance(error, OSError):
            failure = failed(error, self._what, self._path)
        else:
            failure = StorageFailed(self._what, self._path, EIO)
        self._health.failure = self._health.failure or failure
        if isinstance(error, OSError):
            raise failure from error
