"""A disk in memory that can lose its power, below raftd.storage.

What has been written is seen at once, as by the system's cache, and is durable only after fdatasync
or fsync of the file; names are durable only after fsync_dir of their directory. `power_cuts`
says what may be left: of names not made durable some first part, all, none, or a single one; of
bytes not made durable any sectors of 512 bytes. A file that grows is filled with zeros. A write
that goes on where the one before stopped makes one with it.

Space is bounded by `capacity`, and taken when a file grows. `max_write` makes writes short,
`interrupts` interrupts every second call once, `failing_syncs` makes the next syncs fail with EIO:
the system then takes the pages for clean, and no later sync writes them.
"""

from __future__ import annotations

import copy
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from raftd.storage.files import PRIVATE, Files

SECTOR = 512
ROOT = Path("/disk")
DATA = ROOT / "node"

Image = dict[Path, bytes | None]
"""What is on disk after a power cut: bytes of files, None for directories."""


class Inode:
    """`content` is seen, `durable` survives; `pending` are the writes in between, in order."""

    def __init__(self, content: bytes = b"", *, directory: bool = False) -> None:
        self.content = bytearray(content)
        self.durable = bytes(content)
        self.pending: list[tuple[int, bytes]] = []
        self.directory = directory
        self.locked_by: int | None = None

    def write(self, offset: int, data: bytes) -> None:
        _put(self.content, offset, data)
        if self.pending and self.pending[-1][0] + len(self.pending[-1][1]) == offset:
            offset, before = self.pending.pop()
            data = before + data
        self.pending.append((offset, data))

    def sync(self) -> None:
        result = bytearray(self.durable)
        for offset, data in self.pending:
            _put(result, offset, data)
        self.durable = bytes(result)
        self.pending = []

    def pieces(self) -> int:
        """How many pieces of sectors are pending."""
        return sum(
            (offset + len(data) - 1) // SECTOR - offset // SECTOR + 1
            for offset, data in self.pending
        )

    def after_cut(self, keeps: Callable[[], bool]) -> bytes:
        """The bytes that are left if of each pending piece of a sector `keeps` decides.

        A sector is written from the system's cache: never a later piece without the earlier one.
        """
        result = bytearray(self.durable)
        lost: set[int] = set()
        for offset, data in self.pending:
            start = offset
            while start < offset + len(data):
                sector = start // SECTOR
                end = min(offset + len(data), (sector + 1) * SECTOR)
                if sector not in lost and keeps():
                    _put(result, start, data[start - offset : end - offset])
                else:
                    lost.add(sector)
                start = end
        return bytes(result)


