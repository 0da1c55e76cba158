"""Why the disk does not do what it was asked. Every message is a sentence for the operator."""

from __future__ import annotations

import errno as codes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAY_OUT = (
    "Nothing was changed. Keep a copy of the directory; then, if a majority of the other members"
    " works, replace this node by a fresh one, else restore a copy from before the damage."
)
_FULL = (codes.ENOSPC, codes.EDQUOT)
_HINTS = {
    codes.EACCES: "; a data directory, with everything in it, must belong to the user that its node"
    " runs as: run this as that user, or `chown -R USER: DIRECTORY`",
    codes.EROFS: "; if it is so for the service only, allow it that place with ReadWritePaths=: see"
    " data_dir in raftd.toml(5)",
}


class StorageError(Exception):
    """The base of what the public calls of raftd.storage raise on purpose."""


class DirectoryLocked(StorageError):
    """Another daemon uses the data directory; `pid` is None if it has not written its own yet."""

    def __init__(self, directory: Path, pid: int | None) -> None:
        holder = "another raftd" if pid is None else f"another raftd, process {pid},"
        super().__init__(
            f"{directory}: {holder} uses this data directory; stop it or give this node its own."
        )
        self.directory = directory
        self.pid = pid


class DirectoryDamaged(StorageError):
    """What is on disk is not what was written there, and no crash explains it.

    `offset` in bytes. `first_index` to `last_index` are the entries that are in doubt; None for
    `last_index` means all from the first on, None for both that no entry is.
    """

    def __init__(
        self,
        file: Path,
        reason: str,
        *,
        offset: int | None = None,
        first_index: int | None = None,
        last_index: int | None = None,
    ) -> None:
        place = f"{file}" if offset is None else f"{file}, byte {offset}"
        doubt = ""
        if first_index is not None:
            behind = "on" if last_index is None else f"to {last_index}"
            doubt = f" Entries from {first_index} {behind} are in doubt."
        super().__init__(f"{place}: {reason}.{doubt} {WAY_OUT}")
        self.file = file
        self.reason = reason
        self.offset = offset
        self.first_index = first_index
        self.last_index = last_index


class DirectoryMismatch(StorageError):
    """The directory is whole, but it is not this node's, or this raftd is too old for it."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}.")
        self.file = file
        self.reason = reason


class StorageFailed(StorageError):
    """The operating system refused. After a failed write or fsync it is final for this life:
    what is on disk is unknown, and a second fsync would not tell (fsyncgate)."""

    def __init__(self, what: str, path: Path, errno: int) -> None:
        super().__init__(f"cannot {what} {path}: {os.strerror(errno)}{_HINTS.get(errno, '')}")
        self.what = what
        self.path = path
        self.errno = errno


class DiskFull(StorageError):
    """No space, or no quota, is left. Nothing was changed; the same call may succeed later."""

    def __init__(self, what: str, path: Path, errno: int) -> None:
        super().__init__(
            f"cannot {what} {path}: {os.strerror(errno)}; free some space, nothing is lost."
        )
        self.what = what
        self.path = path
        self.errno = errno


class NotInLog(StorageError, LookupError):
    """The log on disk has no such entry, or has it no more."""

    def __init__(self, index: int, first_index: int, last_index: int) -> None:
        super().__init__(f"no entry {index}: the log on disk has {first_index} to {last_index}")
        self.index = index
        self.first_index = first_index
        self.last_index = last_index


class SnapshotRejected(StorageError):
    """The file is not the snapshot it is said to be; it was removed, and nothing else changed."""


def is_full(error: OSError) -> bool:
    """Out of space or quota: the one failure that may pass."""
    return error.errno in _FULL


@contextmanager
def storage_errors(what: str, path: Path, *, full_passes: bool = False) -> Iterator[None]:
    """An OSError from here is StorageFailed; with `full_passes`, DiskFull if it is that."""
    try:
        yield
    except OSError as error:
        if full_passes and is_full(error):
            raise DiskFull(what, _place(error, path), error.errno or codes.EIO) from error
        raise failed(error, what, path) from error


def failed(error: OSError, what: str, path: Path) -> StorageFailed:
    """What to raise for it; `path` is named if the error names no file."""
    return StorageFailed(what, _place(error, path), error.errno or codes.EIO)


def _place(error: OSError, path: Path) -> Path:
    return path if error.filename is None else Path(os.fsdecode(error.filename))
