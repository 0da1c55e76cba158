"""The loops over system calls, with calls that do less than asked; and the real calls."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from raftd.storage.files import PartialWrite, RealFiles
from tests.storage.simulation import ROOT, SimulatedFiles

FILE = ROOT / "file"


def test_short_and_interrupted_calls_are_finished() -> None:
    """pitfall 75"""
    files = SimulatedFiles()
    files.max_write = 3
    files.interrupts = True
    handle = files.create(FILE)
    files.write_all(handle, b"0123456789", 2)
    assert files.read_all(handle, 100, 0) == b"\0\x000123456789"
    assert files.read_all(handle, 4, 3) == b"1234"
    files.write_zeros(handle, 5, 4)
    assert files.read_all(handle, 100, 0) == b"\0\x0001\0\0\0\0\x00789"


def test_a_write_that_stops_says_how_far_it_came() -> None:
    files = SimulatedFiles()
    handle = files.create(FILE)
    files.capacity = 4
    with pytest.raises(PartialWrite) as raised:
        files.write_all(handle, b"0123456789", 0)
    assert (raised.value.errno, raised.value.written) == (errno.ENOSPC, 4)


def test_a_write_that_takes_nothing_is_an_error() -> None:
    """pitfall 75: never a loop for ever."""

    class Stuck(SimulatedFiles):
        def pwrite(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
            return 0

    files = Stuck()
    with pytest.raises(PartialWrite) as raised:
        files.write_all(files.create(FILE), b"0", 0)
    assert raised.value.errno == errno.EIO


def test_the_real_files(tmp_path: Path) -> None:
    files = RealFiles()
    directory = tmp_path / "directory"
    files.mkdir(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    path = directory / "file"
    assert files.size(path) is None
    handle = files.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        files.create(path)
    files.write_all(handle, b"hello", 3)
    files.fdatasync(handle)
    files.fsync(handle)
    files.close(handle)
    files.rename(path, directory / "other")
    files.fsync_dir(directory)
    assert files.listdir(directory) == ["other"]
    assert files.size(directory / "other") == 8
    handle = files.open(directory / "other")
    assert files.read_all(handle, 100, 2) == b"\0hello"
    files.close(handle)
    files.unlink(directory / "other")
    assert files.listdir(directory) == []
    with pytest.raises(FileNotFoundError):
        files.open(path)
    assert len(files.random(8)) == 8
    assert len(files.boot_id()) == 36


def test_a_lock_is_held_once_until_it_is_closed(tmp_path: Path) -> None:
    files = RealFiles()
    handle = files.lock(tmp_path / "lock")
    assert handle is not None
    assert files.lock(tmp_path / "lock") is None
    files.close(handle)
    again = files.lock(tmp_path / "lock")
    assert again is not None
    files.close(again)


def test_the_boot_id_may_be_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftd.storage.files.BOOT_ID", tmp_path / "nothing")
    assert RealFiles().boot_id() == ""
