"""The data directory of a node that does not run, for tools that look before they touch.

`Stopped` takes the lock, so that no daemon starts meanwhile. `load` reads and checks all that a
start would, and changes nothing; `seed` makes a new directory that begins with a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec

from raftd.raft.log import Entry
from raftd.raft.state import HardState, SnapshotMetadata
from raftd.storage.directory import (
    Closed,
    Directory,
    Identity,
    NodeDocument,
    PeerIdentity,
    new_node_id,
)
from raftd.storage.errors import DirectoryMismatch, storage_errors
from raftd.storage.files import Files
from raftd.storage.hard_state import HardStateFile
from raftd.storage.opening import check_applied, check_together, no_snapshot
from raftd.storage.recovery import Recovery, recover
from raftd.storage.snapshots import Snapshots
from raftd.storage.wal import Wal

_SEGMENT_BYTES = 64 << 20


class Loaded(msgspec.Struct):
    """All that a start would find. `snapshot` has index 0 if there is none."""

    document: NodeDocument
    peers: dict[str, PeerIdentity]
    hard_state: HardState
    snapshot: SnapshotMetadata
    snapshot_file: Path | None
    recovery: Recovery

    @property
    def first_index(self) -> int:
        """Of the log; one more than `last_index` while it has no entry."""
        return self.recovery.restart_at or self.recovery.log.index.first_index

    @property
    def last_index(self) -> int:
        """Of log and snapshot together."""
        if self.recovery.restart_at is not None:
            return self.snapshot.last_included_index
        return max(self.recovery.log.index.last_index, self.snapshot.last_included_index)

    @property
    def last_term(self) -> int:
        if self.recovery.restart_at is not None:
            return self.snapshot.last_included_term
        return self.recovery.log.index.last_term or self.snapshot.last_included_term


class Stopped:
    """Use it as a context; its end gives up the lock."""

    def __init__(
        self, files: Files, path: Path, last_applied: Callable[[Path], int] = lambda _: 0
    ) -> None:
        """`last_applied` tells what the state machine in the directory has applied; it is asked
        only if that may be trusted. DirectoryLocked, DirectoryMismatch (nothing of raftd's is
        there), StorageFailed."""
        self._last_applied = last_applied
        self.files = files
        self.path = path
        with storage_errors("open", path):
            self.directory = Directory(files, path, make=False)

    def load(self, files: Files | None = None, *, any_end: bool = False) -> Loaded:
        """Read and check everything; `files`: the same directory in another view. With `any_end`
        the log may end elsewhere than where it was closed.

        DirectoryDamaged, DirectoryMismatch, StorageFailed.
        """
        files = files or self.files
        with storage_errors("read", self.path):
            directory = self.directory.seen_through(files)
            document = directory.load(None)
            if document is None:
                raise DirectoryMismatch(
                    self.path,
                    "the making of this directory was broken off and nothing was ever promised"
                    " from it; start the node, which makes it anew",
                )
            peers = directory.load_peers()
            hard_state = HardStateFile(files, directory.hard_state)
            try:
                snapshots = Snapshots(files, directory.snapshots)
                newest = snapshots.newest or no_snapshot(document)
                recovery = recover(files, directory.wal, document.identity.cluster_id, newest)
                if any_end and document.closed is not None:
                    end = Closed(recovery.log.index.last_index, document.closed.hard_state)
                    document = msgspec.structs.replace(document, closed=end)
                    recovery.torn = False
                check_together(directory, document, hard_state, recovery)
                same_boot = bool(document.boot_id) and document.boot_id == files.boot_id()
                if not any_end and (document.closed is not None or same_boot):
                    applied = self._last_applied(self.path)
                    check_applied(recovery, newest.last_included_index, applied)
                value = hard_state.value
            finally:
                hard_state.close()
        return Loaded(document, peers, value, newest, snapshots.file, recovery)

    @contextmanager
    def log(self, loaded: Loaded) -> Iterator[Log]:
        """The entries of a directory that was loaded."""
        with storage_errors("read", self.path):
            wal = Wal(self.files, loaded.recovery, _SEGMENT_BYTES)
        try:
            yield Log(wal)
        finally:
            wal.close()

    def close(self) -> None:
        self.directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Log:
    """Entries of a stopped node, read back from disk."""

    def __init__(self, wal: Wal) -> None:
        self._wal = wal

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """As `Disk.read`. NotInLog, DirectoryDamaged, StorageFailed."""
        with storage_errors("read", Path("wal")):
            return self._wal.read(first, last, max_bytes)


def seed(
    files: Files, path: Path, name: str, cluster_id: bytes, file: Path, begin: SnapshotMetadata
) -> SnapshotMetadata:
    """Make a new data directory at `path` for node `name` that begins with the snapshot in `file`.

    `begin` says what it stands for, and its members are those of the new cluster. `file` has to
    be in the directory of `path` and is gone afterwards. Nobody has an identity of this node's
    yet, and it has voted for nobody, so nothing that was promised elsewhere can be broken by it.
    Returns the metadata with size and checksum. DirectoryLocked, DirectoryMismatch (something is
    there already), DiskFull, StorageFailed.
    """
    with storage_errors("write", path, full_passes=True):
        directory = Directory(files, path)
        try:
            if directory.load(None) is not None:
                raise DirectoryMismatch(
                    path, "a node has its data there already; it was not touched"
                )
            identity = Identity(name, new_node_id(0, files), cluster_id, 0)
            directory.create(NodeDocument(identity, begin.configuration))
            HardStateFile.create(files, directory.hard_state)
            hard_state = HardStateFile(files, directory.hard_state)
            hard_state.save(HardState(begin.last_included_term))
            hard_state.close()
            Wal.create(
                files, directory.wal, cluster_id, _SEGMENT_BYTES, begin.last_included_index + 1
            )
            snapshots = Snapshots(files, directory.snapshots)
            temporary = snapshots.new_path()
            files.rename(file, temporary)
            adopted = snapshots.adopt(temporary, snapshots.sync(temporary, begin))
            # From here on the directory counts: see raftd.storage.directory.
            living = msgspec.structs.replace(identity, incarnation=1)
            directory.store(NodeDocument(living, begin.configuration))
        finally:
            directory.close()
    return adopted
