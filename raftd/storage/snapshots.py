"""Snapshots on disk: the newest one, whole and checked, and how a new one takes its place.

    snapshots/INDEX-TERM.snap    the state machine's own bytes (16 digits, and as many as it takes)
    snapshots/INDEX-TERM.meta    a document (raftd.storage.document) with its SnapshotMetadata
    snapshots/*.tmp*             being written, or left over; means nothing

A snapshot exists if and only if its .meta does. It is valid if and only if the .meta is, agrees
with its name, and the .snap has the size and the SHA-256 that stand there. The one with the highest
index counts. If that one is not valid the directory is damaged: an older one would take the node
back behind what it has told others, and maybe leave a gap to the log, so it is never used instead.

Adoption: fsync the file, rename it to .snap, fsync the directory, write the .meta (which is the
moment it counts), then remove what is older. What each crash leaves: before the .meta is durable,
the old snapshot and maybe a .snap without .meta, which is removed; behind it, the new one and maybe
parts of older ones, which are removed.
"""

from __future__ import annotations

import hashlib
import re
import threading
from pathlib import Path

from raftd.raft.state import SnapshotMetadata
from raftd.storage import document
from raftd.storage.errors import DirectoryDamaged, DiskFull, SnapshotRejected, is_full
from raftd.storage.files import Files

KIND = "snapshot"
_PIECE = 1 << 20
_NAME = re.compile(r"([0-9]{16,})-([0-9]+)\.(snap|meta)")


