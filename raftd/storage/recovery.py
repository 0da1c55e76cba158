"""What the log on disk says after a start: all segments in order, checked, nothing changed yet.

`recover` only reads. What a crash left unfinished is collected in `Recovery`, and put in order by
`repair` once every other file has been checked, too. The rules are those of raftd.storage.segment;
on top of them, with the snapshot at index S and term T:

* The segments' sequences have no gap. Every segment is sealed, but for the last one, and the one
  before it if the last one is empty: then the crash came between making and sealing.
* Replay starts at the last segment with the restart flag, else at the first one there is. It is
  right to forget all before a restart: the flag is written only after the snapshot that took the
  place of the old log is durable. The old segments wait for deletion.
* At the end the log must begin at S + 1 or below: a gap is damage.
* If the log ends before S, or has another term there, a crash came between making the snapshot
  durable and restarting the log: the snapshot decides (Figure 13, rules 6 and 7), the log restarts
  at S + 1. Otherwise it contains what the snapshot ends with, and the entries behind it stay.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from raftd.raft.state import SnapshotMetadata
from raftd.storage.errors import DirectoryDamaged, DirectoryMismatch
from raftd.storage.files import Files, naming
from raftd.storage.replay import Replay
from raftd.storage.scan import Scan
from raftd.storage.segment import (
    SECTOR,
    Header,
    HeaderError,
    Segment,
    decode_header,
    parse_name,
)

_PIECE = 1 << 20


class Rewrite(msgspec.Struct, frozen=True):
    """Bytes to be written, and fdatasynced, before the log may be relied on."""

    path: Path
    offset: int
    data: bytes


class Recovery:
    """The log as found, and what is to be done before it is used.

    `torn`: a broken write was found at its end. `restart_at`: where the log has to restart
    because of the snapshot, None if it goes on as it is.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.segments: list[Segment] = []
        self.log = Replay()
        self.notes: list[str] = []
        self.torn = False
        self.restart_at: int | None = None
        self.unlinks: list[Path] = []
        self.rewrites: list[Rewrite] = []

    def repair(self, files: Files) -> None:
        """Make durable what was read, and finish what a crash broke off. All can be done twice."""
        files.fsync_dir(self.directory)
        for path in self.unlinks:
            files.unlink(path)
            files.fsync_dir(self.directory)
        for rewrite in self.rewrites:
            handle = files.open(rewrite.path)
            try:
                with naming(rewrite.path):
                    files.write_all(handle, rewrite.data, rewrite.offset)
                    files.fdatasync(handle)
            finally:
                files.close(handle)


def recover(
    files: Files, directory: Path, cluster_id: bytes, snapshot: SnapshotMetadata
) -> Recovery:
    """Read the whole log. DirectoryDamaged, DirectoryMismatch; changes nothing."""
    recovery = Recovery(directory)
    if files.size(directory) is None:
        raise DirectoryDamaged(directory, "the log is missing")
    names = files.listdir(directory)
    recovery.unlinks = [directory / name for name in names if name.endswith(".tmp")]
    headers = _headers(files, directory, names, cluster_id)
    start = max(
        (place for place, (_, header) in enumerate(headers) if header and header.restart),
        default=0,
    )
    recovery.unlinks += [path for path, _ in headers[:start]]
    scans = _replay_all(files, recovery, headers[start:])
    _end_of_log(recovery, scans)
    _agree_with_snapshot(recovery, snapshot)
    return recovery


def _headers(
    files: Files, directory: Path, names: list[str], cluster_id: bytes
) -> list[tuple[Path, Header | None]]:
    """Every segment's header, in order; None for a newest one that has no valid header."""
    found = sorted((parsed, name) for name in names if (parsed := parse_name(name)) is not None)
    if not found:
        raise DirectoryDamaged(directory, "the log has no segment")
    headers: list[tuple[Path, Header | None]] = []
    previous: tuple[int, int] | None = None
    for (sequence, first), name in found:
        path = directory / name
        if previous is not None and sequence != previous[0] + 1:
            reason = f"segment {previous[0] + 1} of the log is missing, or one is there twice"
            last = first - 1 if first > previous[1] else None
            raise DirectoryDamaged(path, reason, first_index=previous[1], last_index=last)
        previous = sequence, first
        try:
            header = decode_header(files.read_file(path, SECTOR))
        except HeaderError as error:
            if error.newer:
                raise DirectoryMismatch(path, str(error)) from error
            if name != found[-1][1]:
                raise DirectoryDamaged(path, str(error), offset=0, first_index=first) from error
            headers.append((path, None))
            continue
        if header.name != name:
            reason = f"its header belongs to a file called {header.name}"
            raise DirectoryDamaged(path, reason, offset=0, first_index=first)
        if header.cluster_id != cluster_id:
            raise DirectoryMismatch(path, "this segment belongs to another cluster")
        headers.append((path, header))
    return headers


