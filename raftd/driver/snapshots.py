"""Snapshots on their way: taken here, sent to a follower in chunks, received from a leader."""

from __future__ import annotations

import hashlib
import logging
import os
from errno import EIO
from pathlib import Path
from typing import NoReturn

import msgspec
import trio

from raftd.driver import restoring
from raftd.driver.applier import Applier
from raftd.driver.life import Life
from raftd.driver.offload import Offload
from raftd.driver.restoring import FULL
from raftd.raft.messages import InstallSnapshotRequest
from raftd.raft.progress import Mode
from raftd.raft.raft import Raft
from raftd.raft.state import SnapshotMetadata
from raftd.state_machine import StateMachine
from raftd.storage.disk import Disk, DiskFull, SnapshotRejected, StorageFailed

LOOK_INTERVAL = 0.1
"""Seconds between two looks at how much the log has grown."""
RETRY_INTERVAL = 30.0
"""Seconds after a snapshot that could not be taken."""
_PAUSE = 1.0
"""Seconds before a leader is asked again for what could not be stored, or used."""

_PATIENCE = 8
"""How many times the usual log may pile up before a follower has to start over."""

log = logging.getLogger("raftd.driver")


class SnapshotFailed(Exception):
    """No space, or the state could not be read: nothing has changed. Or the disk has failed: then
    the node ends."""


