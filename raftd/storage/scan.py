"""Read one segment back: its frames, and what stands where they end. See raftd.storage.segment.

In: the header and the open file. Out: the frames, one after the other, and then `end`, `seal`,
`torn` and `missing`. DirectoryDamaged for all that no crash leaves behind. No length is believed
before its checksum, and no memory is taken by it: of the file a piece is in memory, or one frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EIO
from pathlib import Path
from zlib import crc32

import msgspec

from raftd.record import HEADER_SIZE
from raftd.storage.errors import DirectoryDamaged
from raftd.storage.files import Files
from raftd.storage.segment import (
    FRAME,
    FRAME_HEADER,
    SECTOR,
    Header,
    frame_size,
    seed,
    zero_sectors,
)

PIECE = 1 << 20
_ZERO_PIECE = bytes(PIECE)
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

    def __init__(self, files: Files, handle: int, path: Path, header: Header, size: int) -> None:
        """`handle` is the file's, open until `release`; `size` what it has in bytes."""
        assert size <= header.size
        self._files = files
        self._handle = handle
        self._size = size
        self.path = path
        self.header = header
        self.end = SECTOR
        self.last = SECTOR
        self.last_bytes = b""
        self.seal: int | None = None
        self.torn: Torn | None = None
        self.missing = header.size - size
        self._base = 0
        self._window = b""
        self._next_index = header.first_index

    def frames(self) -> Iterator[tuple[int, memoryview, int, int]]:
        """(where the records start, the records, their number, first index) of each frame."""
        header, total = self.header, self._size
        position, salt_crc, tag = SECTOR, crc32(header.salt), header.tag
        unpack = FRAME.unpack_from
        self._window = self._files.read_all(self._handle, min(PIECE, total), 0)
        view, base, loaded = memoryview(self._window), 0, len(self._window)
        while position + FRAME_HEADER <= total:
            if position + FRAME_HEADER > loaded:
                view, base, loaded = self._move(position, FRAME_HEADER)
            at = position - base
            checksum, body_crc, length, count, zeros, first, mark = unpack(view, at)
            start = position + FRAME_HEADER
            seeded = crc32(position.to_bytes(8, "little"), salt_crc)
            if mark != tag or crc32(view[at + 4 : at + FRAME_HEADER], seeded) != checksum:
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
            if stop > loaded:
                view, base, loaded = self._move(position, stop - position)
            body = view[start - base : stop - base]
            if crc32(body) != body_crc:
                self._broken_frame(position, stop, zeros, (first, first + count - 1))
                return
            yield start, body[:length], count, first
            self.last, self.end, position = position, stop, stop
            self._next_index = first + count
        self._file_ends(position)

    @property
    def torn_seal(self) -> bool:
        """The broken write can have been the seal: no more than a frame header."""
        return self.torn is not None and self.torn.end - self.torn.offset <= FRAME_HEADER

    def release(self) -> None:
        """Forget the file and its bytes, but for the last frame's."""
        self._keep_last()
        self._window = b""
        self._files.close(self._handle)

    def damage(
        self, offset: int, reason: str, first: int | None = None, last: int | None = None
    ) -> DirectoryDamaged:
        """The error to raise; in doubt is all from `first` on, or from where the scan stands."""
        index = self._next_index if first is None else first
        return DirectoryDamaged(
            self.path, reason, offset=offset, first_index=index, last_index=last
        )

    def _move(self, position: int, size: int) -> tuple[memoryview, int, int]:
        """Have `size` bytes from `position` on in memory, and what more a piece has: the bytes,
        where in the file they begin, and end."""
        self._keep_last()
        have = self._window[position - self._base :]
        size = min(max(size, PIECE), self._size - position)
        rest = self._files.read_all(self._handle, size - len(have), position + len(have))
        self._window, self._base = have + rest, position
        if len(self._window) < size:
            raise OSError(EIO, "the file has become shorter while it was read", str(self.path))
        return memoryview(self._window), position, position + size

    def _keep_last(self) -> None:
        if self._base <= self.last:
            self.last_bytes = self._window[self.last - self._base : self.end - self._base]

    def _read(self, position: int, size: int) -> bytes:
        """From memory, if it is there; less only at the file's end."""
        at = position - self._base
        if at >= 0 and min(position + size, self._size) <= self._base + len(self._window):
            return self._window[at : at + size]
        return self._files.read_all(self._handle, size, position)

    def _found_seal(self, position: int, next_index: int) -> None:
        self.seal = next_index
        self.last, self.end = position, position + FRAME_HEADER
        self._must_end(self.end, "bytes stand behind the end of the segment")

    def _file_ends(self, position: int) -> None:
        """Fewer bytes are left than a frame header has, which only a cut file can show."""
        if any(self._read(position, FRAME_HEADER)):
            self.torn = Torn(position, self._size)

    def _no_frame_header(self, position: int) -> None:
        """The end of the log is here, or a torn write, or damage."""
        start = position + FRAME_HEADER
        end = self._content_end(position)
        if end == position:
            return
        header = self._read(position, FRAME_HEADER)
        if header != _ZERO_HEADER:
            if header[-1] == 0 and end <= start:
                self.torn = Torn(position, end)
                return
            raise self.damage(position, "the checksum of a frame's header does not agree")
        sector_end = -(-start // SECTOR) * SECTOR
        if any(self._read(start, sector_end - start)):
            raise self.damage(position, "a frame's header is zeros, but its sector is not")
        if (behind := self._frame_behind(sector_end)) is not None:
            raise self.damage(position, f"no frame is here, but one stands at byte {behind}")
        self.torn = Torn(position, end)

    def _broken_frame(self, position: int, stop: int, zeros: int, indexes: tuple[int, int]) -> None:
        """The header is right and the body is not: torn only if the crash left its mark."""
        frame = self._read(position, stop - position)
        if frame[-1] != 0 and zero_sectors(frame, position) <= zeros:
            raise self.damage(position, "the checksum of a frame does not agree", *indexes)
        self._must_end(stop, "a frame is broken, but it was not the last write")
        self.torn = Torn(position, stop)

    def _must_end(self, position: int, reason: str) -> None:
        if self._content_end(position) != position:
            raise self.damage(position, reason)

    def _content_end(self, position: int) -> int:
        """Behind the last byte from `position` on that is not zero; `position` if all are."""
        end = position
        for start in range(position, self._size, PIECE):
            piece = self._read(start, PIECE)
            if piece != _ZERO_PIECE[: len(piece)]:
                end = start + len(piece.rstrip(b"\0"))
        return end

    def _frame_behind(self, position: int) -> int | None:
        """Where the next valid frame header stands; its tag is what is searched for."""
        tag = self.header.tag
        for base in range(position, self._size, PIECE):  # no frame header crosses these bounds
            piece = self._read(base, PIECE)
            found = piece.find(tag)
            while found >= 0:
                start = found + len(tag) - FRAME_HEADER
                if start >= 0 and (base + start) % FRAME_HEADER == 0:
                    checksum = int.from_bytes(piece[start : start + 4], "little")
                    body = piece[start + 4 : start + FRAME_HEADER]
                    if crc32(body, seed(self.header.salt, base + start)) == checksum:
                        return base + start
                found = piece.find(tag, found + 1)
        return None
