"""The log in use: appending, superseding, reading beside it, deleting."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftd.raft.log import Entry
from raftd.raft.state import HardState
from raftd.storage.disk import DirectoryDamaged, Disk, NotInLog
from tests.storage.node import SEGMENT, entries, entry, metadata, open_disk
from tests.storage.simulation import DATA, SimulatedFiles


def disk_with(*saves: list[Entry]) -> tuple[SimulatedFiles, Disk]:
    files = SimulatedFiles()
    disk = open_disk(files)
    disk.save(HardState(1), [])
    for save in saves:
        disk.save(None, save)
    return files, disk


def indexes(found: list[Entry]) -> list[int]:
    return [each.index for each in found]


def wanted(disk: Disk) -> bool:
    return disk.spare_wanted


def test_one_write_and_one_sync_for_a_batch() -> None:
    files, disk = disk_with()
    files.calls.clear()
    disk.save(None, entries(1, 10))
    assert [call.split()[0] for call in files.calls] == ["write", "sync"]
    files.calls.clear()
    disk.save(HardState(2), entries(11, 12, 2))
    names = ["write hard-state", "sync hard-state"] * 2
    assert files.calls[:4] == names, "the hard state first"
    assert [call.split()[0] for call in files.calls[4:]] == ["write", "sync"]
    files.calls.clear()
    disk.save(None, [])
    assert files.calls == []


def test_a_new_segment_is_named_before_the_seal_and_the_seal_before_a_frame() -> None:
    files, disk = disk_with(entries(1, 3, 1, 900))
    files.calls.clear()
    disk.save(None, entries(4, 4, 1, 900))
    one, two = "00000001-0000000000000001.seg", "00000002-0000000000000004.seg"
    assert files.calls == [
        "unlink new.tmp",
        "create new.tmp",
        "write new.tmp",
        "write new.tmp",
        "sync new.tmp",
        f"rename new.tmp {two}",
        "sync directory wal",
        f"write {one}",
        f"sync {one}",
        f"write {two}",
        f"sync {two}",
    ]


def test_a_spare_segment_saves_the_work() -> None:
    files, disk = disk_with(entries(1, 1, 1, 900))
    assert not wanted(disk)
    disk.save(None, entries(2, 3, 1, 900))
    assert wanted(disk)
    size = disk.size_bytes
    disk.prepare_spare()
    assert not wanted(disk)
    assert disk.size_bytes == size + SEGMENT
    files.calls.clear()
    disk.prepare_spare()
    assert files.calls == []
    disk.save(None, entries(4, 4, 1, 900))
    assert "create new.tmp" not in files.calls
    assert disk.size_bytes == 2 * SEGMENT
    assert not wanted(disk)
    assert open_disk(files.killed()).last_index == 4


def test_a_batch_larger_than_a_segment_gets_a_larger_one() -> None:
    """pitfall 73"""
    big = entries(2, 9, 1, 5000)
    files, disk = disk_with([entry(1)], big, [entry(10, 1, 3000)])
    sizes = [each.size_bytes for each in disk.segments()]
    assert sizes[0] == sizes[2] == SEGMENT
    assert 8 * 5033 < sizes[1] < 8 * 5033 + 2048
    assert disk.read(2, 9, 1 << 20) == big
    again = open_disk(files.killed())
    assert indexes(list(again.recovered.tail)) == list(range(1, 11))
    disk.prepare_spare()
    disk.save(None, [entry(11, 1, 6000)])
    disk.save(None, [entry(12, 1, 3000)])
    assert open_disk(files.killed()).last_index == 12


@pytest.mark.parametrize("room", [-1, 0, 1])
def test_a_frame_that_just_fits_and_does_not(room: int) -> None:
    """pitfall 73"""
    payload = SEGMENT - 512 - 32 - 32 - 33 - 1 + room
    files, disk = disk_with([entry(1, 1, payload)])
    assert len(disk.segments()) == (2 if room > 0 else 1)
    disk.save(None, [entry(2)])
    assert indexes(list(open_disk(files.killed()).recovered.tail)) == [1, 2]


def test_superseded_entries_are_gone() -> None:
    """pitfall 27"""
    _, disk = disk_with(entries(1, 9))
    disk.save(HardState(2), entries(4, 5, 2))
    assert disk.last_index == 5
    assert [(e.index, e.term) for e in disk.read(1, 9, 1 << 20)] == [
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 2),
        (5, 2),
    ]
    with pytest.raises(NotInLog, match="no entry 6: the log on disk has 1 to 5"):
        disk.read(6, 9, 100)


def test_reading_is_bounded_but_gives_at_least_one() -> None:
    _, disk = disk_with(*[[entry(index)] for index in range(1, 31)])
    size = 133
    assert indexes(disk.read(5, 30, 0)) == [5]
    assert indexes(disk.read(5, 30, size)) == [5]
    assert indexes(disk.read(5, 30, 2 * size - 1)) == [5]
    assert indexes(disk.read(5, 30, 2 * size)) == [5, 6]
    assert indexes(disk.read(5, 30, 10 * size)) == list(range(5, 15))
    assert indexes(disk.read(5, 7, 1 << 20)) == [5, 6, 7]
    assert indexes(disk.read(29, 99, 1 << 20)) == [29, 30]
    for index in (0, 31):
        with pytest.raises(NotInLog):
            disk.read(index, 40, 1000)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 1500), min_size=1, max_size=25), st.data())
def test_reading_any_range(sizes: list[int], data: st.DataObject) -> None:
    new = [entry(index, 1, size) for index, size in enumerate(sizes, 1)]
    saves, rest = [], new
    while rest:
        count = data.draw(st.integers(1, 4))
        saves.append(rest[:count])
        rest = rest[count:]
    _, disk = disk_with(*saves)
    first = data.draw(st.integers(1, len(new)))
    last = data.draw(st.integers(first, len(new) + 3))
    limit = budget = data.draw(st.integers(0, 6000))
    wanted: list[Entry] = []
    for each in new[first - 1 : last]:
        budget -= len(each.record)
        if budget < 0 and wanted:
            break
        wanted.append(each)
    assert disk.read(first, last, limit) == wanted
    assert disk.read(first, last, 1 << 30) == new[first - 1 : last]


def test_what_is_read_is_checked() -> None:
    """Damage after the start is noticed by the reader, and the disk stays usable (pitfall 34)."""
    files, disk = disk_with(entries(1, 3))
    path = DATA / "wal" / disk.segments()[0].file
    place = disk._wal._index.words[1] & 0xFFFFFFFF
    for offset in (place, place + 4, place + 8, place + 16, place + 60):
        files.seen[path].content[offset] ^= 1
        with pytest.raises(DirectoryDamaged) as raised:
            disk.read(1, 3, 1000)
        assert (raised.value.file, raised.value.first_index) == (path, 2)
        assert indexes(disk.read(1, 1, 1000)) == [1]
        files.seen[path].content[offset] ^= 1
    del files.seen[path].content[place + 10 :]
    with pytest.raises(DirectoryDamaged, match="not there"):
        disk.read(2, 3, 1000)
    disk._wal._index.words[0], disk._wal._index.words[1] = disk._wal._index.words[:2][::-1]
    with pytest.raises(DirectoryDamaged, match=r"entry 1 stands there|not there"):
        disk.read(2, 2, 1000)


def test_descriptions() -> None:
    _, disk = disk_with(entries(1, 3, 1, 900))
    disk.save(HardState(2), entries(4, 5, 2, 900))
    disk.save(HardState(3), entries(3, 3, 3, 900))
    disk.save(None, entries(4, 4, 3, 900))
    found = [(s.first_index, s.last_index, s.first_term, s.last_term) for s in disk.segments()]
    assert found == [(1, 2, 1, 1), (3, 3, 3, 3), (4, 4, 3, 3)]
    assert [s.file for s in disk.segments()] == [
        f"{number:08d}-{first:016d}.seg" for number, first in ((1, 1), (2, 4), (3, 4))
    ]
    assert disk.used_bytes == sum(s.used_bytes for s in disk.segments())
    assert disk.size_bytes == 3 * SEGMENT
    disk.save(HardState(4), entries(1, 1, 4))
    assert [s.first_index for s in disk.segments()] == [None, None, 1]


def adopt(files: SimulatedFiles, disk: Disk, index: int, term: int = 1) -> None:
    path = disk.snapshot_path()
    files.put(path, b"state")
    disk.adopt_snapshot(path, metadata(index, term))


def test_compaction_deletes_whole_segments_oldest_first() -> None:
    """Never beyond the snapshot, never the active one (pitfall 57)."""
    files, disk = disk_with(*[entries(i, i + 2, 1, 900) for i in range(1, 12, 3)])
    assert len(disk.segments()) == 4
    disk.compact(100)
    assert disk.first_index == 1
    adopt(files, disk, 8)
    for index in (-5, 0, 2):
        disk.compact(index)
        assert disk.first_index == 1
    files.calls.clear()
    disk.compact(100)
    assert [call.split()[0] for call in files.calls] == ["unlink", "sync"] * 2
    assert disk.first_index == 7
    with pytest.raises(NotInLog):
        disk.read(6, 8, 100)
    assert indexes(disk.read(7, 8, 10000)) == [7, 8]
    adopt(files, disk, 12)
    disk.compact(9)
    assert len(disk.segments()) == 1
    assert disk.first_index == 10
    again = open_disk(files.killed())
    assert (again.first_index, again.last_index) == (10, 12)
    assert again.recovered.tail == ()


def test_an_active_segment_without_live_entries_stays() -> None:
    files, disk = disk_with(entries(1, 3, 1, 900), entries(4, 4, 1, 900))
    adopt(files, disk, 4)
    disk.compact(4)
    assert (disk.first_index, disk.last_index) == (4, 4)
    disk.save(None, entries(5, 6, 1, 100))
    assert open_disk(files.killed()).last_index == 6


def test_a_gap_or_a_term_that_was_not_saved_is_our_bug() -> None:
    _, disk = disk_with(entries(1, 3))
    for wrong in ([entry(5)], [entry(4), entry(6)], [entry(4, 2)]):
        with pytest.raises(AssertionError):
            disk.save(None, wrong)
        disk._health.failure = None


def test_reading_beside_saving_and_compacting(tmp_path: Path) -> None:
    """Real files and threads: a reader sees whole entries or is told that they are gone."""
    disk = open_disk(path=tmp_path)
    disk.save(HardState(1), entries(1, 5))
    done = threading.Event()
    problems: list[str] = []

    def read() -> None:
        while not done.is_set():
            first = disk.first_index
            try:
                found = disk.read(first, first + 20, 4000)
            except NotInLog:
                continue
            if found != entries(first, first + len(found) - 1):
                problems.append(f"{first}: {indexes(found)}")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for first in range(6, 306, 5):
        disk.save(None, entries(first, first + 4))
        if disk.spare_wanted:
            disk.prepare_spare()
        if first % 50 == 1:
            path = disk.snapshot_path()
            path.write_bytes(b"state")
            disk.adopt_snapshot(path, metadata(first - 20))
            disk.compact(first)
    done.set()
    for reader in readers:
        reader.join()
    disk.close()
    assert not problems
    again = open_disk(path=tmp_path)
    assert again.last_index == 305
    assert again.was_clean
    again.close()
