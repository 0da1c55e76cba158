"""What is in each file of a stopped node's directory, whole or not: for people, and for repairs.

`survey` reads every byte, checks every checksum, and goes on where a start would refuse. It
changes nothing. Whether the parts fit together is the business of `Stopped.load`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from raftd import record
from raftd.raft.log import Entry
from raftd.raft.state import HardState, SnapshotMetadata
from raftd.storage import snapshots
from raftd.storage.directory import Directory, NodeDocument
from raftd.storage.errors import DirectoryDamaged, DirectoryMismatch, storage_errors
from raftd.storage.files import Files, naming
from raftd.storage.hard_state import HardStateFile
from raftd.storage.index import OFFSET_MASK
from raftd.storage.overlay import Overlay
from raftd.storage.replay import Replay
from raftd.storage.scan import Scan
from raftd.storage.segment import SECTOR, Header, HeaderError, decode_header, parse_name

Fault = DirectoryDamaged | DirectoryMismatch


class SnapshotFound(msgspec.Struct, frozen=True):
    """A snapshot that has a .meta. `metadata` is None if that, or its bytes, are not valid."""

    index: int
    term: int
    metadata: SnapshotMetadata | None
    fault: Fault | None


class SegmentFound(msgspec.Struct, frozen=True):
    """One file of the log, read by itself.

    `first_index` to `last_index` are the entries in its valid frames (none: last < first), which
    end at byte `end`, the last of them, or the seal, beginning at `last_frame`. `torn`: bytes of a
    last write that a crash broke off. `fault`: what is wrong behind `end`, or with all of it.
    """

    path: Path
    header: Header | None
    first_index: int
    last_index: int
    last_term: int
    end: int
    last_frame: int
    sealed: bool
    torn: int
    size: int
    fault: Fault | None

    @property
    def state(self) -> str:
        if self.fault is not None:
            return "damaged"
        return "torn" if self.torn else "sealed" if self.sealed else "open"


class Survey(msgspec.Struct, frozen=True):
    """Parts that are None could not be read; `faults` says why, in the order of the files."""

    document: NodeDocument | None
    hard_state: HardState | None
    one_slot_only: bool
    snapshots: tuple[SnapshotFound, ...]
    segments: tuple[SegmentFound, ...]
    leftovers: tuple[Path, ...]
    faults: tuple[Fault, ...]


def survey(files: Files, directory: Directory) -> Survey:
    """Look at every file by itself. StorageFailed if the system refuses to read."""
    faults: list[Fault] = []
    document = hard_state = None
    one_slot_only = False
    with storage_errors("read", directory.path):
        try:
            document = directory.load(None)
        except (DirectoryDamaged, DirectoryMismatch) as error:
            faults.append(error)
        try:
            directory.load_peers()
        except (DirectoryDamaged, DirectoryMismatch) as error:
            faults.append(error)
        try:
            file = HardStateFile(files, directory.hard_state)
            hard_state, one_slot_only = file.value, file.had_invalid_slot
            file.close()
        except (DirectoryDamaged, DirectoryMismatch) as error:
            faults.append(error)
        found = _snapshots(files, directory.snapshots, faults)
        segments = _segments(files, directory.wal, faults)
        leftovers = tuple(
            place / name
            for place in (directory.path, directory.wal, directory.snapshots)
            if files.size(place) is not None
            for name in files.listdir(place)
            if ".tmp" in name
        )
    return Survey(document, hard_state, one_slot_only, found, segments, leftovers, tuple(faults))


def entries_in(files: Files, segment: SegmentFound) -> Iterator[Entry]:
    """The entries of one file's valid frames, in their order, superseded ones too."""
    if segment.header is None:
        return
    path = segment.path
    files = Overlay(files, (), {path: segment.end})
    with storage_errors("read", path):
        scan = Scan(files, files.open(path), path, segment.header, segment.size)
        try:
            for _, records, _, _ in scan.frames():
                yield from record.decode_all(records)
        finally:
            scan.release()


def _snapshots(files: Files, directory: Path, faults: list[Fault]) -> tuple[SnapshotFound, ...]:
    if files.size(directory) is None:
        faults.append(DirectoryDamaged(directory, "the directory of the snapshots is missing"))
        return ()
    found = []
    for index, term in snapshots.names_in(files, directory):
        metadata = fault = None
        try:
            metadata = snapshots.verified(files, directory, index, term)
        except (DirectoryDamaged, DirectoryMismatch) as error:
            fault = error
            faults.append(error)
        found.append(SnapshotFound(index, term, metadata, fault))
    return tuple(found)


def _segments(files: Files, directory: Path, faults: list[Fault]) -> tuple[SegmentFound, ...]:
    if files.size(directory) is None:
        faults.append(DirectoryDamaged(directory, "the log is missing"))
        return ()
    names = sorted(name for name in files.listdir(directory) if parse_name(name) is not None)
    found = [_segment(files, directory / name) for name in names]
    faults += [segment.fault for segment in found if segment.fault is not None]
    return tuple(found)


def _segment(files: Files, path: Path) -> SegmentFound:
    _, first = parse_name(path.name) or (0, 0)
    size = files.size(path) or 0
    fault: Fault | None = None
    try:
        header = decode_header(files.read_file(path, SECTOR))
        if header.name != path.name:
            fault = DirectoryDamaged(path, f"its header belongs to a file called {header.name}")
        elif size > header.size:
            fault = DirectoryDamaged(path, f"{size} bytes are more than its {header.size}")
    except HeaderError as error:
        fault = (
            DirectoryMismatch(path, str(error))
            if error.newer
            else DirectoryDamaged(path, str(error), offset=0, first_index=first)
        )
    if fault is not None:
        return SegmentFound(path, None, first, first - 1, 0, 0, 0, False, 0, size, fault)
    scan = Scan(files, files.open(path), path, header, size)
    log = Replay()
    log.index.restart(header.first_index)
    try:
        with naming(path):
            log.replay(scan)
    except DirectoryDamaged as error:
        fault = error
    finally:
        scan.release()
    index = log.index
    while index.words and index.words[-1] & OFFSET_MASK >= scan.end:
        index.truncate_from(index.last_index)  # of the frame that proved broken
    torn = scan.torn.end - scan.end if scan.torn is not None and fault is None else 0
    return SegmentFound(
        path,
        header,
        index.first_index,
        index.last_index,
        index.last_term,
        scan.end,
        scan.last,
        scan.seal is not None,
        torn,
        size,
        fault,
    )
