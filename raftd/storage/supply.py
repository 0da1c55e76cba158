"""Where new segments come from: made when one is needed, or ahead, as the spare one.

A new segment is complete and durable under a temporary name before it gets its own (see
raftd.storage.segment), so that running out of space here leaves nothing behind but DiskFull.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raftd.storage import segment as form
from raftd.storage.document import remove_if_there
from raftd.storage.errors import DiskFull, is_full
from raftd.storage.files import Files
from raftd.storage.segment import Header


class SegmentSupply:
    """`take` by one thread at a time, `prepare_spare` by any, also beside it."""

    def __init__(self, files: Files, directory: Path, segment_bytes: int) -> None:
        self._files = files
        self._next = directory / "new.tmp"
        self._ahead = directory / "spare.tmp"
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._preparing = threading.Lock()
        self._has_spare = False

    @property
    def spare_bytes(self) -> int:
        """The size of the spare segment; 0 if there is none."""
        return self._segment_bytes if self._has_spare else 0

    def prepare_spare(self) -> None:
        """Make a segment ahead, unless there is one or another thread is at it. DiskFull."""
        if not self._preparing.acquire(blocking=False):
            return
        try:
            if not self._has_spare:
                remove_if_there(self._files, self._ahead)
                with self._space_for(self._ahead):
                    form.make(self._files, self._ahead, self._segment_bytes, None)
                with self._lock:
                    self._has_spare = True
        finally:
            self._preparing.release()

    def take(self, header: Header) -> Path:
        """The temporary name of a durable segment with this header and no frame. DiskFull."""
        with self._lock:
            use_spare = self._has_spare and header.size == self._segment_bytes
            if use_spare:
                self._files.rename(self._ahead, self._next)
                self._has_spare = False
        if not use_spare:
            remove_if_there(self._files, self._next)
        with self._space_for(self._next):
            if not use_spare:
                form.make(self._files, self._next, header.size, header)
                return self._next
            handle = self._files.open(self._next)
            try:
                self._files.write_all(handle, header.encode(), 0)
                self._files.fdatasync(handle)
            finally:
                self._files.close(handle)
        return self._next

    @contextmanager
    def _space_for(self, path: Path) -> Iterator[None]:
        """A temporary file that does not fit is removed; nothing depends on it."""
        try:
            yield
        except OSError as error:
            if not is_full(error):
                raise
            remove_if_there(self._files, path)
            what = "make the next segment of the log,"
            raise DiskFull(what, path, error.errno or 0) from error
