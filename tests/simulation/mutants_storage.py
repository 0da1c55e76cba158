"""Mutations of the storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from raftd.raft.log import Entry
from raftd.raft.state import HardState, SnapshotMetadata
from raftd.storage import document, hard_state, snapshots, wal
from raftd.storage.disk import Disk, DiskFull, Files
from raftd.storage.hard_state import HardStateFile
from raftd.storage.recovery import Recovery
from raftd.storage.scan import Scan
from raftd.storage.snapshots import Snapshots
from raftd.storage.wal import Wal
from tests.simulation.files import SimulatedFiles
from tests.simulation.mutations import Patches, mutation


def _without(patches: Patches, owner: Any, method: str, call: str) -> None:
    """Inside of `owner.method`, what it calls on files by the name of `call` does nothing."""

    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        files = self._files
        self._files = _Deaf(files, call)
        try:
            return original(self, *args, **kwargs)
        finally:
            self._files = files

    original = patches.set(owner, method, changed)


class _Deaf:
    """Files that do not hear one call."""

    def __init__(self, files: Any, call: str) -> None:
        self._real = files
        self._call = call

    def __getattr__(self, name: str) -> Any:
        if name == self._call:
            return lambda *args: None
        return getattr(self._real, name)


@mutation("entries are written, but not synced")
def entries_not_synced(patches: Patches) -> None:
    _without(patches, Wal, "append", "fdatasync")


@mutation("term and vote are written, but not synced")
def hard_state_not_synced(patches: Patches) -> None:
    _without(patches, HardStateFile, "save", "fdatasync")


@mutation("term and vote are always written into the same slot")
def hard_state_slot_not_alternated(patches: Patches) -> None:
    patches.set(hard_state, "SLOT_OFFSETS", (0, 0))


@mutation("term and vote are not saved together with entries")
def hard_state_left_out(patches: Patches) -> None:
    def save(self: Disk, state: HardState | None, entries: Sequence[Entry]) -> None:
        original(self, None if entries and state is not None else state, entries)

    original = patches.set(Disk, "save", save)


@mutation("directories are never synced")
def directory_fsync_skipped(patches: Patches) -> None:
    patches.set(SimulatedFiles, "fsync_dir", lambda self, path: None)


@mutation("a new segment's name is not synced")
def segment_name_not_synced(patches: Patches) -> None:
    _without(patches, Wal, "_begin", "fsync_dir")


@mutation("a snapshot is adopted without syncing its bytes")
def snapshot_not_synced(patches: Patches) -> None:
    _without(patches, Snapshots, "sync", "fsync")


@mutation("an fsync that failed is tried once more, and believed (fsyncgate)")
def failed_fsync_is_repeated(patches: Patches) -> None:
    def fdatasync(self: SimulatedFiles, handle: int) -> None:
        try:
            original(self, handle)
        except OSError:
            original(self, handle)

    original = patches.set(SimulatedFiles, "fdatasync", fdatasync)


@mutation("a disk that fails is used further")
def failed_disk_is_used_further(patches: Patches) -> None:
    def save(self: Disk, state: HardState | None, entries: Sequence[Entry]) -> None:
        try:
            original(self, state, entries)
        except DiskFull:
            return

    original = patches.set(Disk, "save", save)


@mutation("what a start reads and was never synced is believed (not written anew)")
def recovery_does_not_write_anew(patches: Patches) -> None:
    def repair(self: Recovery, files: Any) -> None:
        if not self.torn:
            self.rewrites = []
        original(self, files)

    original = patches.set(Recovery, "repair", repair)
    patches.set(HardStateFile, "settle", lambda self: None)


@mutation("a torn write at the end of the log is taken for damage")
def torn_tail_is_damage(patches: Patches) -> None:
    def broken(self: Scan, position: int, stop: int, zeros: int, indexes: tuple[int, int]) -> None:
        raise self.damage(position, "the checksum of a frame does not agree", *indexes)

    patches.set(Scan, "_broken_frame", broken)


@mutation("damage at the end of the log is taken for a torn write")
def damage_is_taken_for_a_torn_write(patches: Patches) -> None:
    def broken(self: Scan, position: int, stop: int, zeros: int, indexes: tuple[int, int]) -> None:
        original(self, position, stop, -1, indexes)

    original = patches.set(Scan, "_broken_frame", broken)


@mutation("the torn end of the log is not cleared")
def torn_tail_not_cut(patches: Patches) -> None:
    def repair(self: Recovery, files: Any) -> None:
        self.rewrites = []
        original(self, files)

    original = patches.set(Recovery, "repair", repair)


@mutation("a start does not look at the last frame")
def last_frame_lost(patches: Patches) -> None:
    def frames(self: Scan) -> Iterator[tuple[int, memoryview, int, int]]:
        found = list(original(self))
        yield from found[:-1] if len(found) > 3 else found

    original = patches.set(Scan, "frames", frames)


@mutation("segments are deleted although the snapshot does not cover them")
def compaction_goes_too_far(patches: Patches) -> None:
    def compact(self: Wal, index: int) -> None:
        original(self, index + 20)

    original = patches.set(Wal, "compact", compact)


@mutation("a log in which entries were superseded reads back as it was before")
def superseded_entries_come_back(patches: Patches) -> None:
    def append(self: Wal, entries: Sequence[Entry]) -> None:
        last = self._index.last_index
        if entries[0].index <= last and entries[-1].index > last:
            entries = [entry for entry in entries if entry.index > last]
        original(self, entries)

    original = patches.set(Wal, "append", append)


@mutation("the log does not restart behind a snapshot from the leader")
def log_does_not_restart(patches: Patches) -> None:
    def install(self: Disk, path: Path, metadata: Any) -> None:
        self._snapshots.adopt(path, metadata)

    patches.set(Disk, "install_snapshot", install)


@mutation("a damaged snapshot is taken as it is")
def snapshot_checksum_ignored(patches: Patches) -> None:
    def verified(files: Files, directory: Path, index: int, term: int) -> SnapshotMetadata:
        path = directory / snapshots.file_name(index, term, "meta")
        metadata = document.read(files, path, snapshots.KIND, SnapshotMetadata)
        assert metadata is not None
        return metadata

    patches.set(snapshots, "verified", verified)


assert wal