def _replay_all(
    files: Files, recovery: Recovery, headers: list[tuple[Path, Header | None]]
) -> list[Scan]:
    """Replay the segments and check that each hands over to the next one.

    Returns the scans of the last two segments in use, without their bytes.
    """
    scans: list[Scan] = []
    for place, (path, header) in enumerate(headers):
        if header is None:
            _unreadable(files, path, scans[-1] if scans else None)
            break
        if place == 0:
            recovery.log.index.restart(header.first_index)
        if scans and scans[-1].seal is None:
            if place + 1 < len(headers) or not _is_empty(files, path):
                raise scans[-1].damage(scans[-1].end, "the log goes on elsewhere, without a seal")
            break
        scan = _scan(files, path, header)
        try:
            if scans and scans[-1].seal != header.first_index:
                reason = f"the segment before goes on at index {scans[-1].seal}, not here"
                raise scan.damage(0, reason, header.first_index)
            with naming(path):
                recovery.log.replay(scan)
        finally:
            scan.release()
        _check_end(files, scan, [later for later, _ in headers[place + 1 :]])
        _check_seal(scan, recovery.log.index.next_index)
        segment = Segment(path.parent, header, scan.end)
        segment.sealed = scan.seal is not None
        recovery.segments.append(segment)
        scans = [*scans[-1:], scan]
    for path, _ in headers[len(recovery.segments) :]:
        recovery.notes.append(f"removed {path.name}, an empty segment that a crash left behind")
        recovery.unlinks.append(path)
    return scans


def _check_end(files: Files, scan: Scan, later: list[Path]) -> None:
    """Only the last segment's end may be torn; or its seal, before there was more."""
    if not later or not (scan.torn or scan.missing):
        return
    if scan.missing or not scan.torn_seal or len(later) > 1 or not _is_empty(files, later[0]):
        raise scan.damage(scan.end, "a write is broken, but segments follow")


def _check_seal(scan: Scan, next_index: int) -> None:
    if scan.seal is not None and scan.seal != next_index:
        reason = f"the seal says {scan.seal}, the log goes on at {next_index}"
        raise scan.damage(scan.end, reason, next_index)


def _end_of_log(recovery: Recovery, scans: list[Scan]) -> None:
    """The last segment's torn tail, and what is to be written once more.

    The last frame is written again as it is: if the process died between its write and its
    fdatasync, or that fdatasync failed, it may be in the system's cache only, and look durable
    (a second fsync would not tell). So does the seal before a segment without a frame.
    """
    last = scans[-1]
    if last.seal is not None:
        raise last.damage(last.end, "this segment says that another one follows, and none is there")
    if not last.last_bytes and len(scans) > 1:
        recovery.rewrites.append(Rewrite(scans[0].path, scans[0].last, scans[0].last_bytes))
    end = last.end
    if last.torn is not None:
        recovery.torn = True
        end = last.torn.end
        recovery.notes.append(
            f"cut a torn write of {end - last.end} bytes at {last.path}, offset {last.end};"
            f" the log ends at index {recovery.log.index.last_index}"
        )
    if last.missing:
        end = last.header.size
        recovery.notes.append(
            f"{last.path} was {last.missing} bytes short and has its full size again; no crash is"
            " known to do this, and whether saved entries are missing with them cannot be told;"
            f" the log ends at index {recovery.log.index.last_index}"
        )
    data = last.last_bytes.ljust(end - last.last, b"\0")
    recovery.rewrites.append(Rewrite(last.path, last.last, data))


def _agree_with_snapshot(recovery: Recovery, snapshot: SnapshotMetadata) -> None:
    index, end = recovery.log.index, snapshot.last_included_index
    path = recovery.segments[0].path
    if index.first_index > end + 1:
        raise DirectoryDamaged(
            path,
            f"the log begins at index {index.first_index}, but the newest snapshot ends at {end}",
            first_index=end + 1,
            last_index=index.first_index - 1,
        )
    if index.last_index < end or index.term(end) not in {None, snapshot.last_included_term}:
        recovery.restart_at = end + 1
        recovery.notes.append(
            f"the log ended at index {index.last_index} and does not contain what the snapshot"
            f" ends with; it restarts behind the snapshot, at index {end + 1}"
        )
        return
    following = index.runs_from(end + 1)
    if following and following[0][1] < snapshot.last_included_term:
        raise DirectoryDamaged(
            path,
            f"term {following[0][1]} follows the snapshot's term {snapshot.last_included_term}",
            first_index=end + 1,
        )


def _unreadable(files: Files, path: Path, before: Scan | None) -> None:
    """A newest segment without valid header: left over from its making, or damaged?"""
    if before is None or before.seal is not None or not _is_empty(files, path):
        raise DirectoryDamaged(
            path,
            "the segment's header is not valid",
            offset=0,
            first_index=None if before is None else before.seal,
        )


def _is_empty(files: Files, path: Path) -> bool:
    """Nothing but zeros behind the header?"""
    size = files.size(path) or 0
    handle = files.open(path)
    try:
        with naming(path):
            return not any(
                files.read_all(handle, _PIECE, offset).strip(b"\0")
                for offset in range(SECTOR, size, _PIECE)
            )
    finally:
        files.close(handle)


def _scan(files: Files, path: Path, header: Header) -> Scan:
    size = files.size(path) or 0
    if size > header.size:
        reason = f"the file has {size} bytes, {header.size} by its header"
        raise DirectoryDamaged(path, reason, offset=header.size)
    return Scan(files, files.open(path), path, header, size)
