"""Where the frames of a segment end: the rules of a torn tail, one by one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from raftd.record import HEADER_SIZE
from raftd.storage import scan as scanning
from raftd.storage import segment as form
from raftd.storage.errors import DirectoryDamaged
from raftd.storage.scan import Scan, Torn
from raftd.storage.segment import FRAME_HEADER, SECTOR, Header
from tests.storage.node import entry
from tests.storage.simulation import SimulatedFiles

SIZE = 8192
SALT = b"\1\2\3\x84\5\6\7\x08"
HEADER = Header(bytes(16), 1, 1, SIZE, SALT)
PATH = Path("/disk/node/wal") / HEADER.name


class Content:
    """A segment's bytes as they are written, frame by frame."""

    def __init__(self) -> None:
        self.data = bytearray(HEADER.encode().ljust(SIZE, b"\0"))
        self.end = SECTOR
        self.starts: list[int] = []
        self.next_index = 1

    def frame(self, *payloads: bytes | int) -> Content:
        first = self.next_index
        new = [entry(first + at, 1, payload) for at, payload in enumerate(payloads)]
        frame = form.encode_frame(SALT, self.end, first, [each.record for each in new])
        self.put(self.end, frame)
        self.starts.append(self.end)
        self.end += len(frame)
        self.next_index += len(payloads)
        return self

    def put(self, offset: int, data: bytes | bytearray) -> None:
        self.data[offset : offset + len(data)] = data

    def zero(self, start: int, end: int) -> None:
        self.put(start, bytes(end - start))

    def scan(self, size: int = SIZE) -> Scan:
        files = SimulatedFiles({PATH: bytes(self.data[:size])})
        scan = Scan(files, files.open(PATH), PATH, HEADER, size)
        self.found = [
            (start, bytes(records), count, first) for start, records, count, first in scan.frames()
        ]
        return scan

    def damage(self) -> str:
        with pytest.raises(DirectoryDamaged) as raised:
            self.scan()
        assert raised.value.offset is not None
        return str(raised.value)


@pytest.fixture(autouse=True, params=[scanning.PIECE, SECTOR])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """All rules hold also where a file is read in many pieces."""
    size: int = request.param
    monkeypatch.setattr(scanning, "PIECE", size)
    return size


def test_an_empty_segment() -> None:
    scan = Content().scan()
    assert (scan.end, scan.last, scan.torn, scan.seal, scan.missing) == (
        SECTOR,
        SECTOR,
        None,
        None,
        0,
    )


def test_frames_and_their_end() -> None:
    content = Content().frame(10).frame(100, 200, 300).frame(b"")
    scan = content.scan()
    assert [(count, first) for _, _, count, first in content.found] == [(1, 1), (3, 2), (1, 5)]
    assert (scan.end, scan.last, scan.torn) == (content.end, content.starts[-1], None)
    scan.release()
    assert scan.last_bytes == content.data[content.starts[-1] : content.end]


def test_of_a_file_only_a_piece_is_in_memory_or_a_frame(piece: int) -> None:
    content = Content().frame(10).frame(100, 200, 300).frame(3 * SECTOR).frame(b"").frame(2)
    files = SimulatedFiles({PATH: bytes(content.data)})
    scan = Scan(files, files.open(PATH), PATH, HEADER, SIZE)
    largest = form.frame_size(3 * SECTOR + HEADER_SIZE)
    for start, records, _, first in scan.frames():
        assert bytes(records) == content.data[start : start + len(records)]
        assert records.obj is None or len(bytes(records.obj)) <= max(piece, largest), first
    scan.release()
    assert scan.last_bytes == content.data[content.starts[-1] : content.end]
    assert not files.handles


def test_a_seal_ends_it() -> None:
    content = Content().frame(10)
    content.put(content.end, form.encode_seal(SALT, content.end, 2))
    scan = content.scan()
    assert (scan.seal, scan.end) == (2, content.end + FRAME_HEADER)
    content.put(4000, b"x")
    assert "bytes stand behind the end" in content.damage()


