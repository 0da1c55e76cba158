"""Failures of the disk as its user sees them: final, or as if nothing had happened."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raftd.raft.state import HardState
from raftd.storage.disk import Disk, DiskFull, StorageFailed
from raftd.storage.errors import storage_errors
from tests.storage.node import entries, entry, metadata, open_disk, view
from tests.storage.simulation import SimulatedFiles


def node() -> tuple[SimulatedFiles, Disk]:
    files = SimulatedFiles()
    disk = open_disk(files)
    disk.save(HardState(1, "a"), entries(1, 3))
    return files, disk


def everything(files: SimulatedFiles, disk: Disk) -> list[Callable[[], object]]:
    """All calls that may not be answered any more."""
    path = disk.snapshot_path()
    return [
        lambda: disk.save(HardState(2), []),
        lambda: disk.save(None, [entry(4)]),
        lambda: disk.read(1, 1, 100),
        disk.prepare_spare,
        lambda: disk.adopt_snapshot(path, metadata(1)),
        lambda: disk.install_snapshot(path, metadata(9)),
        lambda: disk.read_snapshot(0, 1),
        lambda: disk.compact(1),
        lambda: disk.remember_peer("b", b"b" * 16, 1),
    ]


@pytest.mark.parametrize("call", [0, 1, 3, 4, 5, 8])
def test_a_failed_sync_is_final(call: int) -> None:
    """A second one would succeed, and the data be lost: no call is answered again (pitfall 65)."""
    files, disk = node()
    path = disk.snapshot_path()
    files.put(path, b"state")
    files.failing_syncs = 1
    calls = everything(files, disk)
    calls[4] = lambda: disk.adopt_snapshot(path, metadata(1))
    calls[5] = lambda: disk.install_snapshot(path, metadata(9))
    with pytest.raises(StorageFailed, match="Input/output error"):
        calls[call]()
    assert files.failing_syncs == 0
    files.calls.clear()
    for _ in range(2):
        for each in everything(files, disk):
            with pytest.raises(StorageFailed) as raised:
                each()
            assert raised.value.errno == errno.EIO
    assert files.calls == []
    disk.close()
    again = open_disk(files)
    assert not again.was_clean
    assert again.last_index in {3, 4}


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EBADF])
def test_a_failed_write_is_final(number: int) -> None:
    files, disk = node()
    files.failing_writes = number
    with pytest.raises(StorageFailed):
        disk.save(None, [entry(4)])
    files.failing_writes = None
    with pytest.raises(StorageFailed) as raised:
        disk.save(None, [entry(4)])
    assert raised.value.errno == number


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EACCES, r"Permission denied; .* must belong to the user that its node runs as"),
        (errno.EROFS, r"Read-only file system; .* ReadWritePaths=: see data_dir in raftd\.toml"),
        (errno.EIO, r"Input/output error$"),
    ],
)
def test_what_the_administrator_can_mend_is_told_how(number: int, hint: str) -> None:
    where = "/srv/raftd/a/node-id"
    with (
        pytest.raises(StorageFailed, match=f"^cannot open {where}: {hint}"),
        storage_errors("open", Path("/srv/raftd/a")),
    ):
        raise OSError(number, os.strerror(number), where)


def test_an_interrupt_in_the_middle_is_final() -> None:
    """Whatever it was: what is on disk is unknown."""
    files, disk = node()

    def interrupt(_: SimulatedFiles) -> None:
        raise KeyboardInterrupt

    files.before_change = interrupt
    with pytest.raises(KeyboardInterrupt):
        disk.save(None, [entry(4)])
    files.before_change = None
    with pytest.raises(StorageFailed):
        disk.save(None, [entry(4)])


@pytest.mark.parametrize("what", ["entries", "hard state"])
def test_what_a_failed_sync_left_in_the_cache_is_written_again(what: str) -> None:
    """The next life finds it, so it must be durable then; the system thinks it is (pitfall 65)."""
    files, disk = node()
    files.failing_syncs = 1
    with pytest.raises(StorageFailed):
        if what == "entries":
            disk.save(None, [entry(4)])
        else:
            disk.save(HardState(2, "b"), [])
    files = files.killed()
    found = view(open_disk(files))
    assert len(found.log) == 4 or found.hard_state == HardState(2, "b")
    left = {path: inode.durable for path, inode in files.durable_names.items()}
    image = {p: None if files.durable_names[p].directory else d for p, d in left.items()}
    assert view(open_disk(SimulatedFiles(image))) == found


def test_entries_of_a_failed_save_are_not_to_be_seen() -> None:
    """pitfall 36"""
    files, disk = node()
    files.capacity = files.used()
    with pytest.raises(DiskFull):
        disk.save(None, entries(4, 9, 1, 900))
    assert disk.last_index == 3
    with pytest.raises(LookupError):
        disk.read(4, 4, 100)


def test_a_full_disk_at_a_new_segment() -> None:
    """Nothing left behind, small saves still fit, and it goes on when there is space
    (pitfalls 37, 66, 67)."""
    files, disk = node()
    files.capacity = files.used() + 3000
    before = view(open_disk(files.killed()))
    for _ in range(3):
        with pytest.raises(DiskFull, match="free some space, nothing is lost"):
            disk.save(None, entries(4, 8, 1, 900))
        with pytest.raises(DiskFull):
            disk.prepare_spare()
        again = files.killed()
        again.capacity = None
        assert view(open_disk(again)) == before
    disk.save(None, [entry(4)])
    files.capacity = None
    disk.save(HardState(2), entries(5, 9, 2, 900))
    assert open_disk(files.killed()).last_index == 9


@pytest.mark.parametrize("taken", [0, 1, 31, 32, 33, 700, 1100])
def test_a_full_disk_in_the_middle_of_a_frame(taken: int) -> None:
    """As on a file system that copies on write: the part that was written is zeroed."""

    class CopyOnWrite(SimulatedFiles):
        room: int | None = None

        def pwrite(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
            if self.room is not None and any(data):
                data = bytes(data[: self.room])
                self.room -= len(data)
                if not data:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return super().pwrite(handle, data, offset)

    files = CopyOnWrite()
    disk = open_disk(files)
    disk.save(HardState(1, "a"), entries(1, 3))
    before = view(open_disk(files.killed()))
    content = disk.segments()[0].used_bytes
    files.room = taken
    with pytest.raises(DiskFull):
        disk.save(None, entries(4, 8, 1, 200))
    files.room = None
    assert disk.last_index == 3
    assert disk.segments()[0].used_bytes == content
    again = open_disk(files.killed())
    assert view(again) == before
    assert not again.notes
    disk.save(None, [entry(4)])
    assert open_disk(files.killed()).last_index == 4


class Full(SimulatedFiles):
    """From `full` on, `room` bytes are taken, of overwriting too, and then no more."""

    full = False
    room = 600
    number = errno.ENOSPC

    def pwrite(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        if self.full and not self.room:
            raise OSError(self.number, os.strerror(self.number))
        if self.full:
            taken = min(self.room, len(data))
            data, self.room = bytes(data[:taken]), self.room - taken
        return super().pwrite(handle, data, offset)


@pytest.mark.parametrize("taken_back", range(0, 640, 7))
def test_a_frame_that_can_be_taken_back_only_in_part(taken_back: int) -> None:
    """Overwriting takes space on some file systems: DiskFull at every byte of the repair, a crash
    then is a torn write, and with space all goes on."""
    files = Full()
    disk = open_disk(files)
    disk.save(HardState(1, "a"), entries(1, 3))
    files.full = True
    with pytest.raises(DiskFull):
        disk.save(None, entries(4, 8, 1, 190))
    files.room = taken_back
    with pytest.raises(DiskFull):
        disk.save(None, [entry(4)])
    files.full = False
    assert open_disk(files.killed()).last_index == 3
    disk.save(None, [entry(4)])
    assert open_disk(files.killed()).last_index == 4


@pytest.mark.parametrize("still_full", [False, True])
def test_a_clean_end_takes_a_partial_frame_back_first(still_full: bool) -> None:
    """Called closed with a torn tail, the directory would never open again (pitfall 67)."""
    files = Full()
    disk = open_disk(files)
    disk.save(HardState(1, "a"), entries(1, 3))
    files.full = True
    with pytest.raises(DiskFull):
        disk.save(None, entries(4, 8, 1, 190))
    files.full = still_full
    if still_full:
        with pytest.raises(DiskFull):
            disk.close()
    else:
        disk.close()
    files.full = False
    again = open_disk(files.killed())
    assert again.last_index == 3
    assert again.was_clean == (not still_full)


def test_a_repair_that_fails_is_final() -> None:
    """The partial frame cannot be taken back: StorageFailed, not DiskFull."""
    files = Full()
    disk = open_disk(files)
    disk.save(HardState(1, "a"), entries(1, 3))
    files.full = True
    with pytest.raises(DiskFull):
        disk.save(None, entries(4, 8, 1, 190))
    files.number = errno.EIO
    with pytest.raises(StorageFailed):
        disk.save(None, [entry(4)])
    files.full = False
    with pytest.raises(StorageFailed):
        disk.save(None, [entry(4)])
    again = open_disk(files.killed())
    assert again.last_index == 3
    assert "torn write" in again.notes[0]


def test_the_hard_state_of_a_save_that_found_no_space_may_be_saved_again() -> None:
    files, disk = node()
    files.capacity = files.used()
    for _ in range(2):
        with pytest.raises(DiskFull):
            disk.save(HardState(5, "c"), entries(4, 9, 5, 900))
    files.capacity = None
    disk.save(HardState(5, "c"), entries(4, 9, 5, 900))
    found = view(open_disk(files.killed()))
    assert found.hard_state == HardState(5, "c")
    assert len(found.log) == 9


def test_closing() -> None:
    files, disk = node()
    disk.close()
    disk.close()
    with pytest.raises(AssertionError, match="closed"):
        disk.save(None, [entry(4)])
    assert files.handles == {}
    again = open_disk(files)
    assert again.was_clean
    files.failing_syncs = 1
    with pytest.raises(StorageFailed):
        again.close()
    assert files.handles == {}
    third = open_disk(files)
    third.close(clean=False)
    assert not open_disk(files).was_clean


def test_a_full_disk_at_the_end() -> None:
    files, disk = node()
    files.capacity = files.used()
    with pytest.raises(DiskFull):
        disk.close()
    assert files.handles == {}
    files.capacity = None
    assert not open_disk(files).was_clean


def test_nothing_stays_open_after_a_refused_start() -> None:
    files, disk = node()
    disk.close()
    segment = next(path for path in files.seen if path.suffix == ".seg")
    files.seen[segment].content[600] ^= 1
    with pytest.raises(Exception, match="checksum"):
        open_disk(files)
    assert files.handles == {}


def test_interrupted_and_short_calls_change_nothing() -> None:
    """pitfall 75"""
    files = SimulatedFiles()
    files.interrupts = True
    files.max_write = 77
    disk = open_disk(files)
    disk.save(HardState(1, "a"), entries(1, 9, 1, 600))
    path = disk.snapshot_path()
    files.put(path, bytes(range(256)))
    disk.adopt_snapshot(path, metadata(2))
    found = view(open_disk(files.killed()))
    assert found.log == tuple(each.record for each in entries(3, 9, 1, 600))
    assert found.snapshot_bytes == bytes(range(256))
