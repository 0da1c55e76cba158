"""Why a SQLite file does not do what it was asked: as an OSError, or as damage to the file."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NO_DAMAGE = {
    # What is wrong then is not in the file, and another file would fare no better.
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL),
    *(sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_AUTH),
}
_WRITING = {
    # SQLITE_IOERR, of something that could not be written.
    *(sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE),
    *(sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP),
}
_KNOWN = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_INTERRUPT: errno.ECANCELED,
}
_OPENING = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY}
_PROBE_BYTES = 256 << 10


class StateError(OSError):
    """An OSError whose text is for people: what is wrong, and with which file."""

    def __str__(self) -> str:
        return f"{self.strerror}: {self.filename}"


class Damaged(ValueError):
    """The file is no database of this store; the message says what is wrong with it."""


def files(path: Path) -> list[Path]:
    """All that one database may consist of."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]


class OSErrors:
    """A context in which what SQLite reports as failed is a StateError, with the errno that SQLite
    does not pass on as far as that can be found out: ENOSPC or EDQUOT for a full disk, EBUSY when
    another process has the database locked, else EIO."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: object
    ) -> None:
        if isinstance(error, sqlite3.Error):
            raise _explained(error, self._path) from error


def _explained(error: sqlite3.Error, path: Path) -> StateError:
    code = _code(error)
    number = _KNOWN.get(code, errno.EIO)
    if _extended_code(error) in _WRITING:
        number = _why_not_written(path)
    elif code in _OPENING:
        number, path = _why_not_opened(path)
    words = str(error) if number in {errno.EIO, errno.ECANCELED} else _words(number)
    return StateError(number, words, str(path))


def _why_not_written(path: Path) -> int:
    """Of a file like it, in the same place: a quota is not to be seen in what is free."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
            return error.errno
    return errno.EIO


def _why_not_opened(path: Path) -> tuple[int, Path]:
    """And which file. None of them is opened: to close it would take away SQLite's locks on it."""
    file = path.parent
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        if os.statvfs(file).f_flag & os.ST_RDONLY:
            return errno.EROFS, path
        for file in (path.parent, *(each for each in files(path) if os.path.lexists(each))):
            if file != path.parent and stat.S_ISDIR(file.stat().st_mode):
                return errno.EISDIR, file
            if not os.access(file, os.R_OK | os.W_OK, effective_ids=True):
                return errno.EACCES, file
    except OSError as error:
        return error.errno or errno.EIO, file
    return errno.EIO, path


@contextlib.contextmanager
def faults_are_damage() -> Iterator[None]:
    """What SQLite finds wrong is the file's fault, unless it could not read or write at all."""
    try:
        yield
    except sqlite3.Error as error:
        if _code(error) in _NO_DAMAGE or _extended_code(error) in _WRITING:
            raise
        raise Damaged(f"SQLite finds it damaged: {error}") from error


def in_words(error: OSError, path: Path) -> StateError:
    number = error.errno or errno.EIO
    return StateError(number, _words(number), str(path))


def _words(number: int) -> str:
    special = {
        errno.ENOSPC: "disk full",
        errno.EDQUOT: "disk full, by quota",
        errno.EBUSY: "another process has locked the state",
    }
    return special.get(number) or os.strerror(number)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code: the low byte of the extended one."""
    return _extended_code(error) & 0xFF


def _extended_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
