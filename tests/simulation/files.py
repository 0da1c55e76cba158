"""`raftd.storage.files.Files` on a simulated drive, for one life of one process.

Before and inside every operation the process can die (`Crashed`); a write that it dies in leaves a
first part. `faults` says what else goes wrong.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from posixpath import dirname
from random import Random

from raftd.storage.files import PRIVATE, Files
from tests.simulation.drive import Drive, Inode


class Crashed(BaseException):
    """The process is no more; the text says where. No handler of its own may see this."""


class DiskFaults:
    """What is wrong with a node's disk now; stays when its process ends."""

    def __init__(self) -> None:
        self.crash_in: int | None = None
        """Operations until the process dies."""
        self.failing_syncs = 0
        """Syncs to come that report an error."""
        self.failing_writes = 0
        self.full = False
        """No file grows any more."""
        self.full_for_overwrites = False
        """Not even bytes that are there can be replaced (copy on write, or quota)."""
        self.short = False
        """Reads and writes at times do less than asked, or are interrupted."""
        self.happened: list[str] = []
        """Kinds of faults that took effect, until somebody counts them."""


class SimulatedFiles(Files):
    """One life's view of the drive. After `die` it does nothing any more."""

    def __init__(self, drive: Drive, faults: DiskFaults, random: Random) -> None:
        self._drive = drive
        self.faults = faults
        self._random = random
        self._open: dict[int, Inode] = {}
        self._paths: dict[int, str] = {}
        self._next_handle = 3
        self._dead = False
        self.operations = 0

    def die(self) -> None:
        self._dead = True
        self._open.clear()

    # ---- files

    def create(self, path: Path) -> int:
        name = self._at(path)
        if name in self._drive.names:
            raise FileExistsError(errno.EEXIST, "File exists", name)
        self._parent(name)
        if self._point():
            self._die("create", name, lambda: self._drive.link(name, Inode()))
        if self.faults.full and self._random.random() < 0.3:
            raise self._no_space(name)
        inode = Inode()
        self._drive.link(name, inode)
        return self._handle(inode, name)

    def open(self, path: Path) -> int:
        name = self._at(path)
        if name not in self._drive.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        return self._handle(self._drive.names[name], name)

    def close(self, handle: int) -> None:
        self._open.pop(handle, None)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        if self.faults.short and size > 1 and self._random.random() < 0.05:
            size = self._stutter(size)
        return bytes(self._inode(handle).cache[offset : offset + size])

    def pwrite(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        inode = self._inode(handle)
        faults = self.faults
        if self._point():
            some = data[: self._random.randrange(len(data) + 1)]
            inode.write(offset, bytes(some))
            raise Crashed(f"{len(some)} of {len(data)} bytes at {offset} of {self._paths[handle]}")
        if faults.failing_writes:
            faults.failing_writes -= 1
            faults.happened.append("write error")
            raise OSError(errno.EIO, "Input/output error")
        if faults.full and (faults.full_for_overwrites or offset + len(data) > len(inode.cache)):
            fits = 0 if faults.full_for_overwrites else max(0, len(inode.cache) - offset)
            fits += self._random.choice((0, 0, self._random.randrange(len(data) + 1)))
            if 0 < fits < len(data) and self._random.random() < 0.5:
                inode.write(offset, bytes(data[:fits]))
                return fits
            raise self._no_space(None)
        if faults.short and len(data) > 1 and self._random.random() < 0.05:
            data = data[: self._stutter(len(data))]
        inode.write(offset, bytes(data))
        return len(data)

    def fdatasync(self, handle: int) -> None:
        inode = self._inode(handle)
        if self._point():
            self._die("sync", self._paths[handle], inode.sync)
        if self.faults.failing_syncs and inode.pending:
            self.faults.failing_syncs -= 1
            self.faults.happened.append("fsync error")
            inode.fail_sync(self._random)
            raise OSError(errno.EIO, "Input/output error")
        inode.sync()

    def fsync(self, handle: int) -> None:
        self.fdatasync(handle)

    # ---- names

    def fsync_dir(self, path: Path) -> None:
        name = self._at(path)
        if name not in self._drive.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        if self._point():
            self._die("sync", name, lambda: self._drive.sync_directory(name))
        self._drive.sync_directory(name)

    def rename(self, old: Path, new: Path) -> None:
        first, second = self._at(old), self._at(new)
        if first not in self._drive.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", first)
        if self._point():
            self._die("rename", first, lambda: self._drive.rename(first, second))
        self._drive.rename(first, second)

    def unlink(self, path: Path) -> None:
        name = self._at(path)
        if name not in self._drive.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        if self._point():
            self._die("unlink", name, lambda: self._drive.unlink(name))
        self._drive.unlink(name)

    def mkdir(self, path: Path, mode: int = PRIVATE) -> None:
        name = self._at(path)
        if name in self._drive.names:
            raise FileExistsError(errno.EEXIST, "File exists", name)
        self._parent(name)
        if self._point():
            self._die("mkdir", name, lambda: self._drive.link(name, Inode(is_directory=True)))
        self._drive.link(name, Inode(is_directory=True))

    def listdir(self, path: Path) -> list[str]:
        return self._drive.list(self._at(path))

    def size(self, path: Path) -> int | None:
        inode = self._drive.names.get(self._at(path))
        return None if inode is None else len(inode.cache)

    def lock(self, path: Path) -> int | None:
        """One life at a time is all there ever is, so the lock is always free."""
        name = self._at(path)
        inode = self._drive.names.get(name)
        if inode is None:
            inode = Inode()
            self._drive.link(name, inode)
        return self._handle(inode, name)

    def random(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def boot_id(self) -> str:
        return self._drive.boot_id

    # ---- inside

    def _at(self, path: Path) -> str:
        if self._dead:
            raise Crashed("dead already")
        return str(path)

    def _parent(self, name: str) -> None:
        if dirname(name) not in self._drive.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)

    def _inode(self, handle: int) -> Inode:
        if self._dead:
            raise Crashed("dead already")
        return self._open[handle]

    def _handle(self, inode: Inode, name: str) -> int:
        self._next_handle += 1
        self._open[self._next_handle] = inode
        self._paths[self._next_handle] = name
        return self._next_handle

    def _point(self) -> bool:
        """True if the process dies in this operation."""
        self.operations += 1
        faults = self.faults
        if faults.crash_in is None:
            return False
        faults.crash_in -= 1
        if faults.crash_in > 0:
            return False
        faults.crash_in = None
        self._dead = True
        return True

    def _die(self, what: str, name: str, operation: Callable[[], object]) -> None:
        """The process dies in the operation: on which side of it, the dice say."""
        done = self._random.random() < 0.5
        if done:
            operation()
        raise Crashed(f"{'after' if done else 'before'} {what} of {name}")

    def _stutter(self, size: int) -> int:
        if self._random.random() < 0.3:
            raise InterruptedError(errno.EINTR, "Interrupted system call")
        return self._random.randrange(1, size)

    def _no_space(self, name: str | None) -> OSError:
        self.faults.happened.append("disk full")
        return OSError(errno.ENOSPC, "No space left on device", name)
