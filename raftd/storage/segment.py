"""One file of the log on disk: its format, how it is made. raftd.storage.scan reads it back.

`wal/SEQUENCE-FIRST.seg` (8 and 16 digits). All integers are little-endian and unsigned.

    offset  size  header, one sector
    0       8     magic        "raftdwal"
    8       4     version      1
    12      4     flags        bit 0: restart
    16      16    cluster id
    32      8     sequence     one more than the segment before
    40      8     first index  where the log stood, its next index, when this segment was begun
    48      8     size         of this file in bytes
    56      8     salt         random
    64      ...   zeros
    508     4     crc32        of bytes 0 to 507

Behind it stand frames, back to back, at multiples of 32 bytes. One save is one frame:

    0       4     crc32        of bytes 4 to 31 of the frame header, started from the crc32 of salt
                               and the frame's own offset in the file (8 bytes)
    4       4     crc32        of everything behind the frame header, end mark included
    8       4     length       bytes of records
    12      4     count        number of records; 0: this is the seal
    16      4     zero sectors whole sectors in the frame's range that hold nothing but zeros
    20      8     first index  of its records, which are contiguous
    28      4     tag          first 4 bytes of the salt; the last of them is never zero
    32      ...   records      raftd/record.py, as they are
    ...           zeros up to the last byte before a multiple of 32, and there the end mark 0xA5

The seal is a frame header alone, with count, length and both counts of bytes zero and as first
index the index at which the next segment goes on. Behind the last frame there are zeros only. Room
for the seal is always left. A batch that does not fit goes into the next segment as a whole; one
that is larger than a segment gets a larger segment (up to MAX_SEGMENT).

A file is made under a temporary name, filled with zeros to its full size (so that later writes
take no space and change no metadata), fsynced, renamed, and the directory fsynced. Then the
segment before is sealed, and only then the first frame is written. So a frame in a segment
proves that the one before was sealed, and a seal proves that there is a next one.

A record with an index that is in the log already supersedes it and everything behind it. A
segment with the restart flag supersedes all segments before it: a snapshot from the leader took
the place of the log, which goes on at this segment's first index.

A header is valid if and only if its checksum, magic and version are right and it agrees with the
file's name and is not smaller than the file. A frame is valid if and only if both checksums and
the tag are right, it lies inside the file, and its records are valid. Because salt and offset are
in the checksum, bytes of another file, or of another place, are never a frame here.

What each crash leaves. A sector of 512 bytes is written as a whole or not at all; of the sectors
of one write any may be missing, and a process killed inside a write leaves some first part of it.
Frame headers never cross a sector, so:
* While a segment is made: a temporary file (removed). Behind the rename: an empty newest segment
  behind one that has no seal, or a torn one (removed; with restart flag it counts).
* While a frame is written, which can only be the last of the last segment: a torn tail. It is
  accepted as such if and only if one of these holds, and nothing but zeros stands behind it:
  the file ends inside the frame; or its end mark is a zero byte; or it has more zero sectors than
  its header counts; or the frame header is all zeros up to the end of its sector at least while
  later sectors are not, and no valid frame header is among them; or the frame header breaks off in
  zeros. Every other disagreement was not made by a crash: it is damage, also in the last frame.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import msgspec

from raftd.storage.files import Files

SECTOR = 512
ALIGN = 32
FRAME_HEADER = 32
MAX_SEGMENT = 1 << 30
MIN_SEGMENT = 4096
MAGIC = b"raftdwal"
VERSION = 1
END_MARK = 0xA5
FRAME = struct.Struct("<IIIIIQ4s")
_FRAME_TAIL = struct.Struct("<IIIIQ4s")
_HEADER = struct.Struct("<8sII16sQQQ8s")
_CRC_AT = SECTOR - 4
_RESTART = 1
_ZERO_SECTOR = bytes(SECTOR)
_ENDS = tuple(bytes(ALIGN - 1 - over) + bytes([END_MARK]) for over in range(ALIGN))
"""What ends a frame whose records end so many bytes behind a multiple of ALIGN."""
_NAME = re.compile(r"([0-9]{8,})-([0-9]{16,})\.seg")


class HeaderError(ValueError):
    """These bytes are no segment header; `newer` if they are one of a later version."""

    def __init__(self, reason: str, *, newer: bool = False) -> None:
        super().__init__(reason)
        self.newer = newer


class Header(msgspec.Struct, frozen=True):
    """The header sector. `size` in bytes, of the whole file."""

    cluster_id: bytes
    sequence: int
    first_index: int
    size: int
    salt: bytes
    restart: bool = False

    @property
    def name(self) -> str:
        return f"{self.sequence:08d}-{self.first_index:016d}.seg"

    @property
    def tag(self) -> bytes:
        return self.salt[:4]

    @property
    def limit(self) -> int:
        """Where frames must end, so that the seal still fits."""
        return self.size - FRAME_HEADER

    def encode(self) -> bytes:
        sector = _HEADER.pack(
            MAGIC,
            VERSION,
            _RESTART if self.restart else 0,
            self.cluster_id,
            self.sequence,
            self.first_index,
            self.size,
            self.salt,
        ).ljust(_CRC_AT, b"\0")
        return sector + crc32(sector).to_bytes(4, "little")


def decode_header(sector: bytes) -> Header:
    """The header in the first sector of a segment; HeaderError if there is none."""
    if len(sector) < SECTOR:
        raise HeaderError(f"the file has {len(sector)} bytes, its header alone {SECTOR}")
    if crc32(sector[:_CRC_AT]) != int.from_bytes(sector[_CRC_AT:SECTOR], "little"):
        raise HeaderError("the checksum of the segment's header does not agree")
    magic, version, flags, cluster, sequence, first, size, salt = _HEADER.unpack_from(sector)
    if magic != MAGIC:
        raise HeaderError("it does not begin like a segment")
    if version != VERSION:
        reason = f"format version {version} is newer than this raftd knows ({VERSION}); update it"
        raise HeaderError(reason, newer=True)
    if not MIN_SEGMENT <= size <= MAX_SEGMENT:
        raise HeaderError(f"its header speaks of {size} bytes")
    return Header(cluster, sequence, first, size, salt, bool(flags & _RESTART))


def parse_name(name: str) -> tuple[int, int] | None:
    """Sequence and first index from a file's name; None if it is no segment's."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def new_salt(files: Files) -> bytes:
    """Random, with a fourth byte that no flipped bit makes zero."""
    salt = bytearray(files.random(8))
    salt[3] |= 0x81
    return bytes(salt)


