"""The data directory itself: who uses it, whose it is, and what its node knows of its peers.

    lock         flock(2) of the daemon that uses the directory, with its process id for people
    node-id      a document: NodeDocument
    peers        a document: PeersDocument
    standing     a document: Standing; not there as long as it says nothing
    hard-state   raftd.storage.hard_state
    wal/         raftd.storage.segment
    snapshots/   raftd.storage.snapshots

`node-id` is written first, with incarnation 0: from then on, until the first life begins with
incarnation 1, nothing was ever promised, and whatever else is there is made anew. From incarnation
1 on everything must be there. Without `node-id` there must be nothing else of the above.

Every life begins with a durable `node-id`, with the next incarnation and `closed` empty, and
a clean end is a durable `node-id` in which `closed` says where the log ended: nothing less may be
there at the next start. These directories are made for their owner only (0700).
"""

from __future__ import annotations

import contextlib
import copy
import os
from pathlib import Path

import msgspec

from raftd.raft.configuration import Configuration
from raftd.raft.state import HardState
from raftd.storage import document
from raftd.storage.errors import DirectoryDamaged, DirectoryLocked, DirectoryMismatch
from raftd.storage.files import PRIVATE, Files, naming

NODE_ID_BYTES = 16
_RANDOM_BYTES = 8
_LIFE_SHIFT = 32
_CONTENT = ("hard-state", "peers", "wal", "snapshots", "standing")
_LOCK_BYTES = 32


def membership_index(node_id: bytes) -> int:
    """The index of the CONFIGURATION entry that admitted the member with that id; 0: it was there
    from the beginning. It is the first half of the id, big-endian; the other half is random."""
    return int.from_bytes(node_id[: NODE_ID_BYTES - _RANDOM_BYTES], "big")


def new_node_id(index: int, files: Files) -> bytes:
    return index.to_bytes(NODE_ID_BYTES - _RANDOM_BYTES, "big") + files.random(_RANDOM_BYTES)


def life(incarnation: int) -> int:
    """The number of that life, from 1. It is the upper part of an incarnation; the lower one is
    random: two lives of one number began from copies of one directory."""
    return incarnation >> _LIFE_SHIFT


