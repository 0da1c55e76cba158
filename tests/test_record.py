"""raftd.record: the one encoding of an entry."""

from __future__ import annotations

import struct
import tracemalloc
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd import record
from raftd.raft import configuration
from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry, EntryType
from raftd.record import RecordError

indexes = st.integers(1, 2**63 - 1)
times = st.integers(0, 2**64 - 1)
plain_types = st.sampled_from([EntryType.NO_OP, EntryType.COMMAND])


def sealed(index: int, term: int, number: int, payload: bytes = b"", length: int = -1) -> bytes:
    """A record with a right checksum and anything else."""
    announced = len(payload) if length < 0 else length
    body = struct.pack("<IQQQB", announced, index, term, 0, number) + payload
    return struct.pack("<I", crc32(body)) + body


@given(indexes, indexes, plain_types, st.binary(max_size=100), times)
def test_there_and_back(
    index: int, term: int, entry_type: EntryType, payload: bytes, time_ms: int
) -> None:
    raw = record.encode(index, term, entry_type, payload, time_ms)
    entry = record.decode(raw)
    assert entry == Entry(index, term, entry_type, raw)
    assert record.payload(entry) == payload
    assert record.time_ms(entry) == time_ms
    assert len(raw) == record.HEADER_SIZE + len(payload)


def test_the_layout_is_the_one_in_the_documentation() -> None:
    raw = record.encode(5, 4, EntryType.COMMAND, b"pay", 3)
    assert raw[4:] == bytes.fromhex(
        "03000000 0500000000000000 0400000000000000 0300000000000000 01 706179"
    )
    assert raw[:4] == struct.pack("<I", crc32(raw[4:]))


def test_a_configuration_is_decoded_with_its_entry() -> None:
    members = Configuration(("a", "b"), (), ("c",), {"a": "tcp://h:1"})
    raw = record.encode(9, 2, EntryType.CONFIGURATION, configuration.encode(members), 0)
    assert record.decode(raw).configuration == members


@given(st.lists(st.binary(max_size=30), max_size=6), st.integers(0, 20))
def test_records_back_to_back(payloads: list[bytes], offset: int) -> None:
    raws = [record.encode(i, 1, EntryType.COMMAND, p, 0) for i, p in enumerate(payloads, 1)]
    joined = b"".join(raws)
    assert [entry.record for entry in record.decode_all(memoryview(joined))] == raws
    at = offset
    for raw in raws:
        assert record.decode(b"\0" * offset + joined, at).record == raw
        at += len(raw)


def test_every_truncation_is_an_error() -> None:
    """pitfall 77"""
    raw = record.encode(5, 4, EntryType.COMMAND, b"payload", 3)
    for length in range(len(raw)):
        with pytest.raises(RecordError) as caught:
            record.decode(raw[:length])
        assert caught.value.offset == 0
        if length:
            with pytest.raises(RecordError):
                list(record.decode_all(raw + raw[:length]))


def test_every_flipped_bit_is_an_error() -> None:
    raw = record.encode(5, 4, EntryType.COMMAND, b"payload", 3)
    for position in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[position] ^= 1 << bit
            with pytest.raises(RecordError):
                record.decode(bytes(changed))


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_an_error(data: bytes) -> None:
    """pitfall 77"""
    with pytest.raises(RecordError):
        record.decode(data)


def test_zeros_are_no_record() -> None:
    """pitfall 72"""
    with pytest.raises(RecordError):
        record.decode(bytes(4096))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (sealed(0, 1, 1), "out of range"),
        (sealed(1, 0, 1), "out of range"),
        (sealed(2**63, 1, 1), "out of range"),
        (sealed(1, 2**63, 1), "out of range"),
        (sealed(2**64 - 1, 2**64 - 1, 1), "out of range"),
        (sealed(1, 1, 5), "unknown entry type 5"),
        (sealed(1, 1, 255), "unknown entry type 255"),
        (sealed(1, 1, 2, b"junk"), "holds no configuration"),
        (sealed(1, 1, 1, b"abc", length=4), "not all there"),
    ],
)
def test_a_right_checksum_is_not_enough(raw: bytes, reason: str) -> None:
    """pitfall 13"""
    with pytest.raises(RecordError, match=reason):
        record.decode(raw)


def test_an_announced_length_allocates_nothing() -> None:
    """pitfall 74"""
    raw = sealed(1, 1, 1, b"abc", length=2**32 - 1)
    tracemalloc.start()
    try:
        with pytest.raises(RecordError):
            record.decode(raw)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


def test_the_error_says_where() -> None:
    good = record.encode(1, 1, EntryType.NO_OP, b"", 0)
    with pytest.raises(RecordError, match=f"byte {len(good)}") as caught:
        list(record.decode_all(good + b"junk"))
    assert caught.value.offset == len(good)