def test_torn_by_a_missing_sector() -> None:
    """pitfalls 69 and 72"""
    content = Content().frame(10).frame(2000)
    start, end = content.starts[1], content.end
    whole = bytes(content.data)
    first_edge = -(-start // SECTOR) * SECTOR
    for edge in range(first_edge, end, SECTOR):
        content.data = bytearray(whole)
        content.zero(edge, min(end, edge + SECTOR))
        assert content.scan().torn == Torn(start, end)
        assert len(content.found) == 1
    content.data = bytearray(whole)
    content.zero(start, first_edge)
    assert content.scan().torn == Torn(start, end), "the frame header was in the missing sector"


def test_sectors_of_zeros_that_were_written_are_no_sign() -> None:
    """An entry may consist of zeros; a flipped bit beside them is damage."""
    content = Content().frame(10).frame(bytes(2000))
    assert content.scan().torn is None
    content.data[content.starts[1] + 40] ^= 1
    assert "checksum of a frame" in content.damage()


def test_torn_by_a_write_that_stopped_anywhere() -> None:
    """A killed process leaves some first part (pitfall 75)."""
    content = Content().frame(10).frame(1000)
    start, end = content.starts[1], content.end
    whole = bytes(content.data)
    for stop in range(start, end):
        content.data = bytearray(whole)
        content.zero(stop, end)
        if start + FRAME_HEADER - 4 < stop < start + FRAME_HEADER:
            continue  # within the tag; see the segment's docstring: no kill stops there
        scan = content.scan()
        assert (scan.torn is None) == (stop == start), stop
        assert scan.end == start


def test_the_file_ends_inside_a_frame() -> None:
    content = Content().frame(10).frame(1000)
    for size in range(content.starts[1], content.end):
        scan = content.scan(size)
        assert scan.missing == SIZE - size
        assert scan.end == content.starts[1]
        assert scan.torn == (Torn(scan.end, size) if size > scan.end else None)


def test_any_flipped_bit_of_the_last_frame_is_damage() -> None:
    """pitfall 70"""
    content = Content().frame(10).frame(150)
    for bit in range(content.starts[1] * 8, content.end * 8):
        content.data[bit // 8] ^= 1 << bit % 8
        content.damage()
        content.data[bit // 8] ^= 1 << bit % 8


def test_a_frame_behind_a_broken_one_means_damage() -> None:
    content = Content().frame(10).frame(2000).frame(10)
    whole = bytes(content.data)
    start = content.starts[1]
    edge = -(-start // SECTOR) * SECTOR
    content.zero(edge, edge + SECTOR)
    assert "was not the last write" in content.damage()
    content.data = bytearray(whole)
    content.zero(start, edge)
    assert f"one stands at byte {content.starts[2]}" in content.damage()


def test_a_header_of_zeros_in_a_sector_that_has_more() -> None:
    content = Content().frame(10).frame(100)
    content.zero(content.starts[1], content.starts[1] + FRAME_HEADER)
    assert "its sector is not" in content.damage()


def test_stale_or_moved_bytes_never_count() -> None:
    content = Content().frame(10)
    frame = content.data[content.starts[0] : content.end]
    content.put(content.end, frame)
    assert "frame's header does not agree" in content.damage()


def test_no_length_is_believed() -> None:
    """A header with a right checksum and a wrong length (pitfall 74)."""
    content = Content().frame(10)
    header = form._frame_header(SALT, SECTOR, 0, 2**32 - 1, 1, 0, 1)
    content.put(SECTOR, header)
    assert "4294967295 bytes" in content.damage()
    content.put(SECTOR, form._frame_header(SALT, SECTOR, 0, 10, 1, 0, 1))
    assert "10 bytes" in content.damage()


def test_random_bytes_are_damage_or_a_torn_write_never_an_exception() -> None:
    """pitfall 77"""
    dice = Random(1)
    for _ in range(300):
        content = Content().frame(10)
        start = dice.randrange(SECTOR, SIZE - 100)
        content.put(start, dice.randbytes(dice.randrange(1, 100)))
        try:
            content.scan()
        except DirectoryDamaged:
            continue
        assert len(content.found) in {0, 1}
