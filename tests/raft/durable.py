"""One node's disk, as a test sees it: what survives a crash, and nothing else.

`save` does what an update asks to be made durable, in the update's order; a crash in the middle is
a `save_partly`. `recovered` is what a new life starts from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from raftd import record
from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry, EntryType
from raftd.raft.state import HardState, Recovered, SnapshotMetadata
from raftd.raft.update import Update


def encode(index: int, term: int, entry_type: EntryType, payload: bytes) -> bytes:
    """The records of the tests: real ones, made at midnight of 1970."""
    return record.encode(index, term, entry_type, payload, 0)


def command(index: int, term: int, payload: bytes = b"") -> Entry:
    return Entry(index, term, EntryType.COMMAND, encode(index, term, EntryType.COMMAND, payload))


def log_of(log: Sequence[int | Entry], first_index: int = 1) -> list[Entry]:
    """Entries, or the terms of commands; each command says its index and term."""
    return [
        what if isinstance(what, Entry) else command(index, what, b"%d.%d" % (index, what))
        for index, what in enumerate(log, first_index)
    ]


def snapshot_of(entries: Iterable[Entry]) -> bytes:
    """The state machine of the tests remembers every entry: a snapshot is all their records."""
    return b"".join(entry.record for entry in entries)


def checksum_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def metadata_of(
    data: bytes, index: int, term: int, configuration: Configuration
) -> SnapshotMetadata:
    return SnapshotMetadata(index, term, configuration, len(data), checksum_of(data))


class Durable:
    """Entries from `base_index` + 1 on; `data` is the snapshot's bytes."""

    def __init__(self, configuration: Configuration) -> None:
        self.hard_state = HardState()
        self.snapshot = SnapshotMetadata(0, 0, configuration)
        self.data = b""
        self.base_index = 0
        self.entries: list[Entry] = []

    def fill(self, log: Sequence[int | Entry]) -> None:
        """What a node finds when it starts; the same index and term is the same command."""
        self.entries = log_of(log)
        self.hard_state = HardState(max((entry.term for entry in self.entries), default=0))

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    def entry(self, index: int) -> Entry | None:
        if self.base_index < index <= self.last_index:
            return self.entries[index - self.base_index - 1]
        return None

    def read(self, first: int, max_bytes: int) -> tuple[Entry, ...]:
        """Entries from `first` on, at least one if it is there."""
        found: list[Entry] = []
        size = 0
        for entry in self.entries[max(0, first - self.base_index - 1) :]:
            size += len(entry.record)
            if found and size > max_bytes:
                break
            found.append(entry)
        return tuple(found) if first > self.base_index else ()

    def save(self, update: Update, data: bytes) -> None:
        """All of it; `data` are the bytes of the snapshot the update installs, if it does."""
        self.save_partly(update, data, len(update.entries))

    def save_partly(self, update: Update, data: bytes, entries: int) -> None:
        """The hard state, then the snapshot, then the first `entries` entries: then it is dark."""
        if update.hard_state is not None:
            self.hard_state = update.hard_state
        if update.snapshot_to_install is not None:
            self._install(update.snapshot_to_install, data)
        for position, entry in enumerate(update.entries[:entries]):
            if position == 0:
                assert entry.index <= self.last_index + 1, "the log on disk has no gaps"
                del self.entries[entry.index - self.base_index - 1 :]
            assert entry.index == self.last_index + 1, "entries of an update are contiguous"
            self.entries.append(entry)

    def adopt(self, snapshot: SnapshotMetadata, data: bytes) -> None:
        """A snapshot made here."""
        self.snapshot, self.data = snapshot, data

    def compact(self, index: int) -> None:
        keep = [entry for entry in self.entries if entry.index > index]
        self.base_index = max(self.base_index, min(index, self.last_index))
        self.entries = keep

    def recovered(self, tail_bytes: int = 1 << 30) -> Recovered:
        """`tail_bytes` bounds the tail, as a node's memory would."""
        runs: list[tuple[int, int]] = []
        for entry in self.entries:
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
        tail: list[Entry] = []
        for entry in reversed(self.entries):
            tail_bytes -= len(entry.record)
            if tail_bytes < 0:
                break
            tail.insert(0, entry)
        return Recovered(
            self.hard_state,
            self.snapshot,
            self.last_index,
            tuple(runs),
            tuple(
                (entry.index, entry.configuration)
                for entry in self.entries
                if entry.configuration is not None
                and entry.index > self.snapshot.last_included_index
            ),
            tuple(tail),
        )

    def _install(self, snapshot: SnapshotMetadata, data: bytes) -> None:
        self.snapshot, self.data = snapshot, data
        known = self.entry(snapshot.last_included_index)
        if known is not None and known.term == snapshot.last_included_term:
            self.compact(snapshot.last_included_index)
        else:
            self.base_index = snapshot.last_included_index
            self.entries = []
