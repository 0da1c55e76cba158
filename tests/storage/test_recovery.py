"""The sequence of segments: which of them may be missing, empty, unsealed, and which may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest

from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry
from raftd.raft.state import HardState
from raftd.storage import segment as form
from raftd.storage.disk import DirectoryDamaged, DirectoryMismatch, Disk
from raftd.storage.segment import SECTOR, Header
from tests.storage.node import (
    CLUSTER,
    SEGMENT,
    configuration_entry,
    entries,
    entry,
    metadata,
    open_disk,
    view,
)
from tests.storage.simulation import DATA, SimulatedFiles

WAL = DATA / "wal"


def node_with(*saves: list[Entry]) -> SimulatedFiles:
    """The files of a killed node that made these saves."""
    files = SimulatedFiles()
    disk = open_disk(files)
    for save in saves:
        disk.save(HardState(save[-1].term), save)
    return files.killed()


def three_segments() -> SimulatedFiles:
    return node_with(entries(1, 3, 1, 900), entries(4, 6, 1, 900), entries(7, 8, 1, 900))


def segments(files: SimulatedFiles) -> list[Path]:
    return sorted(path for path in files.seen if path.suffix == ".seg")


def rewrite(files: SimulatedFiles, path: Path, change: Callable[[bytearray], None]) -> None:
    change(files.seen[path].content)


def raw_segment(header: Header, *frames: list[Entry], seal: int | None = None) -> bytes:
    content = bytearray(header.encode().ljust(header.size, b"\0"))
    position = SECTOR
    for frame in frames:
        data = form.encode_frame(
            header.salt, position, frame[0].index, [each.record for each in frame]
        )
        content[position : position + len(data)] = data
        position += len(data)
    if seal is not None:
        content[position : position + 32] = form.encode_seal(header.salt, position, seal)
    return bytes(content)


def refused(files: SimulatedFiles, match: str) -> DirectoryDamaged:
    with pytest.raises(DirectoryDamaged, match=match) as raised:
        open_disk(files)
    return raised.value


def test_three_segments_are_one_log() -> None:
    files = three_segments()
    assert len(segments(files)) == 3
    disk = open_disk(files)
    assert [each.index for each in disk.recovered.tail] == list(range(1, 9))
    assert [(s.first_index, s.last_index) for s in disk.segments()] == [(1, 3), (4, 6), (7, 8)]
    assert disk.notes == []


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_missing_segment(number: int) -> None:
    """pitfall 71"""
    files = three_segments()
    files.unlink(segments(files)[number])
    match = ["the log begins at index 4", "segment 2 of the log is missing", "none is there"]
    error = refused(files, match[number])
    if number == 1:
        assert (error.first_index, error.last_index) == (1, 6)


def test_no_segment_and_no_directory() -> None:
    files = node_with(entries(1, 3))
    files.unlink(segments(files)[0])
    refused(files, "has no segment")
    del files.seen[WAL]
    refused(files.killed(), "the log is missing")


def test_names_that_disagree() -> None:
    """pitfall 71"""
    files = three_segments()
    first = segments(files)[0]
    files.rename(first, first.with_name(f"{1:08d}-{2:016d}.seg"))
    refused(files, "its header belongs to a file called")
    files = three_segments()
    files.put(WAL / f"{2:08d}-{9:016d}.seg", b"twin")
    refused(files, "one is there twice")


def test_a_segment_from_elsewhere_leaves_no_range_that_ends_before_it_begins() -> None:
    files = three_segments()
    files.put(WAL / f"{9:08d}-{1:016d}.seg", b"planted")
    error = refused(files, "segment 4 of the log is missing.* Entries from 7 on are in doubt")
    assert (error.first_index, error.last_index) == (7, None)


def test_another_clusters_segment_and_a_newer_one() -> None:
    """pitfall 10"""
    for cluster in (b"x" * 16, CLUSTER):
        files = node_with(entries(1, 3))
        [path] = segments(files)
        sector = bytearray(Header(cluster, 1, 1, SEGMENT, b"saltsalt").encode())
        if cluster == CLUSTER:
            sector[8] = 9
            sector[-4:] = crc32(sector[:-4]).to_bytes(4, "little")
        files.seen[path].content[:SECTOR] = sector
        before = files.seen[path].content
        with pytest.raises(DirectoryMismatch, match=r"another cluster|version 9 is newer"):
            open_disk(files)
        assert files.seen[path].content == before


def leave_newest(files: SimulatedFiles, content: bytes, sequence: int = 2, first: int = 4) -> Path:
    path = WAL / f"{sequence:08d}-{first:016d}.seg"
    files.put(path, content)
    return path


VALID = Header(CLUSTER, 2, 4, SEGMENT, b"saltsalt").encode()


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", bytes(SECTOR), bytes(SEGMENT), VALID[:100], VALID, VALID.ljust(SEGMENT, b"\0")],
)
def test_an_empty_newest_segment_is_left_from_its_making(content: bytes) -> None:
    """The one before is not sealed: nothing was ever written there (pitfall 72)."""
    files = node_with(entries(1, 3))
    path = leave_newest(files, content)
    disk = open_disk(files)
    assert view(disk).log == tuple(each.record for each in entries(1, 3))
    assert any(path.name in note for note in disk.notes)
    assert files.size(path) is None
    disk.save(None, entries(4, 6, 1, 900))
    assert open_disk(files.killed()).last_index == 6


def test_an_unsealed_segment_and_entries_in_the_next() -> None:
    files = node_with(entries(1, 3))
    header = Header(CLUSTER, 2, 4, SEGMENT, b"saltsalt")
    leave_newest(files, raw_segment(header, entries(4, 5)))
    refused(files, "without a seal")
    files.seen[segments(files)[1]].content[:100] = bytes(100)
    refused(files, "header is not valid")


def test_a_sealed_segment_needs_the_next_one() -> None:
    """Zero-length, zeroed or gone: its entries may have counted (pitfalls 71, 72)."""
    files = three_segments()
    last = segments(files)[-1]
    for content in (b"", bytes(SEGMENT), VALID):
        files.seen[last].content = bytearray(content)
        refused(files, "header is not valid|belongs to a file")
    files.unlink(last)
    refused(files, "says that another one follows")


def test_the_seal_and_the_next_header_must_agree() -> None:
    files = node_with(entries(1, 3))
    [first] = segments(files)
    header = Header(CLUSTER, 1, 1, SEGMENT, b"saltsalt")
    files.seen[first].content[:] = raw_segment(header, entries(1, 3), seal=5)
    leave_newest(files, VALID.ljust(SEGMENT, b"\0"))
    refused(files, "the seal says 5, the log goes on at 4")
    files.seen[first].content[:] = raw_segment(header, entries(1, 2), seal=3)
    refused(files, "the segment before goes on at index 3, not here")


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        ([[entry(1), entry(2)], [entry(4)]], "entry 4 follows entry 2"),
        ([[entry(2)]], "entry 2 follows entry 0"),
        ([[entry(1, 3)], [entry(2, 2)]], "term 2 follows term 3"),
        ([[entry(1, 3), entry(2, 4)], [entry(2, 2)]], "term 2 follows term 3"),
        ([[entry(1), entry(3)]], "entry 3 stands there"),
    ],
)
def test_logs_that_nobody_wrote(frames: list[list[Entry]], match: str) -> None:
    """Whole frames with right checksums, in an order that a raftd never writes."""
    files = node_with([entry(1, 9)])
    [path] = segments(files)
    header = Header(CLUSTER, 1, 1, SEGMENT, b"saltsalt")
    files.seen[path].content[:] = raw_segment(header, *frames)
    refused(files, match)


def test_records_that_nobody_wrote() -> None:
    def with_record(record: bytes) -> SimulatedFiles:
        files = node_with([entry(1)])
        header = Header(CLUSTER, 1, 1, SEGMENT, b"saltsalt")
        content = raw_segment(header, [Entry(1, 1, entry(1).type, record)])
        files.seen[segments(files)[0]].content[:] = content
        return files

    good = entry(1).record
    changed = good[:40] + b"?" + good[41:]
    refused(with_record(changed), "record's checksum")
    for kind, match in ((2, "configuration makes no sense"), (9, "unknown entry type 9")):
        body = good[4:32] + bytes([kind]) + good[33:]
        refused(with_record(crc32(body).to_bytes(4, "little") + body), match)
    refused(with_record(good + b"more"), "frame has not the entries it says")


def test_a_file_longer_than_its_header_says() -> None:
    files = node_with(entries(1, 3))
    files.seen[segments(files)[0]].content.extend(b"more")
    refused(files, "4100 bytes, 4096 by its header")


def test_configurations_and_terms_are_told() -> None:
    """Also after some of them have been superseded (pitfalls 40, 41)."""
    one, two = Configuration(("a",)), Configuration(("a", "b"), ("a",))
    files = SimulatedFiles()
    disk = open_disk(files)
    disk.save(HardState(3), [configuration_entry(1, 1, one), entry(2), entry(3, 3)])
    disk.save(None, [configuration_entry(4, 3, two), configuration_entry(5, 3, one)])
    recovered = open_disk(files.killed()).recovered
    assert recovered.configurations == ((1, one), (4, two), (5, one))
    assert recovered.term_runs == ((1, 1), (3, 3))
    disk.save(HardState(4), [entry(4, 4)])
    recovered = open_disk(files.killed()).recovered
    assert recovered.configurations == ((1, one),)
    assert recovered.term_runs == ((1, 1), (3, 3), (4, 4))
    disk.save(HardState(5), [configuration_entry(1, 5, two)])
    recovered = open_disk(files.killed()).recovered
    assert recovered.configurations == ((1, two),)
    assert recovered.term_runs == ((1, 5),)
    path = disk.snapshot_path()
    files.put(path, b"state")
    disk.adopt_snapshot(path, metadata(1, 5))
    assert open_disk(files.killed()).recovered.configurations == ()


def test_entries_that_supersede_below_the_first_segment_there_is() -> None:
    """The entries of a deleted segment were superseded before it was deleted (pitfall 57)."""
    files = SimulatedFiles()
    disk = open_disk(files)
    disk.save(HardState(1), entries(1, 3, 1, 900))
    disk.save(None, entries(4, 5, 1, 900))
    disk.save(HardState(2), entries(3, 4, 2, 100))
    path = disk.snapshot_path()
    files.put(path, b"state")
    disk.adopt_snapshot(path, metadata(2))
    disk.compact(2)
    assert (disk.first_index, len(disk.segments())) == (3, 1)
    again = open_disk(files.killed())
    assert [each.record for each in again.recovered.tail] == [e.record for e in entries(3, 4, 2)]


def test_the_tail_fits_and_is_the_newest() -> None:
    files = three_segments()
    for tail_bytes, count in ((0, 0), (932, 0), (1000, 1), (2000, 2), (4000, 4), (10**6, 8)):
        disk = open_disk(files, tail_bytes=tail_bytes)
        found = [each.index for each in disk.recovered.tail]
        assert found == list(range(9 - count, 9))
        disk.close()


def test_the_tail_is_exact_although_frames_take_space_between() -> None:
    files = node_with(*[[entry(index)] for index in range(1, 41)])
    disk = open_disk(files, tail_bytes=20 * 133 + 132)
    found = [each.index for each in disk.recovered.tail]
    assert 19 <= len(found) <= 20
    assert found == list(range(41 - len(found), 41))


def disk_with_snapshot(files: SimulatedFiles, index: int, term: int) -> Disk:
    disk = open_disk(files)
    path = disk.snapshot_path()
    files.put(path, b"state")
    disk.adopt_snapshot(path, metadata(index, term))
    return disk


def test_a_snapshot_beyond_the_log_restarts_it() -> None:
    """A crash between making it durable and restarting the log (pitfalls 51, 52)."""
    for index, term in ((50, 3), (3, 2)):
        files = node_with(entries(1, 6, 1))
        disk_with_snapshot(files, index, term)
        disk = open_disk(files.killed())
        assert (disk.first_index, disk.last_index) == (index + 1, index)
        assert any("restarts behind the snapshot" in note for note in disk.notes)
        disk.save(HardState(4), entries(index + 1, index + 3, 4))
        again = open_disk(files.killed())
        assert again.last_index >= index


def test_terms_that_fall_behind_the_snapshot() -> None:
    files = node_with(entries(1, 6, 1))
    disk = open_disk(files)
    path = disk.snapshot_path()
    files.put(path, b"state")
    disk.install_snapshot(path, metadata(10, 5))
    disk.save(HardState(6), entries(11, 12, 6))
    files = files.killed()
    [segment] = segments(files)
    header = form.decode_header(bytes(files.seen[segment].content[:SECTOR]))
    files.seen[segment].content[:] = raw_segment(header, entries(11, 12, 4))
    refused(files, "term 4 follows the snapshot's term 5")
