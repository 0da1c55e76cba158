"""The operating system's files, as little of them as raftd.storage needs.

All of raftd.storage goes through `Files`, so that a test can put a simulated disk below it. A
subclass brings single system calls, which may do less than asked; the loops that finish them are
here and the same for all. Nothing here is durable before `fdatasync`, `fsync` or `fsync_dir`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PRIVATE = 0o700
_ZEROS = bytes(1 << 20)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError from a handle does not say which file it was: add that."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


class PartialWrite(OSError):
    """A write failed after `written` bytes of it had been taken. errno is the failure's."""

    def __init__(self, error: OSError, written: int) -> None:
        super().__init__(error.errno or errno.EIO, error.strerror or "input/output error")
        self.written = written


class Files(ABC):
    """Files by handle, directories by path. All calls raise OSError."""

    @abstractmethod
    def create(self, path: Path) -> int:
        """A handle for reading and writing a new, empty file; FileExistsError if there is one."""

    @abstractmethod
    def open(self, path: Path) -> int:
        """A handle for reading and writing a file that exists."""

    @abstractmethod
    def close(self, handle: int) -> None: ...

    @abstractmethod
    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """At most `size` bytes, maybe fewer; none at the end of the file."""

    @abstractmethod
    def pwrite(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        """How many bytes were taken, maybe fewer than all."""

    @abstractmethod
    def fdatasync(self, handle: int) -> None:
        """The file's bytes, and its size, are durable on return. fdatasync(2)."""

    @abstractmethod
    def fsync(self, handle: int) -> None: ...

    @abstractmethod
    def fsync_dir(self, path: Path) -> None:
        """Creates, renames and unlinks in this directory are durable on return. fsync(2)."""

    @abstractmethod
    def rename(self, old: Path, new: Path) -> None:
        """Replaces `new` in one step. rename(2)."""

    @abstractmethod
    def unlink(self, path: Path) -> None: ...

    @abstractmethod
    def mkdir(self, path: Path, mode: int = PRIVATE) -> None: ...

    @abstractmethod
    def listdir(self, path: Path) -> list[str]: ...

    @abstractmethod
    def size(self, path: Path) -> int | None:
        """In bytes; None if there is nothing at `path`. Of a directory it has no meaning."""

    @abstractmethod
    def lock(self, path: Path) -> int | None:
        """A handle that holds the file's lock until it is closed; None if another has it."""

    @abstractmethod
    def random(self, size: int) -> bytes: ...

    @abstractmethod
    def boot_id(self) -> str:
        """Names the time since the machine started; empty if the system does not tell."""

    def read_all(self, handle: int, size: int, offset: int) -> bytes:
        """`size` bytes, or fewer only where the file ends."""
        data = self._pread(handle, size, offset)
        if not data or len(data) == size:
            return data
        parts = [data]
        done = len(data)
        while done < size and (data := self._pread(handle, size - done, offset + done)):
            parts.append(data)
            done += len(data)
        return b"".join(parts)

    def read_file(self, path: Path, size: int) -> bytes:
        """The first `size` bytes of a file, fewer only if it has no more."""
        handle = self.open(path)
        try:
            with naming(path):
                return self.read_all(handle, size, 0)
        finally:
            self.close(handle)

    def write_all(self, handle: int, data: bytes | bytearray, offset: int) -> None:
        """Write every byte, however often the system stops halfway; PartialWrite if it cannot."""
        written = 0
        rest: bytes | bytearray | memoryview = data
        while rest:
            try:
                count = self.pwrite(handle, rest, offset + written)
            except InterruptedError:
                continue
            except OSError as error:
                raise PartialWrite(error, written) from error
            if count == 0:
                raise PartialWrite(OSError(errno.EIO, os.strerror(errno.EIO)), written)
            written += count
            rest = memoryview(data)[written:] if written < len(data) else b""

    def write_zeros(self, handle: int, size: int, offset: int) -> None:
        """Write `size` zero bytes; real ones, no hole, so that later writes need no space."""
        end = offset + size
        while offset < end:
            piece = min(len(_ZEROS), end - offset)
            self.write_all(handle, _ZEROS[:piece], offset)
            offset += piece

    def _pread(self, handle: int, size: int, offset: int) -> bytes:
        while True:
            try:
                return self.pread(handle, size, offset)
            except InterruptedError:
                continue


class RealFiles(Files):
    """The operating system itself. Handles are file descriptors, closed on exec."""

    def create(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, handle: int) -> None:
        os.close(handle)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        return os.pread(handle, size, offset)

    def pwrite(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        return os.pwrite(handle, data, offset)

    def fdatasync(self, handle: int) -> None:
        os.fdatasync(handle)

    def fsync(self, handle: int) -> None:
        os.fsync(handle)

    def fsync_dir(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path, mode: int = PRIVATE) -> None:
        path.mkdir(mode)

    def listdir(self, path: Path) -> list[str]:
        return sorted(entry.name for entry in path.iterdir())

    def size(self, path: Path) -> int | None:
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def lock(self, path: Path) -> int | None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            os.close(handle)
            raise
        return handle

    def random(self, size: int) -> bytes:
        return os.urandom(size)

    def boot_id(self) -> str:
        try:
            return BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            return ""


REAL_FILES = RealFiles()
