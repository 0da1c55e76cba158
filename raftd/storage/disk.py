"""A node's data directory: the one way into raftd.storage. Synchronous; meant for worker threads.

`Disk.open` locks the directory, checks all of it, puts in order what a crash left unfinished, and
begins a new life of the node. Then `save` makes term, vote and entries durable, `adopt_snapshot`
and `install_snapshot` a snapshot, and `compact` gives back the space of entries it covers.

One thread at a time may call what changes hard state and log (`save`, `install_snapshot`,
`close`); a second one waits. All else may run beside it, in any thread.

After a failed write or fsync nobody knows what is on disk, and a second fsync would not tell, so
every further call raises StorageFailed; the next life recovers from what really is there. The
exception is running out of space: DiskFull, nothing has changed, and a later call may succeed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry, EntryType
from raftd.raft.state import HardState, SnapshotMetadata
from raftd.storage.change import Change, Health
from raftd.storage.directory import (
    Closed,
    Directory,
    Identity,
    NodeDocument,
    PeerIdentity,
    Standing,
    life,
    membership_index,
    new_node_id,
)
from raftd.storage.errors import (
    DirectoryDamaged,
    DirectoryLocked,
    DirectoryMismatch,
    DiskFull,
    NotInLog,
    SnapshotRejected,
    StorageError,
    StorageFailed,
    storage_errors,
)
from raftd.storage.files import REAL_FILES, Files, RealFiles
from raftd.storage.opening import LastApplied, Opened, no_snapshot, open_directory
from raftd.storage.segment import MAX_SEGMENT, MIN_SEGMENT, SECTOR
from raftd.storage.snapshots import SnapshotReader
from raftd.storage.wal import SegmentDescription

__all__ = [
    "DirectoryDamaged",
    "DirectoryLocked",
    "DirectoryMismatch",
    "Disk",
    "DiskFull",
    "Files",
    "Identity",
    "NotInLog",
    "PeerIdentity",
    "RealFiles",
    "SegmentDescription",
    "SnapshotReader",
    "SnapshotRejected",
    "Standing",
    "StorageError",
    "StorageFailed",
    "life",
    "membership_index",
]

CLUSTER_ID_BYTES = 16
NEWER = 2
"""The format of a directory that the first raftd does not know all of."""


class Disk:
    """An open data directory. `identity`, `recovered`, `was_clean` and `same_boot` do not change.

    `recovered`: what the node starts from. `notes`: what recovery did, as sentences.
    `was_clean`: the last life closed the directory. `same_boot`: the machine has not restarted
    since the last life began; both are false in the first life.
    """

    def __init__(self, opened: Opened) -> None:
        """Not for callers: see `open`."""
        self._directory = opened.directory
        self._document = opened.document
        self._hard_state = opened.hard_state
        self._snapshots = opened.snapshots
        self._wal = opened.wal
        self._peers = opened.peers
        self._standing = opened.standing
        self._health = Health()
        self._writing = threading.Lock()
        self._peers_lock = threading.Lock()
        self._saving = Change(self._health, "write to", opened.directory.path)
        self.identity = opened.document.identity
        self.notes = opened.notes
        self.was_clean = opened.was_clean
        self.same_boot = opened.same_boot
        self.recovered = opened.recovered

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        name: str,
        cluster_id: bytes,
        initial: Configuration,
        membership_index: int = 0,
        segment_bytes: int = 64 << 20,
        tail_bytes: int = 16 << 20,
        last_applied: LastApplied = lambda _: 0,
        files: Files = REAL_FILES,
    ) -> Disk:
        """Open the data directory of node `name`, or make a new one there.

        `cluster_id` (16 bytes), `initial` and `membership_index` count only for a new one.
        `segment_bytes`, at least 4096, counts for new segments. `recovered.tail` has at most
        `tail_bytes`, and at most what a start reads ahead. `last_applied` is called once, before
        anything is changed: it opens the state machine, told whether to trust what is there (False
        after a crash of the machine), and says what that has applied.

        Raises DirectoryLocked, DirectoryMismatch, DirectoryDamaged, DiskFull, StorageFailed.
        """
        if not MIN_SEGMENT <= segment_bytes <= MAX_SEGMENT:
            raise ValueError(f"a segment has {MIN_SEGMENT} to {MAX_SEGMENT} bytes")
        if len(cluster_id) != CLUSTER_ID_BYTES:
            raise ValueError(f"a cluster id has {CLUSTER_ID_BYTES} bytes")
        segment_bytes -= segment_bytes % SECTOR
        with storage_errors("open", directory, full_passes=True):
            locked = Directory(files, directory)
            try:
                identity = Identity(name, new_node_id(membership_index, files), cluster_id, 0)
                new = NodeDocument(identity, initial)
                return cls(
                    open_directory(files, locked, new, segment_bytes, tail_bytes, last_applied)
                )
            except BaseException:
                locked.close()
                raise

    @property
    def known_peers(self) -> Mapping[str, PeerIdentity]:
        """The newest life of each peer that was remembered, by name. It never changes; what is
        remembered later is in a new one."""
        return self._peers

    @property
    def standing(self) -> Standing:
        """What this node was told about itself."""
        return self._standing

    @property
    def initial(self) -> Configuration:
        """The members the cluster began with, as far as this directory was told."""
        return self._document.initial

    @property
    def first_index(self) -> int:
        """Of the log on disk, which may reach back behind the snapshot."""
        return self._wal.first_index

    @property
    def last_index(self) -> int:
        return self._wal.last_index

    @property
    def used_bytes(self) -> int:
        """Bytes of the log's files that are written."""
        return self._wal.used_bytes

    @property
    def size_bytes(self) -> int:
        """Bytes that the log's files and the snapshot take on disk."""
        return self._wal.size_bytes + self.snapshot.size

    @property
    def snapshot(self) -> SnapshotMetadata:
        """The newest one; index 0 and the initial members if there is none."""
        return self._snapshots.newest or no_snapshot(self._document)

    @property
    def snapshot_file(self) -> Path | None:
        return self._snapshots.file

    @property
    def spare_wanted(self) -> bool:
        """`prepare_spare` should be called soon, or a save will have to wait for a new segment."""
        return self._wal.spare_wanted

    def remember_peer(self, name: str, node_id: bytes, incarnation: int) -> None:
        """Note the newest life of a peer; durable on return. DiskFull, StorageFailed."""
        with self._peers_lock, self._changing("write", self._directory.path):
            known = PeerIdentity(node_id, incarnation)
            if self._peers.get(name) != known:
                peers = {**self._peers, name: known}
                self._directory.store_peers(peers)
                self._peers = peers

    def note_standing(self, standing: Standing) -> None:
        """Durable on return. DiskFull, StorageFailed."""
        with self._peers_lock, self._changing("write", self._directory.path):
            if self._standing != standing:
                self._directory.store_standing(standing)
                self._standing = standing

    def save(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Make the hard state, then the entries durable: one write and one fdatasync each.

        Entries are contiguous; the first supersedes what the log has at and behind its index.
        DiskFull: the log is as before (the hard state may be saved already; saving it again is
        harmless). StorageFailed: final.
        """
        with self._writing, self._saving:
            if hard_state is not None:
                self._hard_state.save(hard_state)
            if entries:
                if self._document.format < NEWER and any(
                    entry.type > EntryType.CONFIGURATION for entry in entries
                ):
                    self._raise_format()
                assert entries[-1].term <= self._hard_state.value.current_term, "term not saved"
                self._wal.append(entries)

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Saved entries from `first`, at most to `last`, at most `max_bytes`, at least one.

        NotInLog if there is none at `first`. DirectoryDamaged if what is there is not what was
        saved. Both, and a failure to read, leave the disk usable.
        """
        self._health.check()
        with storage_errors("read from", self._directory.wal):
            return self._wal.read(first, last, max_bytes)

    def segments(self) -> list[SegmentDescription]:
        """The log's files, oldest first."""
        return self._wal.segments()

    def prepare_spare(self) -> None:
        """Make the log's next segment ahead, in a background thread. DiskFull, StorageFailed."""
        with self._changing("make a segment in", self._directory.wal):
            self._wal.prepare_spare()

    def snapshot_path(self) -> Path:
        """A fresh path to write a new snapshot to; whatever is left there is gone at a restart."""
        return self._snapshots.new_path()

    def adopt_snapshot(self, path: Path, metadata: SnapshotMetadata) -> SnapshotMetadata:
        """Make the file at `path` the newest snapshot, durably, and remove older ones.

        Returns its metadata with size and checksum. If `metadata` has a checksum already, they
        must agree: else SnapshotRejected. If a snapshot that is as new is here already, its
        metadata is returned. The file is gone afterwards, also with SnapshotRejected; with
        DiskFull it stays if its own bytes were all durable.
        """
        with self._changing("adopt the snapshot", path):
            return self._snapshots.adopt(path, self._snapshots.sync(path, metadata))

    def install_snapshot(self, path: Path, metadata: SnapshotMetadata) -> None:
        """`adopt_snapshot` for one that came from the leader (Figure 13).

        If the log has the snapshot's last entry, with its term, the entries behind it stay; else
        the log is empty then and goes on at last_included_index + 1. A crash at any point leaves
        the old state or, once the snapshot is durable, the new one: the start finishes it. One
        that is not newer than the snapshot here changes nothing. The file is gone afterwards,
        also with SnapshotRejected; with DiskFull it stays, for another try, if its own bytes were
        all durable.
        """
        with self._changing("install the snapshot", path):
            synced = self._snapshots.sync(path, metadata)
        with self._writing, self._changing("install the snapshot", path):
            end = synced.last_included_index
            stale = end <= self.snapshot.last_included_index
            if stale or self._wal.term(end) == synced.last_included_term:
                self._snapshots.adopt(path, synced)
                return
            # All space is taken before the first step that counts, so that DiskFull can end this.
            prepared = self._wal.prepare_restart(end + 1)
            try:
                adopted = self._snapshots.adopt(path, synced)
            except DiskFull:
                self._wal.cancel_restart(prepared)
                raise
            if adopted.last_included_index > end:
                self._wal.cancel_restart(prepared)
                return
            self._wal.finish_restart(prepared)

    def read_snapshot(self, offset: int, size: int) -> bytes:
        """`size` bytes of the newest snapshot from `offset`, fewer only at its end."""
        self._health.check()
        with storage_errors("read from", self._directory.snapshots):
            return self._snapshots.read(offset, size)

    def open_snapshot(self) -> SnapshotReader | None:
        """The newest snapshot, as long as it is needed; None: there is none."""
        self._health.check()
        with storage_errors("read from", self._directory.snapshots):
            return self._snapshots.open()

    def tail_start(self, tail_bytes: int) -> int:
        """The first index of the newest files of the log that have at least `tail_bytes`."""
        start, size = self.last_index + 1, 0
        for segment in reversed(self.segments()):
            if size >= tail_bytes:
                break
            size += segment.used_bytes
            start = start if segment.first_index is None else segment.first_index
        return start

    def scratch_path(self) -> Path:
        """Where a state machine may have files for a while; whoever uses it removes it."""
        return self._directory.path / "scratch"

    def compact(self, index: int) -> None:
        """Delete the segments that hold only entries up to `index` and up to the snapshot's end."""
        with self._changing("delete segments in", self._directory.wal):
            self._wal.compact(min(index, self.snapshot.last_included_index))

    def close(self, clean: bool = True) -> None:
        """Give up the directory. `clean`: say durably that it was closed, and where it ended.

        Not said after a failure. Raises DiskFull or StorageFailed if that cannot be written; the
        directory is closed all the same.
        """
        with self._writing:
            if self._health.closed:
                return
            try:
                if clean and self._health.failure is None:
                    with self._saving:
                        self._say_closed()
            finally:
                self._health.closed = True
                self._wal.close()
                self._hard_state.close()
                self._directory.close()

    def raise_format(self) -> None:
        """Say durably that there is something here that the first raftd does not know. DiskFull,
        StorageFailed."""
        with self._writing, self._saving:
            if self._document.format < NEWER:
                self._raise_format()

    def _raise_format(self) -> None:
        document = msgspec.structs.replace(self._document, format=NEWER)
        self._directory.store(document)
        self._document = document

    def _say_closed(self) -> None:
        """Only once no broken frame is left: behind this word, a torn tail is damage."""
        self._wal.settle()
        closed = Closed(self._wal.last_index, self._hard_state.value)
        document = self._document
        self._directory.store(msgspec.structs.replace(document, closed=closed))

    def _changing(self, what: str, path: Path) -> Change:
        return Change(self._health, what, path)
