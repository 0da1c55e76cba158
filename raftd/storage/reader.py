"""Read saved entries back from one segment, for a follower that is far behind or for a person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from raftd import record
from raftd.raft.log import Entry
from raftd.record import HEADER, HEADER_SIZE
from raftd.storage.errors import DirectoryDamaged
from raftd.storage.files import Files
from raftd.storage.index import OFFSET_MASK

_PIECE = 1 << 20
"""Bytes that are read ahead at most."""


class SegmentReader:
    """An open segment whose frames end at byte `end`. Close it."""

    def __init__(self, files: Files, path: Path, end: int) -> None:
        self._files = files
        self._path = path
        self._end = end
        self._handle = files.open(path)
        self._start = 0
        self._buffer = b""

    def close(self) -> None:
        self._files.close(self._handle)

    def read(self, first: int, words: Sequence[int], max_bytes: int, least: int) -> list[Entry]:
        """The entries from index `first` on whose records stand at `words`.

        As many as have together at most `max_bytes`, but at least `least`. DirectoryDamaged.
        """
        entries: list[Entry] = []
        for index, word in enumerate(words, first):
            offset = word & OFFSET_MASK
            size = self._load(offset, max_bytes, index)
            if size > max_bytes and len(entries) >= least:
                break
            entries.append(self._decode(offset, size, index))
            max_bytes -= size
        return entries

    def _load(self, offset: int, max_bytes: int, index: int) -> int:
        """The size of the record at `offset`; it is in the buffer if that is within `max_bytes`."""
        size = self._record_size(offset)
        if size is None:
            self._fill(offset, max(HEADER_SIZE, min(max_bytes, _PIECE)))
            size = self._record_size(offset)
        if size is None or size > self._end - offset:
            raise self._damage(offset, index, "a saved record is not there")
        return size

    def _record_size(self, offset: int) -> int | None:
        """By the header of the record at `offset`; None if the buffer does not have all of it."""
        at = offset - self._start
        if at < 0 or at + HEADER_SIZE > len(self._buffer):
            return None
        size: int = HEADER_SIZE + HEADER.unpack_from(self._buffer, at)[1]
        if at and at + size > len(self._buffer):
            return None
        return size

    def _fill(self, offset: int, size: int) -> None:
        self._start = offset
        self._buffer = self._files.read_all(self._handle, min(size, self._end - offset), offset)

    def _decode(self, offset: int, size: int, index: int) -> Entry:
        if offset - self._start + size > len(self._buffer):
            self._fill(offset, size)
        try:
            entry = record.decode(self._buffer, offset - self._start)
        except record.RecordError as error:
            raise self._damage(offset, index, error.reason) from error
        if entry.index != index:
            raise self._damage(offset, index, f"entry {entry.index} stands there")
        return entry

    def _damage(self, offset: int, index: int, reason: str) -> DirectoryDamaged:
        return DirectoryDamaged(
            self._path, reason, offset=offset, first_index=index, last_index=index
        )
