"""A drive in memory: what is on it, what is only in the machine's cache, and what a crash leaves.

A file's `cache` is what reads see. `disk` is what survives: it follows at an fsync. In between lie
`pending` writes, and a power loss decides for each sector of 512 bytes which of them arrived: it is
old, new, or anything that was written in between. Names are the same: creates, renames and
unlinks are `pending` per directory until that directory is synced, and a power loss keeps a first
part of them, or any of them.

An fsync that fails is as on Linux (fsyncgate): some sectors arrived, the others count as clean;
reads may still show them until the power goes, and no later fsync writes them.
"""

from __future__ import annotations

from posixpath import basename, dirname
from random import Random

SECTOR = 512


class Inode:
    """One file."""

    __slots__ = ("cache", "disk", "is_directory", "pending")

    def __init__(self, *, is_directory: bool = False) -> None:
        self.cache = bytearray()
        self.disk = bytearray()
        self.pending: list[tuple[int, bytes]] = []
        self.is_directory = is_directory

    def write(self, offset: int, data: bytes) -> None:
        _put(self.cache, offset, data)
        self.pending.append((offset, data))

    def sync(self) -> None:
        for offset, data in self.pending:
            _put(self.disk, offset, data)
        self.pending.clear()

    def fail_sync(self, random: Random) -> None:
        """The fsync reports an error: what did not arrive will never be tried again."""
        self._arrive(random, random.choice((0.0, 0.5, 1.0)))
        if random.random() < 0.5:
            self.cache[:] = self.disk  # the clean pages were evicted, too

    def lose_power(self, random: Random) -> None:
        if self.pending:
            self._arrive(random, random.choice((0.0, 0.3, 0.7, 1.0)))
        self.cache[:] = self.disk

    def _arrive(self, random: Random, share: float) -> None:
        """Each sector of each pending write arrives with that probability; in order per sector."""
        versions: dict[int, list[tuple[int, bytes]]] = {}
        for offset, data in self.pending:
            for sector in range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1):
                versions.setdefault(sector, []).append((offset, data))
        size = max((offset + len(data) for offset, data in self.pending), default=0)
        self.pending.clear()
        for sector, writes in versions.items():
            if random.random() < share:
                kept = len(writes)
            else:
                kept = random.randrange(len(writes)) if share else 0
            start, end = sector * SECTOR, (sector + 1) * SECTOR
            for offset, data in writes[:kept]:
                low, high = max(start, offset), min(end, offset + len(data))
                _put(self.disk, low, data[low - offset : high - offset])
        if len(self.disk) < size and random.random() < 0.5:
            self.disk.extend(bytes(size - len(self.disk)))  # the size arrived before the bytes


class Drive:
    """`boot_id` changes when the power was lost. Paths are absolute, as text."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.names: dict[str, Inode] = {"/": Inode(is_directory=True)}
        self._durable: dict[str, Inode] = dict(self.names)
        self._pending: dict[str, list[tuple[str | None, str | None, Inode]]] = {}
        self.boot_id = "boot-1"
        self._boots = 1

    # ---- names

    def link(self, path: str, inode: Inode) -> None:
        self._change(path, (None, path, inode))

    def unlink(self, path: str) -> None:
        self._change(path, (path, None, self.names[path]))

    def rename(self, old: str, new: str) -> None:
        self._change(new, (old, new, self.names[old]))

    def sync_directory(self, path: str) -> None:
        for change in self._pending.pop(path, ()):
            _apply(self._durable, change)

    def list(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        return sorted(basename(each) for each in self.names if dirname(each) + "/" == prefix)

    def _change(self, path: str, change: tuple[str | None, str | None, Inode]) -> None:
        _apply(self.names, change)
        self._pending.setdefault(dirname(path), []).append(change)

    # ---- accidents

    def lose_power(self) -> None:
        """What was not synced is lost, or not, or in part."""
        random = self.random
        for changes in self._pending.values():
            if random.random() < 0.7:
                survivors = changes[: random.randrange(len(changes) + 1)]
            else:
                survivors = [change for change in changes if random.random() < 0.5]
            for change in survivors:
                _apply(self._durable, change)
        self._pending.clear()
        self.names = dict(self._durable)
        for path in sorted(self.names):
            if path != "/" and dirname(path) not in self.names:
                del self.names[path]  # its directory never arrived
        self._durable = dict(self.names)
        for inode in self.names.values():
            inode.lose_power(random)
        self._boots += 1
        self.boot_id = f"boot-{self._boots}"

    def rot(self) -> str:
        """One bit of one file flips, on the platter; says where. To be called without power."""
        paths = [path for path, inode in sorted(self.names.items()) if inode.disk]
        if not paths:
            return "nothing"
        logs = [path for path in paths if path.endswith(".seg")]
        snapshots = [path for path in paths if path.endswith(".snap")]
        kind = self.random.random()
        if kind < 0.3 and logs:
            path = logs[-1]
        else:
            path = self.random.choice(snapshots if kind < 0.6 and snapshots else paths)
        inode = self.names[path]
        content = [at for at, byte in enumerate(inode.disk) if byte]
        if kind < 0.3 and content:
            offset = self.random.choice(content[-100:])  # in what was written last
        elif content and self.random.random() < 0.8:
            offset = self.random.choice(content)
        else:
            offset = self.random.randrange(len(inode.disk))
        inode.disk[offset] ^= 1 << self.random.randrange(8)
        inode.cache[:] = inode.disk
        return f"{path}, byte {offset}"


def _put(data: bytearray, offset: int, piece: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(piece)] = piece


def _apply(names: dict[str, Inode], change: tuple[str | None, str | None, Inode]) -> None:
    old, new, inode = change
    if old is not None and names.get(old) is inode:
        del names[old]
    if new is not None:
        names[new] = inode
