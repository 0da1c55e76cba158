"""The form of headers and frames. What is read back is in test_scan."""

from __future__ import annotations

from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd.storage import segment as form
from raftd.storage.segment import ALIGN, FRAME_HEADER, SECTOR, Header, HeaderError
from tests.storage.simulation import SimulatedFiles

HEADER = Header(bytes(range(16)), 7, 123, 8192, b"saltsalt")


def test_header_round_trip() -> None:
    for header in (HEADER, msgspec.structs.replace(HEADER, restart=True)):
        sector = header.encode()
        assert len(sector) == SECTOR
        assert form.decode_header(sector) == header
    assert HEADER.name == "00000007-0000000000000123.seg"
    assert form.parse_name(HEADER.name) == (7, 123)


def test_every_changed_bit_of_a_header_is_noticed() -> None:
    sector = HEADER.encode()
    for bit in range(SECTOR * 8):
        changed = bytearray(sector)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(HeaderError):
            form.decode_header(bytes(changed))
    for size in (0, 1, 511):
        with pytest.raises(HeaderError, match=f"{size} bytes"):
            form.decode_header(sector[:size])


def with_version(version: int) -> bytes:
    sector = bytearray(HEADER.encode())
    sector[8:12] = version.to_bytes(4, "little")
    sector[-4:] = crc32(sector[:-4]).to_bytes(4, "little")
    return bytes(sector)


def test_newer_versions_and_nonsense_with_a_right_checksum() -> None:
    with pytest.raises(HeaderError) as raised:
        form.decode_header(with_version(2))
    assert raised.value.newer
    for size in (0, 4095, form.MAX_SEGMENT + 1, 2**63):
        with pytest.raises(HeaderError, match="speaks of"):
            form.decode_header(msgspec.structs.replace(HEADER, size=size).encode())


@pytest.mark.parametrize(
    "name", ["x", "00000001-0000000000000001.seg.tmp", "1-1.seg", "new.tmp", "00000001.seg"]
)
def test_other_names(name: str) -> None:
    assert form.parse_name(name) is None


records = st.binary(min_size=1, max_size=900) | st.integers(1, 3000).map(bytes)


@given(st.integers(1, 200), st.lists(records, max_size=5))
def test_frames_are_aligned_and_end_in_their_mark(place: int, records: list[bytes]) -> None:
    offset = place * ALIGN
    frame = form.encode_frame(b"saltsalt", offset, 1, records)
    length = sum(map(len, records))
    assert len(frame) == form.frame_size(length)
    assert len(frame) % ALIGN == 0
    assert frame[-1] == form.END_MARK
    assert frame[FRAME_HEADER : FRAME_HEADER + length] == b"".join(records)
    zeros = form.FRAME.unpack_from(frame)[4]
    content = bytes(offset) + frame
    content += b"\1" * (-len(content) % SECTOR)
    inside = range(-(-offset // SECTOR) * SECTOR, len(content), SECTOR)
    assert zeros == sum(not any(content[start : start + SECTOR]) for start in inside)


def test_a_salt_never_ends_its_tag_with_a_byte_that_may_flip_to_zero() -> None:
    files = SimulatedFiles()
    for _ in range(100):
        assert form.new_salt(files)[3].bit_count() >= 2


def test_a_frame_belongs_to_its_place() -> None:
    """The same records elsewhere, or under another salt, have another checksum."""
    first = form.encode_frame(b"saltsalt", 512, 1, [b"x"])
    assert form.encode_frame(b"saltsalt", 544, 1, [b"x"])[:4] != first[:4]
    assert form.encode_frame(b"saltSALT", 512, 1, [b"x"])[:4] != first[:4]
