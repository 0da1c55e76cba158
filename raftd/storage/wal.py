"""The log on disk: a sequence of segments that is only appended to, and an index of it in memory.

`append` makes entries durable with one write and one fdatasync; `read` may run beside it in other
threads and sees only what is durable. `compact` deletes whole segments from the old end.
Format and rules: raftd.storage.segment; what happens at a start: raftd.storage.recovery.

Errors: DiskFull, after which all is as before the call; every OSError that comes out of here means
that the disk's content is unknown, and the caller must not go on.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NoReturn

import msgspec

from raftd import record
from raftd.raft.log import Entry
from raftd.storage import segment as form
from raftd.storage.errors import DiskFull, NotInLog, is_full
from raftd.storage.files import Files, PartialWrite, naming
from raftd.storage.index import OFFSET_BITS, OFFSET_MASK
from raftd.storage.reader import SegmentReader
from raftd.storage.recovery import Recovery
from raftd.storage.segment import FRAME_HEADER, SECTOR, Header, Segment
from raftd.storage.supply import SegmentSupply


class SegmentDescription(msgspec.Struct, frozen=True):
    """One file of the log. Indexes and terms are None while it holds no live entry."""

    file: str
    first_index: int | None
    last_index: int | None
    first_term: int | None
    last_term: int | None
    used_bytes: int
    size_bytes: int


class Wal:
    """`append`, restarts and `close` by one thread at a time; everything else by any."""

    def __init__(self, files: Files, recovery: Recovery, segment_bytes: int) -> None:
        """`recovery` has been repaired."""
        self._files = files
        self._directory = recovery.directory
        self._segment_bytes = segment_bytes
        self._segments = recovery.segments
        self._index = recovery.log.index
        self._lock = threading.Lock()  # for _segments and _index; never held during slow IO
        self._deleting = threading.Lock()  # segments are deleted in order, by one thread
        self._supply = SegmentSupply(files, recovery.directory, segment_bytes)
        self._handle = files.open(self._active.path)
        self._unfinished = 0
        """Bytes behind the last frame of one that the disk was too full for."""

    @classmethod
    def create(
        cls,
        files: Files,
        directory: Path,
        cluster_id: bytes,
        segment_bytes: int,
        first_index: int = 1,
    ) -> None:
        """The first segment of a new node, in an empty directory; durable on return."""
        header = Header(cluster_id, 1, first_index, segment_bytes, form.new_salt(files))
        temporary = directory / "new.tmp"
        form.make(files, temporary, segment_bytes, header)
        files.rename(temporary, directory / header.name)
        files.fsync_dir(directory)

    @property
    def first_index(self) -> int:
        return self._index.first_index

    @property
    def last_index(self) -> int:
        """One less than `first_index` while the log is empty."""
        return self._index.last_index

    @property
    def used_bytes(self) -> int:
        with self._lock:
            return sum(segment.used for segment in self._segments)

    @property
    def size_bytes(self) -> int:
        """The spare segment included."""
        with self._lock:
            sizes = sum(segment.header.size for segment in self._segments)
        return sizes + self._supply.spare_bytes

    @property
    def spare_wanted(self) -> bool:
        """The active segment is half full, and the next one is not there yet."""
        active = self._segments[-1]
        return active.used * 2 >= active.header.size and not self._supply.spare_bytes

    def term(self, index: int) -> int | None:
        with self._lock:
            return self._index.term(index)

    def term_runs(self, index: int) -> tuple[tuple[int, int], ...]:
        """(first index, term) of each run of equal terms from `index` on."""
        with self._lock:
            return tuple(self._index.runs_from(index))

    def segments(self) -> list[SegmentDescription]:
        with self._lock:
            return [self._describe(segment) for segment in self._segments]

    def append(self, entries: Sequence[Entry]) -> None:
        """Make contiguous entries durable; the first may supersede what is at and behind it."""
        index, first = self._index, entries[0].index
        next_index = index.next_index
        assert index.first_index <= first <= next_index, "a log has no gaps"
        assert entries[-1].index == first + len(entries) - 1
        records = [entry.record for entry in entries]
        sizes = list(map(len, records))
        length = sum(sizes)
        if self._unfinished:
            self._erase_unfinished()
        active = self._segments[-1]
        if not active.has_room(length):
            active = self._roll(length)
        position, header = active.used, active.header
        frame = form.encode_frame(header.salt, position, first, records)
        try:
            self._files.write_all(self._handle, frame, position)
            self._files.fdatasync(self._handle)
        except OSError as error:
            with naming(active.path):
                self._take_back(error)
        sizes[-1:] = ()
        word = (header.sequence << OFFSET_BITS) + position + FRAME_HEADER
        with self._lock:
            if first < next_index:
                index.truncate_from(first)
            index.extend(entries, accumulate(sizes, initial=word))
            active.used = position + len(frame)

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Entries from `first`, at most to `last`, together at most `max_bytes`, at least one.

        NotInLog if there is none at `first`; DirectoryDamaged if what is read is not what was
        written.
        """
        with self._lock:
            if not self._index.first_index <= first <= self._index.last_index:
                raise NotInLog(first, self._index.first_index, self._index.last_index)
            count = min(last + 1 - first, max_bytes // record.HEADER_SIZE)
            start = first - self._index.first_index
            words = self._index.words[start : start + max(1, count)]
        entries: list[Entry] = []
        position = 0
        while position < len(words):
            sequence = words[position] >> OFFSET_BITS
            stop = bisect_left(words, (sequence + 1) << OFFSET_BITS, position)
            reader = self._reader(sequence, first + position)
            try:
                least = 0 if entries else 1
                block = reader.read(first + position, words[position:stop], max_bytes, least)
            finally:
                reader.close()
            entries += block
            max_bytes -= sum(len(entry.record) for entry in block)
            if len(block) < stop - position:
                break
            position = stop
        return entries

    def tail(self, lowest: int, max_bytes: int) -> tuple[Entry, ...]:
        """The newest entries, none below `lowest`, together at most `max_bytes`."""
        blocks: list[list[Entry]] = []
        first = self._index.next_index
        lowest = max(lowest, self._index.first_index)
        while (start := self._start_within(lowest, first, max_bytes)) < first:
            block = self.read(start, first - 1, max_bytes)
            assert len(block) == first - start
            max_bytes -= sum(len(entry.record) for entry in block)
            blocks.append(block)
            first = start
        return tuple(entry for block in reversed(blocks) for entry in block)

    def compact(self, index: int) -> None:
        """Delete, oldest first, the segments whose live entries are all at or below `index`."""
        with self._deleting:
            while self._delete_oldest(index):
                pass

    def prepare_restart(self, first_index: int) -> tuple[Path, Header]:
        """Take the space for a log that is empty and goes on at `first_index`. DiskFull."""
        header = self._next_header(first_index, self._segment_bytes, restart=True)
        return self._supply.take(header), header

    def finish_restart(self, prepared: tuple[Path, Header]) -> None:
        """The log is empty; a durable snapshot covers what was in it.

        Counts from the moment the new segment's name is durable: see raftd.storage.recovery.
        """
        with self._deleting:
            segment = self._begin(*prepared)
            with self._lock:
                old = self._segments
                self._segments = [segment]
                self._index.restart(segment.header.first_index)
            for dead in old:
                self._unlink(dead)

    def cancel_restart(self, prepared: tuple[Path, Header]) -> None:
        self._files.unlink(prepared[0])

    def prepare_spare(self) -> None:
        """Make the next segment ahead, so that no save has to wait for it. DiskFull."""
        self._supply.prepare_spare()

    def settle(self) -> None:
        """Take back what a full disk has left of a frame, before the log is called closed.
        DiskFull."""
        if self._unfinished:
            self._erase_unfinished()

    def close(self) -> None:
        self._files.close(self._handle)

    @property
    def _active(self) -> Segment:
        return self._segments[-1]

    def _take_back(self, error: OSError) -> NoReturn:
        """A write that there was no space for: DiskFull, and nothing of it is there."""
        if not isinstance(error, PartialWrite) or not is_full(error):
            raise error
        self._unfinished = error.written
        self._erase_unfinished()
        raise DiskFull("write", self._active.path, error.errno or 0) from error

    def _erase_unfinished(self) -> None:
        """Put zeros where the disk was too full for a whole frame. DiskFull: still too full even
        for that, as overwriting takes space on some file systems; then the next append tries.

        The end goes first and the frame header last, its last byte before the rest of it: whatever
        a crash leaves of this is a torn write.
        """
        start, end = self._active.used, self._active.used + self._unfinished
        mark, body = start + FRAME_HEADER - 1, start + FRAME_HEADER
        try:
            for first, last in ((body, end), (mark, min(body, end)), (start, min(mark, end))):
                if first < last:
                    self._files.write_zeros(self._handle, last - first, first)
        except PartialWrite as error:
            if not is_full(error):
                raise
            raise DiskFull("write", self._active.path, error.errno or 0) from error
        self._files.fdatasync(self._handle)
        self._unfinished = 0

    def _roll(self, length: int) -> Segment:
        """Begin the next segment, large enough for a frame with `length` bytes of records."""
        least = SECTOR + form.frame_size(length) + FRAME_HEADER
        size = max(self._segment_bytes, -(-least // SECTOR) * SECTOR)
        assert size <= form.MAX_SEGMENT, "a save is larger than a segment can be"
        header = self._next_header(self._index.next_index, size, restart=False)
        segment = self._begin(self._supply.take(header), header)
        with self._lock:
            self._segments.append(segment)
        return segment

    def _next_header(self, first_index: int, size: int, *, restart: bool) -> Header:
        before = self._active.header
        salt = form.new_salt(self._files)
        return Header(before.cluster_id, before.sequence + 1, first_index, size, salt, restart)

    def _begin(self, temporary: Path, header: Header) -> Segment:
        """Give the new segment its name and seal the active one; no frame is in it before."""
        segment = Segment(self._directory, header)
        self._files.rename(temporary, segment.path)
        self._files.fsync_dir(self._directory)
        active = self._active
        if not active.sealed:
            seal = form.encode_seal(active.header.salt, active.used, self._index.next_index)
            self._files.write_all(self._handle, seal, active.used)
            self._files.fdatasync(self._handle)
            active.sealed = True
            active.used += len(seal)
        handle = self._files.open(segment.path)
        self._files.close(self._handle)
        self._handle = handle
        return segment

    def _delete_oldest(self, index: int) -> bool:
        with self._lock:
            oldest = self._segments[0]
            first, last = self._index.live(oldest.header.sequence)
            if len(self._segments) < 2 or (first <= last and last > index):
                return False
            del self._segments[0]
            if first <= last:
                self._index.drop_until(last)
        self._unlink(oldest)
        return True

    def _unlink(self, segment: Segment) -> None:
        """One by one: a later segment must never be gone while an earlier one is still there."""
        self._files.unlink(segment.path)
        self._files.fsync_dir(self._directory)

    def _reader(self, sequence: int, index: int) -> SegmentReader:
        """Opened under the lock: once open, the file may be deleted and can still be read."""
        with self._lock:
            place = sequence - self._segments[0].header.sequence
            if place < 0:
                raise NotInLog(index, self._index.first_index, self._index.last_index)
            segment = self._segments[place]
            return SegmentReader(self._files, segment.path, segment.used)

    def _start_within(self, lowest: int, next_index: int, max_bytes: int) -> int:
        """From where on the entries before `next_index`, of one segment, surely fit `max_bytes`.

        By the distance of their places on disk, which is at least the size of their records.
        """
        base, words = self._index.first_index, self._index.words
        if next_index <= lowest:
            return next_index
        sequence = words[next_index - 1 - base] >> OFFSET_BITS
        segment = self._segments[sequence - self._segments[0].header.sequence]
        end = segment.used
        if next_index <= self._index.last_index:
            following = words[next_index - base]
            if following >> OFFSET_BITS == sequence:
                end = following & OFFSET_MASK
        threshold = (sequence << OFFSET_BITS) + max(0, end - max_bytes)
        return base + bisect_left(words, threshold, lowest - base, next_index - base)

    def _describe(self, segment: Segment) -> SegmentDescription:
        first, last = self._index.live(segment.header.sequence)
        some = first <= last
        return SegmentDescription(
            segment.path.name,
            first if some else None,
            last if some else None,
            self._index.term(first) if some else None,
            self._index.term(last) if some else None,
            segment.used,
            segment.header.size,
        )
