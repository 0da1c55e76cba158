"""The one way out of the algorithm: what has changed since the last look, in order of the work."""

from __future__ import annotations

import msgspec

from raftd.raft.log import Entry
from raftd.raft.messages import InstallSnapshotRequest, Message
from raftd.raft.state import HardState, SnapshotMetadata


class Note(msgspec.Struct, frozen=True):
    """What happened, in plain words. `level`: error = somebody must act, warning, info = roles and
    membership, debug. `event`: its kind, for those that an operator may wait for; `peer`: the other
    server it speaks of."""

    level: str
    text: str
    event: str = ""
    peer: str = ""


class Outgoing(msgspec.Struct, frozen=True):
    to: str
    message: Message


class EntriesWanted(msgspec.Struct, frozen=True):
    """A follower is behind the log's tail in memory: read these from disk, call `entries_read`."""

    peer: str
    first_index: int
    max_bytes: int


class SnapshotChunk(msgspec.Struct, frozen=True):
    """A chunk has come from the leader: write it at its offset, call `chunk_written`."""

    sender: str
    request: InstallSnapshotRequest


class ReadReady(msgspec.Struct, frozen=True):
    """A read may be answered once `index` is applied; with None, leadership was lost: ask again."""

    ticket: int
    index: int | None


class Update(msgspec.Struct, frozen=True):
    """The fields stand in the order of the work.

    1. `messages` may leave at once, while the save is under way (thesis 10.2.1).
    2. `hard_state`, then `snapshot_to_install`, then `entries`, are to be made durable. A snapshot
       replaces log and state; `entries` are contiguous, and the first of them replaces everything
       saved at and after its index.
    3. `messages_after_save` leave when this and every earlier update is durable.
    4. Entries up to `commit_index` are committed **and** saved here: apply them.
    5. `reads` may be answered, each once its index is applied.
    6. `entries_wanted`: to be read from disk for a follower; `snapshot_chunks`: to be written.
    7. `deadline`: monotonic seconds at which to call `timed_out`.

    `truncations` is for `persisted`: entries that were truncated since are durable for nothing.
    """

    messages: tuple[Outgoing, ...]
    hard_state: HardState | None
    snapshot_to_install: SnapshotMetadata | None
    entries: tuple[Entry, ...]
    messages_after_save: tuple[Outgoing, ...]
    commit_index: int
    reads: tuple[ReadReady, ...]
    entries_wanted: tuple[EntriesWanted, ...]
    snapshot_chunks: tuple[SnapshotChunk, ...]
    deadline: float
    notes: tuple[Note, ...]
    truncations: int

    @property
    def needs_save(self) -> bool:
        return (
            self.hard_state is not None
            or self.snapshot_to_install is not None
            or bool(self.entries)
        )