class SnapshotReader:
    """An open snapshot. Its file may be removed meanwhile. Close it."""

    def __init__(self, files: Files, path: Path, metadata: SnapshotMetadata) -> None:
        self._files = files
        self._handle = files.open(path)
        self.metadata = metadata

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer only at the end. OSError."""
        return self._files.read_all(self._handle, size, offset)

    def close(self) -> None:
        self._files.close(self._handle)


class Snapshots:
    """Thread-safe. `newest` is None as long as there is no snapshot."""

    def __init__(self, files: Files, directory: Path) -> None:
        """Reads only, the newest snapshot's bytes included. DirectoryDamaged, DirectoryMismatch."""
        self._files = files
        self._directory = directory
        self._adopting = threading.Lock()
        self._lock = threading.Lock()  # for `newest` and its path; never held during slow IO
        self._counter = 0
        self.newest: SnapshotMetadata | None = None
        if files.size(directory) is None:
            raise DirectoryDamaged(directory, "the directory of the snapshots is missing")
        if found := names_in(files, directory):
            self.newest = verified(files, directory, *found[-1])

    @property
    def file(self) -> Path | None:
        """The newest snapshot's bytes."""
        return None if self.newest is None else self._path(self.newest, "snap")

    def settle(self) -> list[str]:
        """Make durable what was read and remove what is left over; sentences about the latter."""
        self._files.fsync_dir(self._directory)
        return self._remove_others(temporary=True)

    def new_path(self) -> Path:
        """A path in the directory that nobody else uses; what is there is removed at a start."""
        with self._lock:
            self._counter += 1
            return self._directory / f"{self._counter}.tmp"

    def sync(self, path: Path, metadata: SnapshotMetadata) -> SnapshotMetadata:
        """fsync the file at `path`, from `new_path`; its metadata with size and checksum.

        They are compared where `metadata` has a checksum already. This is the slow part of an
        adoption and touches nothing else. SnapshotRejected, DiskFull: the
        file is removed, as nobody knows what an fsync that failed has left of it.
        """
        handle = self._files.open(path)
        try:
            self._files.fsync(handle)
            size, checksum = self._digest(handle)
        except OSError as error:
            if not is_full(error):
                raise
            self._files.unlink(path)
            raise DiskFull("write the snapshot", path, error.errno or 0) from error
        finally:
            self._files.close(handle)
        if metadata.checksum and (metadata.size, metadata.checksum) != (size, checksum):
            self._files.unlink(path)
            raise SnapshotRejected(
                f"the snapshot up to index {metadata.last_included_index} has {size} bytes with"
                f" SHA-256 {checksum}, not {metadata.size} with {metadata.checksum}; it was removed"
            )
        return SnapshotMetadata(
            metadata.last_included_index,
            metadata.last_included_term,
            metadata.configuration,
            size,
            checksum,
        )

    def adopt(self, path: Path, synced: SnapshotMetadata) -> SnapshotMetadata:
        """Make the file at `path`, as `sync` left it, the newest snapshot; durable on return.

        If it is not newer than what is here it is removed, and what is here is returned.
        DiskFull: the file stays at `path`, and the old snapshot the newest.
        """
        with self._adopting:
            newest = self.newest
            if newest and synced.last_included_index <= newest.last_included_index:
                self._files.unlink(path)
                return newest
            self._publish(path, synced)
            with self._lock:
                self.newest = synced
            self._remove_others(temporary=False)
            return synced

    def open(self) -> SnapshotReader | None:
        """The newest snapshot, to be read even when a newer one takes its place; None: there is
        none."""
        with self._lock:
            if self.newest is None:
                return None
            return SnapshotReader(self._files, self._path(self.newest, "snap"), self.newest)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes of the newest snapshot from `offset`, fewer only at its end."""
        with self._lock:
            path = self.file
            if path is None:
                return b""
            handle = self._files.open(path)
        try:
            return self._files.read_all(handle, size, offset)
        finally:
            self._files.close(handle)

    def _path(self, metadata: SnapshotMetadata, suffix: str) -> Path:
        index, term = metadata.last_included_index, metadata.last_included_term
        return self._directory / file_name(index, term, suffix)

    def _publish(self, path: Path, metadata: SnapshotMetadata) -> None:
        named = self._path(metadata, "snap")
        self._files.rename(path, named)
        self._files.fsync_dir(self._directory)
        try:
            document.write(self._files, self._path(metadata, "meta"), KIND, metadata)
        except DiskFull:
            self._files.rename(named, path)
            raise

    def _remove_others(self, *, temporary: bool) -> list[str]:
        """Older snapshots, and parts of such; a .meta before its .snap."""
        keep = set()
        if self.newest is not None:
            keep = {self._path(self.newest, suffix).name for suffix in ("snap", "meta")}
        names = [
            name
            for name in sorted(self._files.listdir(self._directory))
            if name not in keep and (_NAME.fullmatch(name) or (temporary and ".tmp" in name))
        ]
        for name in names:
            self._files.unlink(self._directory / name)
        if names:
            self._files.fsync_dir(self._directory)
        return [f"removed snapshots/{name}, which a crash left behind" for name in names]

    def _digest(self, handle: int) -> tuple[int, str]:
        return _digest(self._files, handle)


def names_in(files: Files, directory: Path) -> list[tuple[int, int]]:
    """Last index and term of each snapshot that is there, valid or not; oldest first."""
    found = [match for name in files.listdir(directory) if (match := _NAME.fullmatch(name))]
    return sorted((int(match[1]), int(match[2])) for match in found if match[3] == "meta")


def file_name(index: int, term: int, suffix: str) -> str:
    """`suffix`: "snap" or "meta"."""
    return f"{index:016d}-{term}.{suffix}"


def verified(files: Files, directory: Path, index: int, term: int) -> SnapshotMetadata:
    """The snapshot with that last index and term; every byte of it is read. DirectoryDamaged."""
    path = directory / file_name(index, term, "meta")
    metadata = document.read(files, path, KIND, SnapshotMetadata)
    if metadata is None or (metadata.last_included_index, metadata.last_included_term) != (
        index,
        term,
    ):
        raise DirectoryDamaged(path, "it speaks of another snapshot", last_index=index)
    file = directory / file_name(index, term, "snap")
    size = files.size(file)
    if size != metadata.size:
        reason = f"the snapshot has {size} bytes, not {metadata.size}"
        if size is None:
            reason = "the snapshot's bytes are missing"
        raise DirectoryDamaged(file, reason, first_index=1, last_index=index)
    handle = files.open(file)
    try:
        _, checksum = _digest(files, handle)
    finally:
        files.close(handle)
    if checksum != metadata.checksum:
        reason = "the snapshot's SHA-256 is not what it was"
        raise DirectoryDamaged(file, reason, first_index=1, last_index=index)
    return metadata


def _digest(files: Files, handle: int) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    while piece := files.read_all(handle, _PIECE, size):
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()
