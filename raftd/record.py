"""The one encoding of a log entry: on disk, on the wire, and in memory. Made once, by the leader.

    offset  size  field       (little-endian, unsigned)
    0       4     crc32       zlib.crc32 of everything behind it, payload included
    4       4     length      bytes of payload
    8       8     index
    16      8     term
    24      8     time_ms     Unix ms, the leader's wall clock when it made it; for people only
    32      1     type        EntryType
    33      ...   payload

A record is valid if and only if all its bytes are there, the type is known, index and term are in
[1, 2**63), and the checksum agrees. The checksum is end to end: followers verify what the
leader computed.
"""

from __future__ import annotations

import struct
from zlib import crc32

from raftd.raft import configuration
from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry, EntryType

HEADER = struct.Struct("<IIQQQB")
HEADER_SIZE = HEADER.size
MAX_PAYLOAD = 64 << 20
_CHECKSUM = struct.Struct("<I")
_BODY = struct.Struct("<IQQQB")
_LIMIT = 2**63
_TYPES = {int(entry_type): entry_type for entry_type in EntryType}
_CONFIGURATION = EntryType.CONFIGURATION


class RecordError(ValueError):
    """The bytes at `offset` are no valid record; `reason` says why."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"no valid record at byte {offset}: {reason}")
        self.offset = offset
        self.reason = reason


def encode(index: int, term: int, entry_type: EntryType, payload: bytes, time_ms: int) -> bytes:
    """The record of one entry. `payload` is at most MAX_PAYLOAD bytes."""
    assert len(payload) <= MAX_PAYLOAD
    body = _BODY.pack(len(payload), index, term, time_ms, entry_type) + payload
    return _CHECKSUM.pack(crc32(body)) + body


def decode(buffer: bytes | memoryview, offset: int = 0) -> Entry:
    """The entry whose record starts at `offset`; `RecordError` if there is none."""
    return _decode(memoryview(buffer), offset, offset + 1)[0]


def decode_all(buffer: bytes | memoryview) -> list[Entry]:
    """The entries of records that stand back to back and fill `buffer`; `RecordError` otherwise."""
    return _decode(memoryview(buffer), 0, len(buffer)) if buffer else []


def _decode(view: memoryview, offset: int, stop: int) -> list[Entry]:
    """The entry at `offset`, and those behind it up to the first that ends at or behind `stop`."""
    entries = []
    while True:
        left = len(view) - offset
        if left < HEADER_SIZE:
            raise RecordError(offset, f"{left} bytes left, a header has {HEADER_SIZE}")
        checksum, length, index, term, _, number = HEADER.unpack_from(view, offset)
        if length > MAX_PAYLOAD or HEADER_SIZE + length > left:
            raise RecordError(offset, f"{length} bytes of payload announced, not all there")
        end = offset + HEADER_SIZE + length
        if crc32(view[offset + 4 : end]) != checksum:
            raise RecordError(offset, f"checksum does not agree (index {index}, term {term})")
        entry_type = _TYPES.get(number)
        if entry_type is None:
            raise RecordError(offset, f"unknown entry type {number}")
        if not (0 < index < _LIMIT and 0 < term < _LIMIT):
            raise RecordError(offset, f"index {index} or term {term} out of range")
        raw = view[offset:end].tobytes()
        members = None
        if entry_type is _CONFIGURATION:
            members = _configuration(raw, offset, index)
        entries.append(Entry(index, term, entry_type, raw, members))
        if end >= stop:
            return entries
        offset = end


def _configuration(raw: bytes, offset: int, index: int) -> Configuration:
    try:
        return configuration.decode(raw[HEADER_SIZE:])
    except (ValueError, RecursionError) as error:
        raise RecordError(offset, f"entry {index} holds no configuration: {error}") from error


def payload(entry: Entry) -> bytes:
    return entry.record[HEADER_SIZE:]


def time_ms(entry: Entry) -> int:
    """The leader's wall clock when it made the entry, in Unix milliseconds."""
    return int.from_bytes(entry.record[24:32], "little")