class Snapshots:
    """Takes one when the log behind the last one has grown by `log_bytes`, or when asked to.

    `tail_bytes` of the log stay on disk behind it, so that a follower that is a little behind
    needs no snapshot.
    """

    def __init__(
        self,
        raft: Raft,
        disk: Disk,
        state_machine: StateMachine,
        applier: Applier,
        life: Life,
        offload: Offload,
        log_bytes: int,
        tail_bytes: int,
    ) -> None:
        self._raft = raft
        self._disk = disk
        self._state_machine = state_machine
        self._applier = applier
        self._life = life
        self._offload = offload
        self._log_bytes = log_bytes
        self._tail_bytes = tail_bytes
        self.taking = trio.Lock()
        """Whoever holds it is the only one who changes which snapshot is the newest."""
        self._kept_bytes = 0
        """What the last snapshot left of the log: its newest segments are never dropped."""
        self._writing = trio.Lock()
        self._path: Path | None = None
        self._incoming: tuple[int, str] | None = None
        self._received = 0
        self._complete: dict[tuple[int, str], Path] = {}
        """Received as a whole and verified, by last index and checksum."""
        self._to_install: set[tuple[int, str]] = set()
        """There may be more than one: the leader's next can be complete while one is installed."""

    # ---- taken here

    async def run(self) -> None:
        """Take snapshots as the log grows."""
        while True:
            await self._applier.changed.wait()
            await trio.sleep(LOOK_INTERVAL)
            grown = self._disk.used_bytes - self._kept_bytes
            patience = _PATIENCE if self._is_sending() else 1
            if grown > self._log_bytes * patience:
                try:
                    await self.take()
                except SnapshotFailed as error:
                    log.warning("no snapshot was taken: %s", error)
                    await trio.sleep(RETRY_INTERVAL)
                self._kept_bytes = self._disk.used_bytes

    def _is_sending(self) -> bool:
        """A follower is fed from the snapshot we have: replacing it would start that over. One
        that does not answer is no reason to let the log grow."""
        return any(
            each.mode is Mode.SNAPSHOT and each.answers
            for each in self._raft.server.progress.values()
        )

    async def take(self) -> None:
        """A snapshot of what is applied now, unless there is one. SnapshotFailed."""
        async with self.taking:
            if self._applier.diverged is not None:
                raise SnapshotFailed("this node's state is not to be believed")
            if self._applier.applied_index > self._disk.snapshot.last_included_index:
                try:
                    await self._take()
                except StorageFailed as error:
                    self._fail(error)

    async def adopt(self, path: Path, metadata: SnapshotMetadata) -> SnapshotMetadata:
        """Make a leader's snapshot the newest, if it is, for whoever holds `taking`; the newest.
        SnapshotFailed."""
        index = metadata.last_included_index
        try:
            await self._offload(restoring.check, self._state_machine, path, index)
            return await self._offload(self._disk.adopt_snapshot, path, metadata)
        except (OSError, DiskFull, SnapshotRejected) as error:
            raise SnapshotFailed(str(error)) from error
        except StorageFailed as error:
            self._fail(error)

    def _fail(self, error: StorageFailed) -> NoReturn:
        """Who asked for a snapshot is told, and the node ends."""
        self._life.fail(error)
        raise SnapshotFailed(str(error)) from error

    async def _take(self) -> None:
        path = self._disk.snapshot_path()
        try:
            index = await self._offload(self._state_machine.snapshot, path)
        except OSError as error:
            await self._offload(_remove, path)
            raise SnapshotFailed(str(error)) from error
        metadata = self._describe(index)
        if metadata is None:
            await self._offload(_remove, path)
            return
        server = self._raft.server
        try:
            metadata = await self._offload(self._disk.adopt_snapshot, path, metadata)
        except DiskFull as error:
            await self._offload(_remove, path)
            raise SnapshotFailed(str(error)) from error
        kept = min(server.log.tail_first_index, self._disk.tail_start(self._tail_bytes))
        compact_index = max(server.log.base_index, min(index, kept - 1))
        self._raft.snapshot_taken(trio.current_time(), metadata, compact_index)
        await self._offload(self._disk.compact, compact_index)
        log.info(
            "took a snapshot of %d bytes up to entry %d; the log begins at %d now",
            metadata.size,
            index,
            self._disk.first_index,
        )

    def _describe(self, index: int) -> SnapshotMetadata | None:
        """Of a snapshot up to `index`; None: there is no use for it."""
        server = self._raft.server
        if index <= server.snapshot.last_included_index:
            return None  # overtaken by one from the leader: nothing is known of what is before that
        term = server.log.term(index)
        configuration = next(
            members for at, members in reversed(server.configurations) if at <= index
        )
        # A new member that has not come to its own admission knows no members: it can wait.
        if term is None or not configuration.members:
            return None
        return SnapshotMetadata(index, term, configuration)

    # ---- sent to a follower

    async def fill(self, request: InstallSnapshotRequest) -> InstallSnapshotRequest | None:
        """The request with its chunk of data; None if that snapshot is no longer here."""
        if self._disk.snapshot.last_included_index != request.last_included_index:
            return None
        size = min(self._raft.server.settings.snapshot_chunk_bytes, request.size - request.offset)
        data = await self._offload(self._disk.read_snapshot, request.offset, size)
        return msgspec.structs.replace(request, data=data)

    # ---- received from a leader

    async def write_chunk(self, request: InstallSnapshotRequest) -> int:
        """Store a chunk; the number of bytes held of that snapshot, 0 if it proved damaged."""
        async with self._writing:
            return await self._write_next(request)

    async def _write_next(self, request: InstallSnapshotRequest) -> int:
        key = (request.last_included_index, request.checksum)
        if key in self._complete:
            return request.size
        if self._incoming != key or self._path is None:
            if self._path is not None:
                await self._offload(_remove, self._path)
            self._incoming, self._received = key, 0
            self._path = self._disk.snapshot_path()
        if request.offset == self._received:
            try:
                await self._offload(_write, self._path, request.offset, request.data)
            except OSError as error:
                log.warning("cannot store a part of the leader's snapshot: %s", error)
                await trio.sleep(_PAUSE)
                return self._received
            self._received += len(request.data)
        if request.done and self._received == request.size:
            try:
                await self._offload(self._check, self._path, request)
            except (SnapshotRejected, OSError) as error:
                log.warning("a received snapshot cannot be used: %s; asking again", error)
                self._received = 0
                await trio.sleep(_PAUSE)
                return 0
            self._complete[key] = self._path
            self._path = self._incoming = None
        return self._received

    def _check(self, path: Path, request: InstallSnapshotRequest) -> None:
        """Before the log is dropped for it: a state is all that is left then."""
        if _durable_sha256(path) != request.checksum:
            raise SnapshotRejected("its checksum is wrong")
        restoring.check(self._state_machine, path, request.last_included_index)

    def expect(self, metadata: SnapshotMetadata) -> None:
        """`install` is going to be called for it."""
        self._to_install.add(_key(metadata))

    async def discard_others(self, installing: SnapshotMetadata | None) -> None:
        """Remove what was received and is not going to be installed."""
        wanted = {*self._to_install, *([] if installing is None else [_key(installing)])}
        paths = [self._complete.pop(key) for key in self._complete.keys() - wanted]
        for path in paths:
            await self._offload(_remove, path)

    async def install(self, metadata: SnapshotMetadata) -> None:
        """Put the received snapshot in place of log and state. DiskFull: call it again."""
        key = _key(metadata)
        if key in self._complete:  # else that was done, and then the disk was full
            await self._offload(self._disk.install_snapshot, self._complete[key], metadata)
            del self._complete[key]
        snapshot_file = self._disk.snapshot_file
        assert snapshot_file is not None
        await self._applier.restore(snapshot_file, metadata.last_included_index)
        self._to_install.discard(key)


def _key(metadata: SnapshotMetadata) -> tuple[int, str]:
    return (metadata.last_included_index, metadata.checksum)


def _write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b" if path.exists() else "wb") as file:
        file.seek(offset)
        file.truncate()
        file.write(data)


def _durable_sha256(path: Path) -> str:
    """Of bytes that are on disk for sure; empty if there was no space for them."""
    with path.open("r+b") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in FULL:
                raise StorageFailed("fsync", path, error.errno or EIO) from error
            return ""
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
