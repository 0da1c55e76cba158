"""Every byte of every file flipped, cut away, zeroed: noticed, or harmless; never a quiet loss.

What cannot be told, because a power cut could have left the same bytes: that the newest segment
ended earlier, at a frame's edge with zeros behind it. After a clean end even that is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from raftd.raft.state import HardState, SnapshotMetadata
from raftd.record import HEADER, HEADER_SIZE
from raftd.storage import document
from raftd.storage.directory import NodeDocument, PeersDocument
from raftd.storage.disk import DirectoryDamaged, DirectoryMismatch, Disk, StorageError
from raftd.storage.hard_state import HardStateFile
from raftd.storage.index import OFFSET_BITS, OFFSET_MASK
from raftd.storage.recovery import Recovery, recover
from raftd.storage.snapshots import Snapshots
from tests.storage.node import CLUSTER, entries, entry, metadata, open_disk, view
from tests.storage.simulation import DATA, SECTOR, SimulatedFiles

WAL = DATA / "wal"
T = TypeVar("T")


class Specimen:
    """A small directory with a bit of everything, and its files, to be spoiled and mended."""

    def __init__(self, *, clean: bool) -> None:
        self.files = SimulatedFiles()
        disk = open_disk(self.files)
        saves = [
            entries(1, 4, 1, 300),
            entries(5, 6, 1, 700),
            entries(6, 9, 2, 200),
            [entry(10, 2, 500)],
            [entry(11, 2, 60)],
            [entry(12, 2, bytes(1400))],
        ]
        self.history: list[list[bytes]] = [[]]
        for save in saves:
            disk.save(HardState(save[0].term, "b"), save)
            before = self.history[-1][: save[0].index - 1]
            self.history.append(before + [each.record for each in save])
        path = disk.snapshot_path()
        self.files.put(path, b"the state up to 2")
        self.snapshot = disk.adopt_snapshot(path, metadata(2))
        disk.remember_peer("b", b"b" * 16, 3)
        if clean:
            disk.close()
        self.files = self.files.killed()
        self.view = view(open_disk(self.files.killed()))
        self.first, self.last = sorted(p for p in self.files.seen if p.suffix == ".seg")
        self.log = self.records(self.recover())
        assert self.log == self.history[-1]

    def recover(self) -> Recovery:
        return recover(self.files, WAL, CLUSTER, self.snapshot)

    def records(self, recovery: Recovery) -> list[bytes]:
        """Straight from the files, by the places that recovery found."""
        paths = {segment.header.sequence: segment.path for segment in recovery.segments}
        found = []
        for word in recovery.log.index.words:
            content = self.files.seen[paths[word >> OFFSET_BITS]].content
            offset = word & OFFSET_MASK
            length = HEADER.unpack_from(content, offset)[1]
            found.append(bytes(content[offset : offset + HEADER_SIZE + length]))
        return found

    @contextmanager
    def spoiled(self, path: Path, content: bytes | bytearray) -> Iterator[None]:
        inode = self.files.seen[path]
        whole, inode.content = inode.content, bytearray(content)
        try:
            yield
        finally:
            inode.content = whole

    def content(self, path: Path) -> bytearray:
        return bytearray(self.files.seen[path].content)

    def open(self) -> Disk:
        return open_disk(self.files.killed())


@pytest.fixture(scope="module")
def killed() -> Specimen:
    return Specimen(clean=False)


@pytest.fixture(scope="module")
def clean() -> Specimen:
    return Specimen(clean=True)


def attempt(call: Callable[[], T]) -> T | StorageError:
    """What `call` returns or raises; anything but a sentence about damage fails the test."""
    try:
        return call()
    except (DirectoryDamaged, DirectoryMismatch) as error:
        return error


def outcome(call: Callable[[], object]) -> StorageError | None:
    """What `call` raises."""
    result = attempt(call)
    return result if isinstance(result, StorageError) else None


def flipped(content: bytearray, step: int = 1) -> Iterator[tuple[int, bytearray]]:
    for offset in range(0, len(content), step):
        content[offset] ^= 1 << offset % 8
        yield offset, content
        content[offset] ^= 1 << offset % 8


def test_flip_every_byte_of_the_log(killed: Specimen) -> None:
    """Also of the last frame: what is there is there or an error, never less (pitfall 70).

    The error names file, byte, and the entries in doubt."""
    for path in (killed.first, killed.last):
        noticed = 0
        for offset, content in flipped(killed.content(path)):
            with killed.spoiled(path, content):
                found = attempt(killed.recover)
                if isinstance(found, Recovery):
                    assert killed.records(found) == killed.log, (path, offset)
                    assert path == killed.last, "all of an older segment is checked"
                    assert content[offset] == 1 << offset % 8, "only unused zeros are unchecked"
                    assert found.notes
                else:
                    noticed += 1
                    assert isinstance(found, DirectoryDamaged), found
                    assert found.file == path, (offset, found)
                    assert found.offset is not None and found.offset <= offset, (offset, found)
                    if offset >= SECTOR:
                        assert found.first_index is not None, (offset, found)
                        assert "Entries from" in str(found), (offset, found)
        assert noticed > 2000


def test_flip_every_byte_of_the_small_files(killed: Specimen) -> None:
    """Identity, peers, term and vote, snapshot: a change is noticed, or there is a second copy."""
    wanted = HardState(2, "b")
    snapshot = killed.open().snapshot_file
    assert snapshot is not None
    node_id, peers = DATA / "node-id", DATA / "peers"
    checks: dict[Path, Callable[[], object]] = {
        node_id: lambda: document.read(killed.files, node_id, "node-id", NodeDocument),
        peers: lambda: document.read(killed.files, peers, "peers", PeersDocument),
        DATA / "hard-state": lambda: HardStateFile(killed.files, DATA / "hard-state").value,
        snapshot: lambda: Snapshots(killed.files, DATA / "snapshots"),
        snapshot.with_suffix(".meta"): lambda: Snapshots(killed.files, DATA / "snapshots"),
    }
    for path, check in checks.items():
        for offset, content in flipped(killed.content(path)):
            with killed.spoiled(path, content):
                found = attempt(check)
                if path.name == "hard-state":
                    assert found == wanted, offset
                else:
                    assert isinstance(found, StorageError), (path, offset)
                    assert f"{path.parent / path.stem}" in str(found), offset


@pytest.mark.parametrize("life", ["killed", "clean"])
def test_flips_seen_from_the_outside(life: str, request: pytest.FixtureRequest) -> None:
    """The same through Disk.open, for some bytes of every file."""
    specimen: Specimen = request.getfixturevalue(life)
    for path, inode in specimen.files.seen.items():
        if inode.directory or path.name == "lock":
            continue
        for offset, content in flipped(specimen.content(path), step=97):
            with specimen.spoiled(path, content):
                found = attempt(specimen.open)
                if isinstance(found, Disk):
                    assert view(found) == specimen.view, (path, offset)


def test_cut_every_segment_at_every_byte(killed: Specimen) -> None:
    """The newest: torn, and said; any other: damage (pitfalls 69, 70, 72)."""
    for path in (killed.first, killed.last):
        whole = killed.content(path)
        seen = set()
        for size in range(len(whole)):
            with killed.spoiled(path, whole[:size]):
                found = attempt(killed.recover)
                if path == killed.first or size < SECTOR:
                    assert isinstance(found, StorageError), (path, size)
                    continue
                assert isinstance(found, Recovery), (path, size)
                records = killed.records(found)
                assert records in killed.history
                assert path.name in found.notes[0]
                assert f"index {found.log.index.last_index}" in found.notes[0]
                seen.add(killed.history.index(records))
        assert len(seen) == (0 if path == killed.first else 5)


def test_cut_the_last_frame_at_every_byte_and_go_on(killed: Specimen) -> None:
    """Only the last write is lost, the file has its size again, the log goes on (pitfall 69)."""
    whole = killed.content(killed.last)
    end = killed.recover().segments[-1].used
    for size in range(end - 1472 + 1, end, 13):
        with killed.spoiled(killed.last, whole[:size]):
            files = killed.files.killed()
            disk = open_disk(files)
            assert view(disk).log == killed.view.log[:-1]
            assert any("torn write" in note for note in disk.notes)
            disk.save(None, [entry(12, 2, 100)])
            again = open_disk(files.killed())
            assert view(again).log == (*killed.view.log[:-1], entry(12, 2, 100).record)
            assert not again.notes
            assert files.size(killed.last) == len(whole)


def test_zeros_from_every_byte_on(killed: Specimen) -> None:
    """What a lost write leaves of the newest segment: a prefix, and said unless at an edge."""
    whole = killed.content(killed.last)
    edges = [SECTOR, *frame_ends(whole)]
    for size in range(SECTOR, edges[-1]):
        with killed.spoiled(killed.last, whole[:size] + bytes(len(whole) - size)):
            found = attempt(killed.recover)
            if isinstance(found, Recovery):
                records = killed.records(found)
                assert records in killed.history
                assert found.notes or size in edges
            else:
                assert min(abs(size - edge) for edge in edges) <= 32, size


def test_after_a_clean_end_nothing_may_be_missing(clean: Specimen) -> None:
    """Cut, or zeroed, anywhere: if an entry is missing the start is refused."""
    whole = clean.content(clean.last)
    end = clean.recover().segments[-1].used
    for size in range(SECTOR, len(whole), 29):
        for content in (whole[:size], whole[:size] + bytes(len(whole) - size)):
            with clean.spoiled(clean.last, content):
                error = outcome(clean.open)
                assert (error is None) == (size >= end), size


def test_any_sector_of_the_last_write_missing(killed: Specimen) -> None:
    """Any sector of the newest frame as zeros is a torn write; of any other frame, damage."""
    whole = killed.content(killed.last)
    *_, start, end = frame_ends(whole)
    for sector in range(SECTOR, len(whole), SECTOR):
        content = bytearray(whole)
        low, high = sector, min(sector + SECTOR, end)
        if not any(content[low:high]):
            continue
        content[max(low, start) : high] = bytes(max(0, high - max(low, start)))
        if low < start:
            content[low:start] = bytes(start - low)
        with killed.spoiled(killed.last, content):
            error = outcome(killed.recover)
            assert (error is None) == (low >= start), sector


def test_two_frames_broken(killed: Specimen) -> None:
    """A torn frame with another one behind it was acknowledged: damage."""
    whole = killed.content(killed.last)
    end = frame_ends(whole)[-1]
    whole[end - 1] = 0
    with killed.spoiled(killed.last, whole):
        assert outcome(killed.recover) is None
    whole[end + 64] = 1
    with killed.spoiled(killed.last, whole):
        assert "was not the last write" in str(outcome(killed.recover))


def test_files_that_are_gone(killed: Specimen) -> None:
    """Every file of the directory but the lock is needed, and each directory (pitfall 71)."""
    for path in list(killed.files.seen):
        if path in {DATA.parent, DATA} or path.name == "lock":
            continue
        files = killed.files.killed()
        for each in [each for each in files.seen if each == path or path in each.parents]:
            del files.seen[each]
        if path.suffix == ".meta":
            # The log still has all entries from the first on: as before the snapshot.
            assert open_disk(files).recovered.last_index == 12
            continue
        assert outcome(partial(open_disk, files)) is not None, path


def test_a_copy_from_an_older_life(clean: Specimen, killed: Specimen) -> None:
    """Files put back from another time or place do not fit the others (pitfalls 3, 10)."""
    older = killed.files.killed()
    disk = open_disk(older)
    disk.save(HardState(7, "c"), [entry(13, 7)])
    newest = older.killed()
    newest.seen[DATA / "hard-state"] = killed.files.killed().seen[DATA / "hard-state"]
    assert "log has entries of 7" in str(outcome(lambda: open_disk(newest)))
    twin = clean.files.killed()
    open_disk(twin).save(HardState(3, None), [])
    mixed = clean.files.killed()
    mixed.seen[DATA / "hard-state"] = twin.seen[DATA / "hard-state"]
    assert "was closed in term 2" in str(outcome(lambda: open_disk(mixed)))


def frame_ends(content: bytes | bytearray) -> list[int]:
    """Where the frames of a segment's content end, by their length fields."""
    ends = []
    position = SECTOR
    while length := int.from_bytes(content[position + 8 : position + 12], "little"):
        position += -(-(32 + length + 1) // 32) * 32
        ends.append(position)
    return ends


def test_messages_say_where_and_what_to_do(killed: Specimen) -> None:
    """File, byte, range of indexes, and the way out (pitfall 70)."""
    content = killed.content(killed.first)
    content[700] ^= 4
    with killed.spoiled(killed.first, content), pytest.raises(DirectoryDamaged) as raised:
        killed.open()
    error = raised.value
    assert (error.file, error.offset) == (killed.first, SECTOR)
    assert (error.first_index, error.last_index) == (1, 4)
    assert "Entries from 1 to 4 are in doubt" in str(error)
    assert "replace this node" in str(error)


def test_nothing_is_changed_when_the_start_is_refused(killed: Specimen) -> None:
    content = killed.content(killed.first)
    content[700] ^= 4
    with killed.spoiled(killed.first, content):
        files = killed.files.killed()
        files.put(WAL / "new.tmp", b"left over")
        before = files.image()
        assert outcome(lambda: open_disk(files))
        after = files.image()
        before.pop(DATA / "lock")
        after.pop(DATA / "lock")
        assert after == before


def test_snapshot_metadata_names_another() -> None:
    files = SimulatedFiles()
    disk = open_disk(files)
    disk.save(HardState(1), entries(1, 9))
    for index in (3, 4):
        path = disk.snapshot_path()
        files.put(path, b"x")
        disk.adopt_snapshot(path, SnapshotMetadata(index, 1, metadata(1).configuration))
    names = DATA / "snapshots"
    files.rename(names / f"{4:016d}-1.meta", names / f"{5:016d}-1.meta")
    assert "speaks of another" in str(outcome(lambda: open_disk(files.killed())))
