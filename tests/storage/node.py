"""One node's directory as the tests use it: how it is opened, what is written, what is in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from raftd import record
from raftd.raft import configuration
from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry, EntryType
from raftd.raft.state import HardState, SnapshotMetadata
from raftd.storage.disk import Disk, PeerIdentity
from raftd.storage.files import REAL_FILES, Files
from raftd.storage.opening import LastApplied
from tests.storage.simulation import DATA

INITIAL = Configuration(("a", "b", "c"), addresses={"a": "x://1", "b": "x://2", "c": "x://3"})
CLUSTER = bytes(range(16))
SEGMENT = 4096


def open_disk(
    files: Files = REAL_FILES,
    path: Path = DATA,
    *,
    name: str = "a",
    tail_bytes: int = 1 << 30,
    segment_bytes: int = SEGMENT,
    last_applied: LastApplied = lambda _: 0,
) -> Disk:
    return Disk.open(
        path,
        name=name,
        cluster_id=CLUSTER,
        initial=INITIAL,
        segment_bytes=segment_bytes,
        tail_bytes=tail_bytes,
        last_applied=last_applied,
        files=files,
    )


def entry(index: int, term: int = 1, payload: bytes | int = 100) -> Entry:
    """A command; `payload` may be a size, the bytes then tell the entry."""
    if isinstance(payload, int):
        payload = f"{index}.{term};".encode().ljust(payload, b"x")[:payload]
    return record.decode(record.encode(index, term, EntryType.COMMAND, payload, 1000 + index))


def configuration_entry(index: int, term: int, members: Configuration) -> Entry:
    payload = configuration.encode(members)
    return record.decode(record.encode(index, term, EntryType.CONFIGURATION, payload, 1))


def entries(first: int, last: int, term: int = 1, payload: int = 100) -> list[Entry]:
    return [entry(index, term, payload) for index in range(first, last + 1)]


def metadata(index: int, term: int = 1) -> SnapshotMetadata:
    return SnapshotMetadata(index, term, INITIAL)


class View(msgspec.Struct, frozen=True):
    """What a node knows by its disk. `log`: the records above the snapshot."""

    hard_state: HardState = HardState()
    log: tuple[bytes, ...] = ()
    snapshot_index: int = 0
    snapshot_term: int = 0
    snapshot_bytes: bytes = b""
    peers: tuple[tuple[str, PeerIdentity], ...] = ()


def view(disk: Disk) -> View:
    """All that `disk` recovered, read by every way there is, which must agree."""
    recovered = disk.recovered
    snapshot = recovered.snapshot
    end = snapshot.last_included_index
    log = tuple(found.record for found in recovered.tail)
    assert [found.index for found in recovered.tail] == list(range(end + 1, disk.last_index + 1))
    assert recovered.last_index == disk.last_index
    if log:
        read = disk.read(end + 1, disk.last_index, 1 << 30)
        assert tuple(found.record for found in read) == log
    assert disk.first_index <= end + 1
    assert recovered.term_runs == runs(recovered.tail)
    assert disk.snapshot == snapshot
    return View(
        recovered.hard_state,
        log,
        end,
        snapshot.last_included_term,
        disk.read_snapshot(0, snapshot.size),
        tuple(sorted(disk.known_peers.items())),
    )


def runs(found: Iterable[Entry]) -> tuple[tuple[int, int], ...]:
    """(first index, term) of each run of equal terms."""
    result: list[tuple[int, int]] = []
    for each in found:
        if not result or result[-1][1] != each.term:
            result.append((each.index, each.term))
    return tuple(result)


def saved(before: View, hard_state: HardState | None, new: Iterable[Entry]) -> tuple[View, View]:
    """What is to be there when the hard state, and when the entries too, are saved."""
    after = before
    if hard_state is not None:
        after = msgspec.structs.replace(before, hard_state=hard_state)
    new = list(new)
    log = after.log
    if new:
        log = log[: new[0].index - after.snapshot_index - 1] + tuple(each.record for each in new)
    return after, msgspec.structs.replace(after, log=log)


def snapshotted(before: View, index: int, term: int, data: bytes) -> View:
    """What is to be there when a snapshot has been adopted or installed."""
    if index <= before.snapshot_index:
        return before
    place = index - before.snapshot_index - 1
    log: tuple[bytes, ...] = ()
    if place < len(before.log) and record.decode(before.log[place]).term == term:
        log = before.log[place + 1 :]
    return View(before.hard_state, log, index, term, data, before.peers)