def next_incarnation(last: int, files: Files) -> int:
    random = int.from_bytes(files.random(_LIFE_SHIFT // 8), "big")
    return (life(last) + 1) << _LIFE_SHIFT | random


class Identity(msgspec.Struct, frozen=True):
    """Who this node is, and in which life of its directory."""

    name: str
    node_id: bytes
    cluster_id: bytes
    incarnation: int

    @property
    def membership_index(self) -> int:
        return membership_index(self.node_id)

    @property
    def life(self) -> int:
        return life(self.incarnation)


class PeerIdentity(msgspec.Struct, frozen=True):
    """The newest life of a peer that this node has heard of."""

    node_id: bytes
    incarnation: int

    @property
    def membership_index(self) -> int:
        return membership_index(self.node_id)


class Standing(msgspec.Struct, frozen=True):
    """What this node was told about itself. `removed_at`: the index up to which a member knew the
    log when it said that this node is no member any more; 0: nobody has. `drained`: an operator
    wants it not to lead."""

    removed_at: int = 0
    drained: bool = False


class Closed(msgspec.Struct, frozen=True):
    """Where everything stood when the directory was closed cleanly."""

    last_index: int
    hard_state: HardState


class NodeDocument(msgspec.Struct, frozen=True):
    """The file `node-id`. `initial` are the members the cluster began with; `lost` the first and
    last entry that a repair has taken away though they may have been acknowledged.

    `format` is the document's version: 2 once there may be something in the directory that the
    first raftd does not know, so that it says so and touches nothing.
    """

    identity: Identity
    initial: Configuration
    boot_id: str = ""
    closed: Closed | None = None
    lost: tuple[int, int] | None = None
    format: int = 1


class PeersDocument(msgspec.Struct, frozen=True):
    """The file `peers`, by name."""

    peers: dict[str, PeerIdentity] = {}


class Directory:
    """An open, locked data directory. Close it to give up the lock."""

    def __init__(self, files: Files, path: Path, *, make: bool = True) -> None:
        """Locks the directory; makes it, or, without `make`, demands that it is there already.

        DirectoryLocked, DirectoryMismatch, OSError.
        """
        self._files = files
        self.path = path
        self.hard_state = path / "hard-state"
        self.wal = path / "wal"
        self.snapshots = path / "snapshots"
        self._node_id = path / "node-id"
        self._peers = path / "peers"
        self._standing = path / "standing"
        if make:
            self._make_directory(path)
        elif not self._is_there():
            raise DirectoryMismatch(path, "this is no data directory of raftd: nothing is in it")
        self._lock = self._take_lock()

    def seen_through(self, files: Files) -> Directory:
        """The same locked directory, read in another view of the files. Not to be closed."""
        view = copy.copy(self)
        view._files = files  # noqa: SLF001 - our own copy
        return view

    def load(self, name: str | None) -> NodeDocument | None:
        """Whose directory it is, `name`'s unless that is None; None if its creation never ended.
        DirectoryMismatch, DirectoryDamaged."""
        found = document.read(self._files, self._node_id, "node-id", NodeDocument)
        if found is None:
            there = [entry for entry in _CONTENT if self._files.size(self.path / entry) is not None]
            if there:
                raise DirectoryDamaged(
                    self._node_id,
                    f"it is missing, though {there[0]} is there; nothing else says whose they are",
                )
            return None
        if found.identity.incarnation == 0:
            return None
        if name is not None and found.identity.name != name:
            raise DirectoryMismatch(
                self._node_id,
                f"this directory belongs to node {found.identity.name}, not to {name}; give every"
                " node a data directory of its own",
            )
        return found

    def create(self, new: NodeDocument) -> None:
        """Begin with a directory whose creation never ended. DiskFull."""
        assert new.identity.incarnation == 0
        # A killed process may have made some of these, and never have come to the fsync.
        for ancestor in self.path.parents:
            with contextlib.suppress(PermissionError):
                self._files.fsync_dir(ancestor)
        self.store(new)
        for directory in (self.wal, self.snapshots):
            self._make_directory(directory)
            for name in self._files.listdir(directory):
                self._files.unlink(directory / name)
            self._files.fsync_dir(directory)
        document.remove_if_there(self._files, self._standing)
        self.store_peers({})

    def store(self, new: NodeDocument) -> None:
        """Durable on return. DiskFull."""
        document.write(self._files, self._node_id, "node-id", new, new.format)

    def load_peers(self) -> dict[str, PeerIdentity]:
        found = document.read(self._files, self._peers, "peers", PeersDocument)
        if found is None:
            raise DirectoryDamaged(self._peers, "it is missing")
        return found.peers

    def store_peers(self, peers: dict[str, PeerIdentity]) -> None:
        """Durable on return. DiskFull."""
        document.write(self._files, self._peers, "peers", PeersDocument(peers))

    def load_standing(self) -> Standing:
        return document.read(self._files, self._standing, "standing", Standing) or Standing()

    def store_standing(self, standing: Standing) -> None:
        """Durable on return. DiskFull."""
        document.write(self._files, self._standing, "standing", standing)

    def settle(self) -> None:
        """Make durable what was read, and remove temporary files."""
        self._files.fsync_dir(self.path)
        for path in (self._node_id, self._peers, self._standing):
            document.remove_if_there(self._files, path.with_name(path.name + ".tmp"))

    def close(self) -> None:
        self._files.close(self._lock)

    def _is_there(self) -> bool:
        return any(
            self._files.size(self.path / name) is not None for name in ("node-id", *_CONTENT)
        )

    def _make_directory(self, path: Path, mode: int = PRIVATE) -> None:
        """With its parents, which are no secret: other nodes, of other users, may come to live
        there. Each is durable before there is something in it."""
        if self._files.size(path) is not None:
            return
        if path.parent != path:
            self._make_directory(path.parent, 0o755)
        with contextlib.suppress(FileExistsError):
            self._files.mkdir(path, mode)
        self._files.fsync_dir(path.parent)

    def _take_lock(self) -> int:
        path = self.path / "lock"
        handle = self._files.lock(path)
        if handle is None:
            raise DirectoryLocked(self.path, self._holder(path))
        try:
            text = f"{os.getpid()}\n".encode()
            with naming(path):
                self._files.write_all(handle, text.ljust(_LOCK_BYTES), 0)
        except BaseException:
            self._files.close(handle)
            raise
        return handle

    def _holder(self, path: Path) -> int | None:
        text = self._files.read_file(path, _LOCK_BYTES).strip()
        return int(text) if text.isdigit() else None
