"""Snapshots taken, sent and received, as in raftd.driver.snapshots; and log reads for followers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from raftd.driver.snapshots import RETRY_INTERVAL
from raftd.raft.log import Entry
from raftd.raft.messages import InstallSnapshotRequest
from raftd.raft.progress import Mode
from raftd.raft.state import SnapshotMetadata
from raftd.raft.update import EntriesWanted, SnapshotChunk
from raftd.storage.disk import DiskFull, NotInLog, StorageFailed
from raftd.storage.errors import is_full
from tests.simulation.shadow import Attempt

if TYPE_CHECKING:
    from tests.simulation.process import Process

Key = tuple[int, str]


class Snapshots:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._disk = process.disk
        self._durable = process.node.durable
        self._limit = process.world.plan.snapshot_log_bytes
        self._kept_bytes = 0
        """What the last snapshot left of the log."""
        self._taking = False
        self._incoming: dict[Key, tuple[Path, int]] = {}
        self._to_install: set[Key] = set()

    # ---- for followers that are behind the log in memory

    def read_entries(self, wanted: EntriesWanted) -> None:
        """The read sees the log as it is now, or as it is when its time is over."""
        process = self._process
        early = self._read(wanted) if process.random.random() < 0.5 else None
        process.later(self._a_moment(), self._entries_read, wanted, early)

    def _entries_read(self, wanted: EntriesWanted, early: list[Entry] | None) -> None:
        entries = self._read(wanted) if early is None else early
        self._process.raft.entries_read(self._process.now(), wanted.peer, entries)
        self._process.kick()

    def _read(self, wanted: EntriesWanted) -> list[Entry]:
        last = self._process.raft.server.persisted_index
        try:
            return self._disk.read(wanted.first_index, last, wanted.max_bytes)
        except NotInLog:
            return []

    # ---- taken here

    def consider(self) -> None:
        grown = self._disk.used_bytes - self._kept_bytes
        if self._taking or grown <= self._limit or self._is_sending():
            return
        self._taking = True
        path = self._disk.snapshot_path()
        self._process.later(self._a_moment(), self._take, path)

    def _is_sending(self) -> bool:
        progress = self._process.raft.server.progress.values()
        return any(each.mode is Mode.SNAPSHOT for each in progress)

    def _take(self, path: Path) -> None:
        process = self._process
        server = process.raft.server
        try:
            index = process.machine.snapshot(path)
        except OSError as error:
            self._gave_up(path, error)
            return
        term = server.log.term(index)
        if term is None or index <= server.snapshot.last_included_index:
            self._remove(path)
            self._may_take()
            return
        configuration = next(
            members for at, members in reversed(server.configurations) if at <= index
        )
        metadata = SnapshotMetadata(index, term, configuration)
        process.world.outcomes.snapshot_taken(process, metadata)
        process.later(self._a_moment(), self._adopt, path, metadata)

    def _adopt(self, path: Path, metadata: SnapshotMetadata) -> None:
        attempt = Attempt(snapshot=metadata)
        self._durable.begin(attempt)
        try:
            adopted = self._disk.adopt_snapshot(path, metadata)
        except DiskFull as error:
            self._durable.full(attempt)
            self._gave_up(path, error)
            return
        attempt.snapshot = adopted
        self._durable.done(attempt)
        self._process.later(self._a_moment(), self._taken, adopted)

    def _taken(self, metadata: SnapshotMetadata) -> None:
        process = self._process
        compact_index = min(
            metadata.last_included_index, process.raft.server.log.tail_first_index - 1
        )
        if metadata.last_included_index <= process.raft.server.snapshot.last_included_index:
            process.world.count("own snapshot overtaken")
        process.raft.snapshot_taken(process.now(), metadata, compact_index)
        process.world.count("snapshot taken")
        process.world.say(
            f"{process.name} has taken a snapshot up to {metadata.last_included_index}"
            f" and compacts up to {compact_index}"
        )
        process.later(self._a_moment(), self._compact, compact_index)

    def _compact(self, index: int) -> None:
        self._disk.compact(index)
        self._may_take()

    def _gave_up(self, path: Path, error: Exception) -> None:
        process = self._process
        process.world.say(f"{process.name} takes no snapshot: {error}")
        self._remove(path)
        process.later(RETRY_INTERVAL, self._may_take)

    def _may_take(self) -> None:
        self._taking = False
        self._kept_bytes = self._disk.used_bytes

    def _a_moment(self) -> float:
        process = self._process
        return (process.world.plan.disk_latency + process.node.slow_disk) * process.random.random()

    def _remove(self, path: Path) -> None:
        if self._process.files.size(path) is not None:
            self._process.files.unlink(path)

    # ---- sent to a follower

    def fill(self, request: InstallSnapshotRequest) -> InstallSnapshotRequest | None:
        if self._disk.snapshot.last_included_index != request.last_included_index:
            return None
        size = min(self._process.settings.snapshot_chunk_bytes, request.size - request.offset)
        data = self._disk.read_snapshot(request.offset, size)
        return msgspec.structs.replace(request, data=data)

    # ---- received from a leader

    def take_chunk(self, chunk: SnapshotChunk) -> None:
        self._process.later(self._a_moment(), self._write_chunk, chunk)

    def _write_chunk(self, chunk: SnapshotChunk) -> None:
        held = self._store(chunk.request)
        process = self._process
        request = chunk.request
        if request.done and held == request.size:
            self._to_install.add((request.last_included_index, request.checksum))
        process.raft.chunk_written(process.now(), chunk.sender, request, held)
        process.kick()

    def _store(self, request: InstallSnapshotRequest) -> int:
        """How many bytes of that snapshot are here; 0 if it proved damaged."""
        key = (request.last_included_index, request.checksum)
        if key in self._to_install:
            return request.size
        for other in [each for each in self._incoming if each != key]:
            if other not in self._to_install:
                self._remove(self._incoming.pop(other)[0])
        path, received = self._incoming.get(key) or (self._disk.snapshot_path(), 0)
        files = self._process.files
        if request.offset == received:
            try:
                new = files.size(path) is None
                handle = files.create(path) if new else files.open(path)
                files.write_all(handle, request.data, request.offset)
                files.close(handle)
                received += len(request.data)
            except OSError:
                pass  # the leader will send it again
        self._incoming[key] = path, received
        if request.done and received == request.size and not self._is_whole(path, request):
            del self._incoming[key]
            self._remove(path)
            return 0
        return received

    def _is_whole(self, path: Path, request: InstallSnapshotRequest) -> bool:
        """Durable, and what the leader has."""
        files = self._process.files
        handle = files.open(path)
        try:
            files.fsync(handle)
            data = files.read_all(handle, request.size, 0)
        except OSError as error:
            if not is_full(error):
                raise StorageFailed("fsync", path, error.errno or 0) from error
            return False
        finally:
            files.close(handle)
        return hashlib.sha256(data).hexdigest() == request.checksum

    def install(self, metadata: SnapshotMetadata) -> None:
        """Put the received snapshot in place of the log. Raises DiskFull."""
        path = self._incoming[metadata.last_included_index, metadata.checksum][0]
        attempt = Attempt(snapshot=metadata)
        self._durable.begin(attempt)
        try:
            self._disk.install_snapshot(path, metadata)
        except DiskFull:
            self._durable.full(attempt)
            raise
        self._durable.done(attempt)

    def installed(self, metadata: SnapshotMetadata, then: Callable[[], None]) -> None:
        """And then in place of the state."""
        key = (metadata.last_included_index, metadata.checksum)
        self._incoming.pop(key, None)
        self._to_install.discard(key)
        file = self._disk.snapshot_file
        assert file is not None
        self._process.applier.restore(file, metadata.last_included_index)
        self._process.world.count("snapshot installed")
        then()