def frame_size(length: int) -> int:
    """Bytes of a frame with `length` bytes of records."""
    return -(-(FRAME_HEADER + length + 1) // ALIGN) * ALIGN


def seed(salt: bytes, offset: int) -> int:
    """Where the checksum of the frame header at `offset` starts from."""
    return crc32(offset.to_bytes(8, "little"), crc32(salt))


def zero_sectors(frame: bytes | bytearray | memoryview, offset: int) -> int:
    """How many whole sectors of the file are all zeros in a frame that stands at `offset`."""
    first = -offset % SECTOR
    # Only a sector that begins with a zero has to be looked at.
    starts = bytes(frame[first : len(frame) - SECTOR + 1 : SECTOR]) if len(frame) >= SECTOR else b""
    count, number = 0, starts.find(0)
    while number >= 0:
        position = first + number * SECTOR
        count += frame[position : position + SECTOR] == _ZERO_SECTOR
        number = starts.find(0, number + 1)
    return count


def encode_frame(salt: bytes, offset: int, first_index: int, records: Sequence[bytes]) -> bytes:
    """The frame to be written at `offset` for these contiguous records."""
    body = b"".join(records)
    length = len(body)
    body += _ENDS[(length + FRAME_HEADER) % ALIGN]
    zeros = zero_sectors(body, offset + FRAME_HEADER)  # there are none with a frame header in it
    return _frame_header(salt, offset, crc32(body), length, len(records), zeros, first_index) + body


def encode_seal(salt: bytes, offset: int, next_index: int) -> bytes:
    return _frame_header(salt, offset, 0, 0, 0, 0, next_index)


def _frame_header(
    salt: bytes, offset: int, body_crc: int, length: int, count: int, zeros: int, first: int
) -> bytes:
    rest = _FRAME_TAIL.pack(body_crc, length, count, zeros, first, salt[:4])
    return crc32(rest, seed(salt, offset)).to_bytes(4, "little") + rest


class Segment:
    """A segment in use. `used`: bytes up to the end of its last frame or seal."""

    __slots__ = ("header", "limit", "path", "sealed", "used")

    def __init__(self, directory: Path, header: Header, used: int = SECTOR) -> None:
        self.header = header
        self.limit = header.limit
        self.path = directory / header.name
        self.used = used
        self.sealed = False

    def has_room(self, length: int) -> bool:
        """For a frame with `length` bytes of records?"""
        return not self.sealed and self.used + frame_size(length) <= self.limit


def make(files: Files, path: Path, size: int, header: Header | None) -> None:
    """A file of `size` zero bytes behind its header, if there is one yet, at `path`; fsynced."""
    handle = files.create(path)
    try:
        files.write_zeros(handle, size, 0)
        if header is not None:
            files.write_all(handle, header.encode(), 0)
        files.fsync(handle)
    finally:
        files.close(handle)
