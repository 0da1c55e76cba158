"""Read one segment back: its frames, and what stands where they end. See raftd.storage.segment.

In: the header and the whole file as bytes. Out: the frames, one after the other, and then `end`,
`seal`, `torn` and `missing`. DirectoryDamaged for all that no crash leaves behind. No length is
believed before its checksum, and no memory is taken by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec

from raftd.record import HEADER_SIZE
from raftd.storage.errors import DirectoryDamaged
from raftd.storage.segment import (
    FRAME,
    FRAME_HEADER,
    SECTOR,
    Header,
    frame_size,
    seed,
    zero_sectors,
)

_PIECE = 1 << 16
_ZERO_PIECE = bytes(_PIECE)
_ZERO_HEADER = bytes(FRAME_HEADER)


class Torn(msgspec.Struct, frozen=True):
    """A write that a crash broke off: where it stands, up to its last byte that is not zero."""

    offset: int
    end: int


class Scan:
    """One pass over a segment. What it found is known when `frames` has come to its end.

    `end`: behind the last valid frame or seal, in bytes. `last`: where that one begins, `end` if
    there is none. `seal`: the index at which the next segment goes on. `torn`: the broken
    write behind `end`. `missing`: bytes that the file is shorter than its header says.
    """

    def __init__(self, path: Path, header: Header, data: bytes) -> None:
        assert len(data) <= header.size
        self.path = path
        self.header = header
        self.end = SECTOR
        self.last = SECTOR
        self.last_bytes = b""
        self.seal: int | None = None
        self.torn: Torn | None = None
        self.missing = header.size - len(data)
        self.data = data
        self._view = memoryview(data)
        self._next_index = header.first_index

    def frames(self) -> Iterator[tuple[int, int, int, int]]:
        """(start of the records, their end, their number, first index) of each frame."""
        data, view, header = self.data, self._view, self.header
        position, salt_crc, tag, total = SECTOR, crc32(header.salt), header.tag, len(data)
        unpack = FRAME.unpack_from
        while position + FRAME_HEADER <= total:
            checksum, body_crc, length, count, zeros, first, mark = unpack(data, position)
            start = position + FRAME_HEADER
            seeded = crc32(position.to_bytes(8, "little"), salt_crc)
            if mark != tag or crc32(view[position + 4 : start], seeded) != checksum:
                self._no_frame_header(position)
                return
            if count == 0:
                self._found_seal(position, first)
                return
            stop = position + frame_size(length)
            if stop > header.limit or length < count * HEADER_SIZE:
                raise self.damage(position, f"a frame says it has {length} bytes", first)
            if stop > total:
                self.torn = Torn(position, total)
                return
            if crc32(view[start:stop]) != body_crc:
                self._broken_frame(position, stop, zeros, (first, first + count - 1))
                return
            yield start, start + length, count, first
            self.last, self.end, position = position, stop, stop
            self._next_index = first + count
        self._file_ends(position)

    @property
    def torn_seal(self) -> bool:
        """The broken write can have been the seal: no more than a frame header."""
        return self.torn is not None and self.torn.end - self.torn.offset <= FRAME_HEADER

    def release(self) -> None:
        """Forget the file's bytes, but for the last frame's."""
        self.last_bytes = self.data[self.last : self.end]
        self._view = memoryview(b"")
        self.data = b""

    def damage(
        self, offset: int, reason: str, first: int | None = None, last: int | None = None
    ) -> DirectoryDamaged:
        """The error to raise; in doubt is all from `first` on, or from where the scan stands."""
        index = self._next_index if first is None else first
        return DirectoryDamaged(
            self.path, reason, offset=offset, first_index=index, last_index=last
        )

    def _found_seal(self, position: int, next_index: int) -> None:
        self.seal = next_index
        self.last, self.end = position, position + FRAME_HEADER
        self._must_end(self.end, "bytes stand behind the end of the segment")

    def _file_ends(self, position: int) -> None:
        """Fewer bytes are left than a frame header has, which only a cut file can show."""
        if any(self._view[position:]):
            self.torn = Torn(position, len(self.data))

    def _no_frame_header(self, position: int) -> None:
        """The end of the log is here, or a torn write, or damage."""
        start = position + FRAME_HEADER
        end = self._content_end(position)
        if end == position:
            return
        header = self.data[position:start]
        if header != _ZERO_HEADER:
            if header[-1] == 0 and end <= start:
                self.torn = Torn(position, end)
                return
            raise self.damage(position, "the checksum of a frame's header does not agree")
        sector_end = -(-start // SECTOR) * SECTOR
        if any(self._view[start:sector_end]):
            raise self.damage(position, "a frame's header is zeros, but its sector is not")
        if (behind := self._frame_behind(sector_end)) is not None:
            raise self.damage(position, f"no frame is here, but one stands at byte {behind}")
        self.torn = Torn(position, end)

    def _broken_frame(self, position: int, stop: int, zeros: int, indexes: tuple[int, int]) -> None:
        """The header is right and the body is not: torn only if the crash left its mark."""
        unfinished = self.data[stop - 1] == 0
        if not unfinished and zero_sectors(self._view[position:stop], position) <= zeros:
            raise self.damage(position, "the checksum of a frame does not agree", *indexes)
        self._must_end(stop, "a frame is broken, but it was not the last write")
        self.torn = Torn(position, stop)

    def _must_end(self, position: int, reason: str) -> None:
        if self._content_end(position) != position:
            raise self.damage(position, reason)

    def _content_end(self, position: int) -> int:
        """Behind the last byte from `position` on that is not zero; `position` if all are."""
        end = len(self.data)
        while end > position:
            piece = self.data[max(position, end - _PIECE) : end]
            if piece != _ZERO_PIECE[: len(piece)]:
                return end - len(piece) + len(piece.rstrip(b"\0"))
            end -= len(piece)
        return position

    def _frame_behind(self, position: int) -> int | None:
        """Where the next valid frame header stands; its tag is what is searched for."""
        tag, view = self.header.tag, self._view
        found = self.data.find(tag, position)
        while found >= 0:
            start = found + len(tag) - FRAME_HEADER
            if start >= position and start % FRAME_HEADER == 0:
                checksum = int.from_bytes(view[start : start + 4], "little")
                body = view[start + 4 : start + FRAME_HEADER]
                if crc32(body, seed(self.header.salt, start)) == checksum:
                    return start
            found = self.data.find(tag, found + 1)
        return None
