"""The state of Figure 2: what is persistent, and what a node starts from."""

from __future__ import annotations

import enum

import msgspec

from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry


class Role(enum.Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


LEADER = Role.LEADER
"""For what is asked all the time: an attribute of an enum costs 0.1 us with Python 3.11."""


class HardState(msgspec.Struct, frozen=True):
    """Persistent state of all servers besides the log (Figure 2); `voted_for` is a name."""

    current_term: int = 0
    voted_for: str | None = None


class SnapshotMetadata(msgspec.Struct, frozen=True):
    """What a snapshot replaces: the log up to and including `last_included_index`.

    Index 0 with the initial members stands for "no snapshot": the log then starts at index 1.
    `size` is in bytes, `checksum` the hex SHA-256 of the snapshot's bytes.
    """

    last_included_index: int
    last_included_term: int
    configuration: Configuration
    size: int = 0
    checksum: str = ""


class Recovered(msgspec.Struct, frozen=True):
    """What a node finds on its disk when it starts.

    `term_runs` lists (first index, term) for each run of equal terms, over the whole log above the
    snapshot. `configurations` lists (index, configuration) of each CONFIGURATION entry in it.
    `tail` holds the newest entries, contiguous, ending at `last_index`, as far as memory allows.
    """

    hard_state: HardState
    snapshot: SnapshotMetadata
    last_index: int
    term_runs: tuple[tuple[int, int], ...] = ()
    configurations: tuple[tuple[int, Configuration], ...] = ()
    tail: tuple[Entry, ...] = ()


class Settings(msgspec.Struct, frozen=True):
    """What the algorithm may be told. Times in seconds, sizes in bytes of encoded records.

    `max_uncommitted_bytes` bounds what a leader accepts and has not committed: beyond it, `Busy`.
    `tail_bytes` bounds the committed and saved entries that stay in memory for followers.
    """

    election_timeout: tuple[float, float] = (1.0, 2.0)
    heartbeat_interval: float = 0.1
    max_append_bytes: int = 1 << 20
    max_in_flight: int = 2
    max_uncommitted_bytes: int = 64 << 20
    tail_bytes: int = 16 << 20
    snapshot_chunk_bytes: int = 256 << 10
