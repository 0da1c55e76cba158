"""A directory as it would be after a repair, for reading only: nothing below is changed.

Some files are hidden, and some read as zeros from an offset on. A repair is tried on such a view
first, and is offered only if the node would start with it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from raftd.storage.files import PRIVATE, Files


class Overlay(Files):
    """`below` without the files in `hidden`, and those in `cut` zero from their offset on."""

    def __init__(self, below: Files, hidden: Collection[Path], cut: Mapping[Path, int]) -> None:
        self._below = below
        self._hidden = hidden
        self._cut = cut
        self._opened: dict[int, int] = {}

    def open(self, path: Path) -> int:
        if path in self._hidden:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        handle = self._below.open(path)
        if path in self._cut:
            self._opened[handle] = self._cut[path]
        return handle

    def close(self, handle: int) -> None:
        self._opened.pop(handle, None)
        self._below.close(handle)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        data = self._below.pread(handle, size, offset)
        end = self._opened.get(handle)
        if end is None or offset + len(data) <= end:
            return data
        return data[: max(0, end - offset)].ljust(len(data), b"\0")

    def listdir(self, path: Path) -> list[str]:
        return [name for name in self._below.listdir(path) if path / name not in self._hidden]

    def size(self, path: Path) -> int | None:
        return None if path in self._hidden else self._below.size(path)

    def random(self, size: int) -> bytes:
        return self._below.random(size)

    def boot_id(self) -> str:
        return self._below.boot_id()

    def create(self, path: Path) -> int:
        raise _read_only(path)

    def pwrite(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        raise _read_only(Path(str(handle)))

    def fdatasync(self, handle: int) -> None:
        raise _read_only(Path(str(handle)))

    def fsync(self, handle: int) -> None:
        raise _read_only(Path(str(handle)))

    def fsync_dir(self, path: Path) -> None:
        raise _read_only(path)

    def rename(self, old: Path, new: Path) -> None:
        raise _read_only(new)

    def unlink(self, path: Path) -> None:
        raise _read_only(path)

    def mkdir(self, path: Path, mode: int = PRIVATE) -> None:
        raise _read_only(path)

    def lock(self, path: Path) -> int | None:
        raise _read_only(path)


def _read_only(path: Path) -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