class SimulatedFiles(Files):
    """See the top of this file. `before_change` is called before each call that changes things."""

    def __init__(self, image: Image | None = None, *, boot: str = "boot-1", seed: int = 0) -> None:
        self.seen: dict[Path, Inode] = {}
        for path, content in {ROOT: None, **(image or {})}.items():
            self.seen[path] = Inode(content or b"", directory=content is None)
        self.durable_names = dict(self.seen)
        self.pending_names: list[tuple[Path, tuple[tuple[Path, Inode | None], ...]]] = []
        self.handles: dict[int, tuple[Path, Inode]] = {}
        self.next_handle = 3
        self.boot = boot
        self.dice = Random(seed)
        self.capacity: int | None = None
        self.max_write: int | None = None
        self.interrupts = False
        self.interrupted = False
        self.failing_syncs = 0
        self.failing_writes: int | None = None
        self.calls: list[str] = []
        self.before_change: Callable[[SimulatedFiles], None] | None = None

    def create(self, path: Path) -> int:
        self._change(f"create {path.name}")
        if path in self.seen:
            raise _error(errno.EEXIST, path)
        self._needs_directory(path)
        self._needs_space(1)
        self._name(path.parent, (path, Inode()))
        return self._handle(path)

    def open(self, path: Path) -> int:
        if path not in self.seen:
            raise _error(errno.ENOENT, path)
        return self._handle(path)

    def close(self, handle: int) -> None:
        _, inode = self.handles.pop(handle)
        if inode.locked_by == handle:
            inode.locked_by = None

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        self._interrupt()
        size = size if self.max_write is None else min(size, self.max_write)
        return bytes(self.handles[handle][1].content[offset : offset + size])

    def pwrite(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        self._interrupt()
        path, inode = self.handles[handle]
        self._change(f"write {path.name}")
        if self.failing_writes is not None:
            raise _error(self.failing_writes, path)
        size = len(data) if self.max_write is None else min(len(data), self.max_write)
        growth = offset + size - len(inode.content)
        if growth > 0 and self.capacity is not None:
            room = self.capacity - self.used()
            if room < growth:
                size -= growth - max(0, room)
                if size <= 0:
                    raise _error(errno.ENOSPC, path)
        inode.write(offset, bytes(data[:size]))
        return size

    def fdatasync(self, handle: int) -> None:
        path, inode = self.handles[handle]
        self._change(f"sync {path.name}")
        if self.failing_syncs:
            self.failing_syncs -= 1
            inode.pending = []
            raise _error(errno.EIO, path)
        inode.sync()

    def fsync(self, handle: int) -> None:
        self.fdatasync(handle)

    def fsync_dir(self, path: Path) -> None:
        self._change(f"sync directory {path.name}")
        if path not in self.seen:
            raise _error(errno.EACCES, path)
        for _, changes in [change for change in self.pending_names if change[0] == path]:
            _apply(self.durable_names, changes)
        self.pending_names = [change for change in self.pending_names if change[0] != path]

    def rename(self, old: Path, new: Path) -> None:
        self._change(f"rename {old.name} {new.name}")
        assert old.parent == new.parent
        self._name(old.parent, (old, None), (new, self.seen[old]))

    def unlink(self, path: Path) -> None:
        self._change(f"unlink {path.name}")
        if path not in self.seen:
            raise _error(errno.ENOENT, path)
        self._name(path.parent, (path, None))

    def mkdir(self, path: Path, mode: int = PRIVATE) -> None:
        self._change(f"mkdir {path.name}")
        self._needs_directory(path)
        self._needs_space(1)
        self._name(path.parent, (path, Inode(directory=True)))

    def listdir(self, path: Path) -> list[str]:
        return sorted(entry.name for entry in self.seen if entry.parent == path != entry)

    def size(self, path: Path) -> int | None:
        return len(self.seen[path].content) if path in self.seen else None

    def lock(self, path: Path) -> int | None:
        if path not in self.seen:
            handle = self.create(path)
        elif self.seen[path].locked_by is not None:
            return None
        else:
            handle = self._handle(path)
        self.handles[handle][1].locked_by = handle
        return handle

    def boot_id(self) -> str:
        return self.boot

    def random(self, size: int) -> bytes:
        return self.dice.randbytes(size)

    def used(self) -> int:
        return sum(len(inode.content) for inode in self.seen.values())

    def put(self, path: Path, content: bytes) -> None:
        """Write a file as another program would."""
        handle = self.create(path)
        self.write_all(handle, content, 0)
        self.close(handle)

    @property
    def has_unsynced(self) -> bool:
        """Would a power cut lose anything?"""
        return bool(self.pending_names) or any(inode.pending for inode in self.seen.values())

    def image(self) -> Image:
        """Everything that is seen now."""
        return {p: None if i.directory else bytes(i.content) for p, i in self.seen.items()}

    def killed(self) -> SimulatedFiles:
        """The same disk after the process has died: what was seen is seen, locks are gone."""
        twins: dict[Inode, Inode] = {}
        twin = copy.copy(self)
        twin.seen = {path: _twin(inode, twins) for path, inode in self.seen.items()}
        twin.durable_names = {p: _twin(inode, twins) for p, inode in self.durable_names.items()}
        twin.pending_names = [
            (path, tuple((p, None if i is None else _twin(i, twins)) for p, i in changes))
            for path, changes in self.pending_names
        ]
        twin.handles = {}
        twin.calls = []
        twin.before_change = None
        return twin

    def power_cuts(self, dice: Random, torn: int = 6) -> Iterator[Image]:
        """What may be on disk if the power goes now: nothing of what was not synced, all of it, or,
        with `torn`, all of it up to each sector, and from each on.

        On top of that come `torn` random choices of sectors, and so many of them alone lost, or
        left."""
        for names in self._names_left():
            yield _image(names, lambda: False)
            pieces = sum(inode.pieces() for _, inode in names)
            if pieces:
                yield _image(names, lambda: True)
            for number in range(1, pieces if torn else 0):
                for before in (True, False):
                    numbers = itertools.count()
                    yield _image(names, lambda n=numbers, x=number, b=before: (next(n) < x) == b)  # type: ignore[misc]
            for number in range(min(torn, pieces) if pieces > 1 else 0):
                chance = dice.random()
                yield _image(names, lambda chance=chance: dice.random() < chance)  # type: ignore[misc]
                for lost in (True, False):
                    numbers = itertools.count()
                    yield _image(names, lambda n=numbers, x=number, y=lost: (next(n) == x) != y)  # type: ignore[misc]

    def _names_left(self) -> Iterator[list[tuple[Path, Inode]]]:
        """The names that a power cut may leave, parents first, none without its parent."""
        changes = [changes for _, changes in self.pending_names]
        subsets = [changes[:count] for count in range(len(changes) + 1)]
        subsets += [[change] for change in changes[1:]]
        for subset in subsets:
            names = dict(self.durable_names)
            for change in subset:
                _apply(names, change)
            ordered = sorted(names.items(), key=_by_name)
            yield [(p, inode) for p, inode in ordered if p == ROOT or p.parent in names]

    def _change(self, call: str) -> None:
        if self.before_change is not None:
            self.before_change(self)
        self.calls.append(call)

    def _interrupt(self) -> None:
        self.interrupted = self.interrupts and not self.interrupted
        if self.interrupted:
            raise InterruptedError

    def _handle(self, path: Path) -> int:
        self.next_handle += 1
        self.handles[self.next_handle] = path, self.seen[path]
        return self.next_handle

    def _name(self, directory: Path, *changes: tuple[Path, Inode | None]) -> None:
        _apply(self.seen, changes)
        self.pending_names.append((directory, changes))

    def _needs_directory(self, path: Path) -> None:
        if path.parent not in self.seen:
            raise _error(errno.ENOENT, path)

    def _needs_space(self, size: int) -> None:
        if self.capacity is not None and self.used() + size > self.capacity:
            raise _error(errno.ENOSPC, None)


def _twin(inode: Inode, twins: dict[Inode, Inode]) -> Inode:
    if inode not in twins:
        twins[inode] = Inode(b"", directory=inode.directory)
        twins[inode].content = bytearray(inode.content)
        twins[inode].durable = inode.durable
        twins[inode].pending = list(inode.pending)
    return twins[inode]


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _apply(names: dict[Path, Inode], changes: tuple[tuple[Path, Inode | None], ...]) -> None:
    for path, inode in changes:
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode


def _image(names: list[tuple[Path, Inode]], keeps: Callable[[], bool]) -> Image:
    return {
        path: None
        if inode.directory
        else inode.after_cut(keeps)
        if inode.pending
        else inode.durable
        for path, inode in names
    }


def _by_name(item: tuple[Path, Inode]) -> str:
    return str(item[0])


def _error(number: int, path: Path | None) -> OSError:
    return OSError(number, os.strerror(number), None if path is None else str(path))
