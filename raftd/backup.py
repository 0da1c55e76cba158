"""A snapshot in a file of its own, for backups: the SQLite file, and behind it what it stands for.

    ...             the snapshot, byte for byte: a SQLite database, which sqlite3(1) opens
    BODY            one JSON object in ASCII: `Backup`'s fields, "sha256" and "size" of the above
    8 bytes         length of BODY, little-endian
    4 bytes         crc32 of BODY and the 8 bytes behind it, little-endian
    12 bytes        "raftd-backup"

SQLite knows its own size from its header and does not look behind that. A file is a valid backup if
and only if all of that is there and agrees. Standard library only: raftctl writes and checks such
files, too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

MAGIC = b"raftd-backup"
FORMAT = 1
_END = 8 + 4 + len(MAGIC)
_MAX_BODY = 4 << 20
_PIECE = 1 << 20
_HEX = re.compile(r"[0-9a-f]+")


class NoBackup(ValueError):
    """The file is no valid backup; the message says what is wrong with it."""


class Backup(NamedTuple):
    """What a snapshot stands for: all entries up to `last_included_index`.

    `members`: voters and their addresses. `cluster_id` in hexadecimal. `time_ms`: Unix time at
    which the backup was made, on `node`, by raftd `version`.
    """

    cluster_id: str
    last_included_index: int
    last_included_term: int
    members: Mapping[str, str]
    node: str
    version: str
    time_ms: int
    size: int = 0
    sha256: str = ""


class Writer:
    """Builds a backup at `path`, which must not exist; it gets its name when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.part")
        if path.exists():
            raise FileExistsError(errno.EEXIST, "there is a file already", str(path))
        self._temporary.unlink(missing_ok=True)
        self._file = _new(self._temporary)
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def finish(self, about: Backup) -> None:
        """Durable on return. NoBackup if what was written is not what `about` says."""
        sha256 = self._digest.hexdigest()
        if (about.size, about.sha256) != (self.size, sha256):
            raise NoBackup(
                f"{self.size} bytes with SHA-256 {sha256} came, not {about.size} with"
                f" {about.sha256}"
            )
        self._file.write(_trailer(about))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.link(self._temporary, self._path)  # never over a file that came meanwhile
        self._temporary.unlink()
        directory = os.open(self._path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def abandon(self) -> None:
        """Leave nothing behind, unless it is finished."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def read(path: Path) -> Backup:
    """What the backup at `path` says it is; its bytes are not read. NoBackup, OSError."""
    with path.open("rb") as file:
        return _about(file, path)


def verify(path: Path, progress: Callable[[int], None] = lambda _: None) -> Backup:
    """As `read`, and every byte is checked; `progress` is told how many were. NoBackup, OSError."""
    return extract(path, None, progress)


def extract(
    path: Path, to: Path | None, progress: Callable[[int], None] = lambda _: None
) -> Backup:
    """Check all of the backup at `path` and copy the snapshot in it to the new file `to`.

    What is copied is what was checked. NoBackup, OSError; then nothing is left at `to`.
    """
    with path.open("rb") as file:
        about = _about(file, path)
        file.seek(0)
        if to is None:
            _copy(file, None, about, path, progress)
            return about
        target = _new(to)
        try:
            with target:
                _copy(file, target, about, path, progress)
                target.flush()
                os.fsync(target.fileno())
        except BaseException:
            to.unlink(missing_ok=True)
            raise
    return about


def _copy(
    file: BinaryIO,
    target: BinaryIO | None,
    about: Backup,
    path: Path,
    progress: Callable[[int], None],
) -> None:
    digest = hashlib.sha256()
    done = 0
    while done < about.size:
        piece = file.read(min(_PIECE, about.size - done))
        if not piece:
            raise NoBackup(f"{path}: it became shorter while it was read")
        digest.update(piece)
        if target is not None:
            target.write(piece)
        done += len(piece)
        progress(done)
    if digest.hexdigest() != about.sha256:
        raise NoBackup(f"{path}: its SHA-256 is not what it was: the file is damaged")


def _about(file: BinaryIO, path: Path) -> Backup:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END))
    end = file.read(_END)
    if not end.endswith(MAGIC) or len(end) < _END:
        raise NoBackup(
            f"{path}: this is no backup made by `raftctl snapshot save`, or its end is missing"
        )
    length, checksum = int.from_bytes(end[:8], "little"), int.from_bytes(end[8:12], "little")
    if length > min(_MAX_BODY, size - _END):
        raise NoBackup(f"{path}: its end is damaged")
    file.seek(size - _END - length)
    body = file.read(length)
    if crc32(body + end[:8]) != checksum:
        raise NoBackup(f"{path}: its end is damaged (the checksum does not agree)")
    about = _decode(body, path)
    if about.size != size - _END - length:
        raise NoBackup(f"{path}: its snapshot has {size - _END - length} bytes, not {about.size}")
    return about


def _decode(body: bytes, path: Path) -> Backup:
    try:
        fields: dict[str, Any] = json.loads(body)
        number = fields.pop("format")
    except (ValueError, RecursionError, LookupError, AttributeError, TypeError):
        raise NoBackup(f"{path}: its end makes no sense") from None
    if isinstance(number, int) and number > FORMAT:
        raise NoBackup(
            f"{path}: format version {number} is newer than this raftd knows ({FORMAT}); update it"
        )
    try:
        about = Backup(**fields)
    except TypeError:
        raise NoBackup(f"{path}: its end makes no sense") from None
    numbers = (about.last_included_index, about.last_included_term, about.time_ms, about.size)
    texts = (about.node, about.version, about.cluster_id, about.sha256)
    if (
        number != FORMAT
        or any(type(each) is not int or each < 0 for each in numbers)
        or any(not isinstance(each, str) for each in texts)
        or len(about.cluster_id) != 32
        or not _HEX.fullmatch(about.cluster_id)
        or not isinstance(about.members, dict)
        or any(not isinstance(address, str) for address in about.members.values())
    ):
        raise NoBackup(f"{path}: its end makes no sense")
    return about


def _trailer(about: Backup) -> bytes:
    body = json.dumps({"format": FORMAT, **about._asdict()}, separators=(",", ":")).encode()
    length = len(body).to_bytes(8, "little")
    return body + length + crc32(body + length).to_bytes(4, "little") + MAGIC


def _new(path: Path) -> BinaryIO:
    """For its owner only: it has all that the cluster knows."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
