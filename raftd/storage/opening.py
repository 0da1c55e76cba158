"""How a data directory is opened: read all, check all, only then change something.

The order of the changes matters. Names and snapshots that were read are made durable before the
log forgets what they replace; everything is settled before a new life begins, and that is durable
before anybody hears of it. Each step can be done twice, so a crash in between costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from raftd.raft.state import Recovered, SnapshotMetadata
from raftd.storage.directory import (
    Directory,
    Identity,
    NodeDocument,
    PeerIdentity,
    Standing,
    next_incarnation,
)
from raftd.storage.errors import DirectoryDamaged, DirectoryMismatch
from raftd.storage.files import Files
from raftd.storage.hard_state import HardStateFile
from raftd.storage.recovery import Recovery, recover
from raftd.storage.snapshots import Snapshots
from raftd.storage.wal import Wal

START_TAIL_BYTES = 1 << 20
"""What a start reads of the log's tail at most: it fills by itself, and who lags behind is rare."""
LastApplied = Callable[[bool], int]
"""See `Disk.open`."""


class Opened(msgspec.Struct):
    """A directory in a new life, all parts of it ready."""

    directory: Directory
    document: NodeDocument
    peers: dict[str, PeerIdentity]
    standing: Standing
    hard_state: HardStateFile
    snapshots: Snapshots
    wal: Wal
    recovered: Recovered
    notes: list[str]
    was_clean: bool
    same_boot: bool


def open_directory(
    files: Files,
    directory: Directory,
    new: NodeDocument,
    segment_bytes: int,
    tail_bytes: int,
    last_applied: LastApplied,
) -> Opened:
    """Begin a new life of the node in a locked directory; `new` is what a fresh one begins with.

    Raises what Disk.open does; then nothing is open but the directory.
    """
    notes: list[str] = []
    document = directory.load(new.identity.name)
    if document is None:
        document = new
        directory.create(new)
        HardStateFile.create(files, directory.hard_state)
        Wal.create(files, directory.wal, new.identity.cluster_id, segment_bytes)
        notes.append(f"made a new data directory {directory.path} for {new.identity.name}")
    if document.lost is not None:
        raise DirectoryMismatch(
            directory.path,
            f"a repair has taken entries {document.lost[0]} to {document.lost[1]} away, so this"
            " node cannot keep what it promised to its cluster; replace it by a fresh one, or, if"
            " no majority is left, go on with `raftd recover`",
        )
    with ExitStack() as opened:
        peers, standing = directory.load_peers(), directory.load_standing()
        hard_state = HardStateFile(files, directory.hard_state)
        opened.callback(hard_state.close)
        snapshots = Snapshots(files, directory.snapshots)
        newest = snapshots.newest or no_snapshot(document)
        recovery = recover(files, directory.wal, document.identity.cluster_id, newest)
        check_together(directory, document, hard_state, recovery)
        was_clean = document.closed is not None
        same_boot = bool(document.boot_id) and document.boot_id == files.boot_id()
        applied = last_applied(was_clean or same_boot)
        check_applied(recovery, newest.last_included_index, applied)

        directory.settle()
        notes += snapshots.settle()
        if hard_state.had_invalid_slot:
            notes.append(f"one slot of {directory.hard_state} was not valid; it is written anew")
        hard_state.settle()
        recovery.repair(files)
        wal = Wal(files, recovery, segment_bytes)
        opened.callback(wal.close)
        if recovery.restart_at is not None:
            wal.finish_restart(wal.prepare_restart(recovery.restart_at))
            recovery.log.configurations.clear()
        recovered = _recovered(hard_state, newest, wal, recovery, tail_bytes)
        begun = _next_life(files, document)
        directory.store(begun)
        opened.pop_all()
    return Opened(
        directory,
        begun,
        peers,
        standing,
        hard_state,
        snapshots,
        wal,
        recovered,
        notes + recovery.notes,
        was_clean=was_clean,
        same_boot=same_boot,
    )


def no_snapshot(document: NodeDocument) -> SnapshotMetadata:
    """What stands for the snapshot while there is none."""
    return SnapshotMetadata(0, 0, document.initial)


def check_together(
    directory: Directory, document: NodeDocument, hard_state: HardStateFile, recovery: Recovery
) -> None:
    """What each file by itself cannot tell: that it is as new as the others."""
    log, state = recovery.log.index, hard_state.value
    if log.last_term > state.current_term:
        raise DirectoryDamaged(
            directory.hard_state,
            f"term {state.current_term} stands there, but the log has entries of {log.last_term}",
        )
    closed = document.closed
    if closed is None:
        return
    if closed.hard_state != state:
        raise DirectoryDamaged(
            directory.hard_state,
            f"it was closed in term {closed.hard_state.current_term} and is in term"
            f" {state.current_term} now, or has another vote",
        )
    if closed.last_index != log.last_index or recovery.torn:
        last = recovery.segments[-1]
        raise DirectoryDamaged(
            last.path,
            f"the log was closed at index {closed.last_index} and ends at {log.last_index} now",
            offset=last.used,
            first_index=min(closed.last_index, log.last_index) + 1,
        )


def check_applied(recovery: Recovery, snapshot_index: int, applied: int) -> None:
    """Only saved entries are applied: a log that ends before has lost some, whatever it looks
    like."""
    last_index = max(recovery.log.index.last_index, snapshot_index)
    if applied > last_index:
        last = recovery.segments[-1]
        raise DirectoryDamaged(
            last.path,
            f"the log ends at entry {last_index}, but entries up to {applied} were applied",
            offset=last.used,
            first_index=last_index + 1,
            last_index=applied,
        )


def _recovered(
    hard_state: HardStateFile,
    snapshot: SnapshotMetadata,
    wal: Wal,
    recovery: Recovery,
    tail_bytes: int,
) -> Recovered:
    above = snapshot.last_included_index + 1
    return Recovered(
        hard_state.value,
        snapshot,
        wal.last_index,
        wal.term_runs(above),
        tuple(found for found in recovery.log.configurations if found[0] >= above),
        wal.tail(above, min(tail_bytes, START_TAIL_BYTES)),
    )


def _next_life(files: Files, document: NodeDocument) -> NodeDocument:
    last = document.identity
    incarnation = next_incarnation(last.incarnation, files)
    identity = Identity(last.name, last.node_id, last.cluster_id, incarnation)
    return NodeDocument(identity, document.initial, files.boot_id(), format=document.format)
