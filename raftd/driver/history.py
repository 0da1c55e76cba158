"""Snapshots for people, and the state as it was: behind any entry that snapshot and log reach."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

import raftd
from raftd.driver.applier import Applier
from raftd.driver.errors import NoSuchState, Refused
from raftd.driver.offload import Offload
from raftd.driver.reports import SnapshotInfo
from raftd.driver.snapshots import SnapshotFailed, Snapshots
from raftd.raft.configuration import Configuration
from raftd.raft.raft import Raft
from raftd.raft.state import SnapshotMetadata
from raftd.replay import replay
from raftd.state_machine import StateMachine
from raftd.storage.disk import Disk, NotInLog, SnapshotReader, StorageError

_PIECE = 1 << 20


class State:
    """Bytes of a snapshot, newest or made for this, and what it stands for."""

    def __init__(self, info: SnapshotInfo, reader: SnapshotReader | Path, offload: Offload) -> None:
        self.info = info
        self._reader = reader
        self._offload = offload

    async def read(self, offset: int, size: int) -> bytes:
        """Raises Refused if the disk does not give it."""
        try:
            if isinstance(self._reader, Path):
                return await self._offload(_read, self._reader, offset, size)
            return await self._offload(self._reader.read, offset, size)
        except OSError as error:
            raise Refused(f"the snapshot cannot be read: {error}") from error


class History:
    """`scratch` of the disk is this one's."""

    def __init__(
        self,
        raft: Raft,
        disk: Disk,
        state_machine: StateMachine,
        applier: Applier,
        snapshots: Snapshots,
        offload: Offload,
    ) -> None:
        self._raft = raft
        self._disk = disk
        self._state_machine = state_machine
        self._applier = applier
        self._snapshots = snapshots
        self._offload = offload
        self._replaying = trio.Lock()
        with suppress(OSError):
            _remove(disk.scratch_path())

    async def take(self) -> SnapshotInfo:
        """Raises Refused if none can be taken."""
        try:
            await self._snapshots.take()
        except SnapshotFailed as error:
            raise Refused(f"no snapshot was taken: {error}") from error
        if not self.snapshots():
            raise Refused("nothing has been applied yet, so there is nothing to take")
        return self.snapshots()[0]

    def snapshots(self) -> list[SnapshotInfo]:
        """The newest first."""
        metadata = self._disk.snapshot
        return [self._info(metadata)] if metadata.last_included_index else []

    @asynccontextmanager
    async def state(self, at: int | None) -> AsyncIterator[State]:
        """The newest snapshot (one is taken if there is none), or the state behind entry `at`.

        Raises NoSuchState, Refused.
        """
        if at is not None:
            async with self._replaying:
                try:
                    yield await self._replayed(at)
                finally:
                    with trio.CancelScope(shield=True):
                        await self._offload(_remove, self._disk.scratch_path())
            return
        if not self._disk.snapshot.last_included_index:
            await self.take()
        try:
            reader = self._disk.open_snapshot()
        except StorageError as error:
            raise Refused(str(error)) from error
        assert reader is not None
        try:
            yield State(self._info(reader.metadata), reader, self._offload)
        finally:
            reader.close()

    async def _replayed(self, at: int) -> State:
        first, last = self._reach()
        if not first <= at <= last:
            raise NoSuchState(at, first, last)
        server = self._raft.server
        term = server.log.term(at)
        if at == server.snapshot.last_included_index:
            term = server.snapshot.last_included_term
        if term is None:
            raise NoSuchState(at, first, last)
        members = server.snapshot.configuration
        for index, configuration in server.configurations:
            members = configuration if index <= at else members
        try:
            return await self._offload(self._replay, at, term, members)
        except (NotInLog, FileNotFoundError) as error:
            raise Refused(f"the log became shorter meanwhile; try again ({error})") from error
        except (OSError, StorageError, ValueError) as error:
            raise Refused(f"the state cannot be made: {error}") from error

    def _reach(self) -> tuple[int, int]:
        """The first and the last entry behind which the state can be had."""
        first = self._disk.snapshot.last_included_index
        if self._disk.first_index == 1 and self._raft.server.log.first_index == 1:
            first = 1
        return max(1, first), self._applier.applied_index

    def _replay(self, at: int, term: int, members: Configuration) -> State:
        """In a worker thread, beside the running state machine."""
        place = self._disk.scratch_path()
        _remove(place)
        place.mkdir(mode=0o700)
        machine = self._state_machine.scratch(place / "state")
        try:
            reader = self._disk.open_snapshot()
            if reader is not None:
                if reader.metadata.last_included_index <= at:
                    _copy(reader, place / "base")
                    machine.restore(place / "base")
                reader.close()
            replay(machine, self._disk.read, at)
            file = place / "snapshot"
            machine.snapshot(file)
        finally:
            machine.close()
        with file.open("rb") as data:
            checksum = hashlib.file_digest(data, "sha256").hexdigest()
        metadata = SnapshotMetadata(at, term, members, file.stat().st_size, checksum)
        return State(self._info(metadata), file, self._offload)

    def _info(self, metadata: SnapshotMetadata) -> SnapshotInfo:
        identity = self._disk.identity
        return SnapshotInfo(
            identity.cluster_id.hex(),
            metadata.last_included_index,
            metadata.last_included_term,
            dict(metadata.configuration.addresses),
            identity.name,
            raftd.__version__,
            time.time_ns() // 1_000_000,
            metadata.size,
            metadata.checksum,
        )


def _copy(reader: SnapshotReader, to: Path) -> None:
    with to.open("xb") as file:
        offset = 0
        while piece := reader.read(offset, _PIECE):
            file.write(piece)
            offset += len(piece)


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _remove(place: Path) -> None:
    """Whatever it is: rmtree opens what it is given, and waits for ever at a pipe."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
