"""Snapshots: adopted as a whole or not at all, checked, and never replaced by an older one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from raftd.raft.state import HardState
from raftd.storage.disk import DirectoryDamaged, Disk, DiskFull, SnapshotRejected
from tests.storage.node import INITIAL, entries, entry, metadata, open_disk, view
from tests.storage.simulation import DATA, SimulatedFiles

SNAPSHOTS = DATA / "snapshots"


def node() -> tuple[SimulatedFiles, Disk]:
    files = SimulatedFiles()
    disk = open_disk(files)
    disk.save(HardState(1), entries(1, 20))
    return files, disk


def put(files: SimulatedFiles, disk: Disk, data: bytes) -> Path:
    path = disk.snapshot_path()
    files.put(path, data)
    return path


def test_none_at_first() -> None:
    _, disk = node()
    assert disk.snapshot == metadata(0, 0)
    assert disk.snapshot_file is None
    assert disk.read_snapshot(0, 100) == b""


def test_adoption() -> None:
    files, disk = node()
    data = b"0123456789" * 50
    adopted = disk.adopt_snapshot(put(files, disk, data), metadata(7))
    assert adopted == disk.snapshot
    assert (adopted.last_included_index, adopted.last_included_term) == (7, 1)
    assert (adopted.size, adopted.checksum) == (500, hashlib.sha256(data).hexdigest())
    assert adopted.configuration == INITIAL
    assert disk.snapshot_file == SNAPSHOTS / "0000000000000007-1.snap"
    assert disk.read_snapshot(0, 1 << 20) == data
    assert disk.read_snapshot(495, 100) == data[495:]
    assert disk.read_snapshot(500, 100) == b""
    again = open_disk(files.killed())
    assert again.snapshot == adopted == again.recovered.snapshot
    assert [each.index for each in again.recovered.tail] == list(range(8, 21))


def test_older_ones_are_removed_when_the_new_one_is_durable() -> None:
    files, disk = node()
    for index in (3, 9):
        disk.adopt_snapshot(put(files, disk, b"state"), metadata(index))
    assert files.listdir(SNAPSHOTS) == [f"{9:016d}-1.meta", f"{9:016d}-1.snap"]
    calls = files.calls
    written = max(
        at for at, call in enumerate(calls) if call.startswith("rename") and "meta" in call
    )
    removed = min(at for at, call in enumerate(calls) if call == f"unlink {3:016d}-1.meta")
    assert "sync directory snapshots" in calls[written:removed]


@pytest.mark.parametrize("index", [5, 7])
def test_one_that_is_not_newer_is_dropped(index: int) -> None:
    """pitfalls 50 and 54"""
    files, disk = node()
    first = disk.adopt_snapshot(put(files, disk, b"first"), metadata(7))
    path = put(files, disk, b"second")
    assert disk.adopt_snapshot(path, metadata(index)) == first
    disk.install_snapshot(put(files, disk, b"third"), metadata(index))
    assert files.size(path) is None
    assert len(files.listdir(SNAPSHOTS)) == 2
    assert disk.read_snapshot(0, 100) == b"first"
    assert disk.last_index == 20


def test_one_that_is_not_what_it_should_be_is_rejected() -> None:
    """The disk, and the log, are as before and usable (pitfall 61)."""
    files, disk = node()
    good = hashlib.sha256(b"right").hexdigest()
    for size, checksum, data in ((5, good, b"wrong"), (6, good, b"right"), (5, "?", b"right")):
        said = msgspec.structs.replace(metadata(30, 2), size=size, checksum=checksum)
        for call in (disk.adopt_snapshot, disk.install_snapshot):
            path = put(files, disk, data)
            with pytest.raises(SnapshotRejected, match="it was removed"):
                call(path, said)
            assert files.listdir(SNAPSHOTS) == []
            assert files.size(DATA / "wal" / "new.tmp") is None
    assert disk.last_index == 20
    disk.save(None, [entry(21)])
    said = msgspec.structs.replace(metadata(30, 2), size=5, checksum=good)
    disk.install_snapshot(put(files, disk, b"right"), said)
    assert disk.snapshot == said


def test_installing_one_the_log_contains_keeps_the_rest() -> None:
    """Figure 13, rule 6 (pitfall 50)."""
    files, disk = node()
    disk.install_snapshot(put(files, disk, b"state"), metadata(12))
    assert (disk.first_index, disk.last_index) == (1, 20)
    again = open_disk(files.killed())
    assert [each.index for each in again.recovered.tail] == list(range(13, 21))


@pytest.mark.parametrize(("index", "term"), [(12, 2), (21, 1), (500, 9)])
def test_installing_one_the_log_does_not_contain_restarts_it(index: int, term: int) -> None:
    """Figure 13, rule 7."""
    files, disk = node()
    disk.install_snapshot(put(files, disk, b"state"), metadata(index, term))
    assert (disk.first_index, disk.last_index) == (index + 1, index)
    [segment] = disk.segments()
    assert segment.first_index is None
    disk.save(HardState(9), entries(index + 1, index + 2, 9))
    again = open_disk(files.killed())
    assert view(again).log == tuple(e.record for e in entries(index + 1, index + 2, 9))
    assert again.recovered.term_runs == ((index + 1, 9),)


def test_the_newest_is_never_replaced_by_an_older_one() -> None:
    """Even where the older one is there, and whole (pitfalls 53 and 61)."""
    files, disk = node()
    disk.adopt_snapshot(put(files, disk, b"old state"), metadata(4))
    old = {path: bytes(inode.content) for path, inode in files.seen.items() if path.stem[:1] == "0"}
    disk.adopt_snapshot(put(files, disk, b"new state"), metadata(9))
    for path, content in old.items():
        if path.parent == SNAPSHOTS:
            files.put(path, content)
    whole = files.killed()
    newest = SNAPSHOTS / f"{9:016d}-1.snap"
    for spoil in (b"new statE", b"new stat", b"new state."):
        files = whole.killed()
        files.seen[newest].content[:] = spoil
        with pytest.raises(DirectoryDamaged, match=r"SHA-256|bytes, not 9") as raised:
            open_disk(files)
        assert (raised.value.first_index, raised.value.last_index) == (1, 9)
    files = whole.killed()
    files.unlink(newest)
    with pytest.raises(DirectoryDamaged, match="bytes are missing"):
        open_disk(files)
    disk = open_disk(whole)
    assert disk.read_snapshot(0, 100) == b"new state"
    assert len(whole.listdir(SNAPSHOTS)) == 2


def test_a_full_disk_leaves_the_old_one() -> None:
    """At every step: DiskFull, nothing changed; with space it works (pitfalls 66, 67)."""
    files, disk = node()
    disk.adopt_snapshot(put(files, disk, b"old"), metadata(2))
    before = view(open_disk(files.killed()))
    full = 0
    for install in (False, True):
        for room in range(0, 6000, 40):
            path = put(files, disk, b"new")
            files.capacity = files.used() + room
            try:
                call = disk.install_snapshot if install else disk.adopt_snapshot
                call(path, metadata(40 if install else 5, 1))
            except DiskFull:
                full += 1
                files.capacity = None
                assert view(open_disk(files.killed())) == before
                assert files.size(DATA / "wal" / "new.tmp") is None
                if files.size(path) is not None:
                    files.unlink(path)
                continue
            files.capacity = None
            break
        before = view(open_disk(files.killed()))
        assert before.snapshot_bytes == b"new"
    assert full > 50
    assert (disk.first_index, disk.last_index) == (41, 40)
    assert disk.snapshot.last_included_index == 40


def test_paths_are_fresh() -> None:
    _, disk = node()
    assert len({disk.snapshot_path() for _ in range(10)}) == 10
