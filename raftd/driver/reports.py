"""What a node tells about itself and the cluster: the shapes behind `raftctl status` and `log`."""

from __future__ import annotations

import msgspec


class PeerReport(msgspec.Struct, frozen=True):
    """A leader's view of one follower. Ages in milliseconds; `refused` says why we refuse it."""

    name: str
    match_index: int
    last_contact_ms: int | None
    refused: str | None = None


class NodeReport(msgspec.Struct, frozen=True):
    """One node about itself."""

    name: str
    version: str
    role: str
    term: int
    leader: str | None
    leader_since_ms: int | None
    """Unix milliseconds at which this node first knew the present leader of this term."""
    first_index: int
    last_index: int
    commit_index: int
    applied_index: int
    snapshot_index: int
    disk_used_bytes: int
    uptime_ms: int
    has_quorum: bool
    """Leaders: a majority answered within the last election timeout, and the disk takes writes."""
    problem: str | None = None
    """What is wrong on this node, in words: disk full, refused by its peers, ..."""
    peers: tuple[PeerReport, ...] = ()
    """Leaders only."""
    supports: int = 0
    """The feature level (raftd.features) that this node could use, and what the cluster uses:"""
    feature_level: int = 0
    check_index: int = 0
    """The last check of the state that was applied, and the state's hash in front of it."""
    check_hash: int = 0
    drained: bool = False
    priority: int = 1


class MemberStatus(msgspec.Struct, frozen=True):
    """One member of the cluster as the asked node sees it, everything known put together."""

    name: str
    address: str
    voter: bool
    role: str
    """leader, follower, candidate, pre-candidate, learner, removed, or unknown when it does not
    answer"""
    reachable: bool
    last_contact_ms: int | None = None
    match_index: int | None = None
    behind: int | None = None
    """entries between this member's durable log and the leader's last index"""
    term: int | None = None
    first_index: int | None = None
    last_index: int | None = None
    commit_index: int | None = None
    applied_index: int | None = None
    snapshot_index: int | None = None
    disk_used_bytes: int | None = None
    uptime_ms: int | None = None
    version: str | None = None
    problem: str | None = None
    membership: str = "voter"
    """voter; learner; joining: a learner that becomes a voter when it has caught up; leaving: a
    voter of the older half of a joint configuration alone"""
    drained: bool | None = None
    priority: int | None = None


class ClusterStatus(msgspec.Struct, frozen=True):
    """The answer to: can it write now, who leads since when, how many may fail, who must stay?"""

    node: str
    """who was asked"""
    cluster_id: str
    role: str
    term: int
    leader: str | None
    leader_since_ms: int | None
    writable: bool
    reason: str | None
    """why it is not writable"""
    voters: int
    quorum: int
    failures_tolerated: int
    """how many more voters may fail before the cluster stops; 0 when it is not writable"""
    must_not_stop: tuple[str, ...]
    """members whose stop would take the quorum away"""
    members: tuple[MemberStatus, ...]
    joint: bool = False
    """the voters are just being changed: two majorities are needed"""
    removed: bool = False
    """the asked node is no member any more"""


class QuorumReport(msgspec.Struct, frozen=True):
    """One side of a change of the members."""

    voters: tuple[str, ...]
    learners: tuple[str, ...]
    quorum: int
    tolerates: int
    """failures that are survived when all voters are well"""
    answering: tuple[str, ...]
    """voters that answer now, or, of a change, that would"""
    may_fail: int
    """how many of those may fail"""


class ChangeReport(msgspec.Struct, frozen=True):
    """What a change of the members means, or has meant."""

    before: QuorumReport
    after: QuorumReport
    refused: str | None = None
    """why it was not done; with `forcible` an operator may insist"""
    forcible: bool = False
    warnings: tuple[str, ...] = ()
    index: int | None = None
    """of the entry that began it; None: nothing was done"""
    join: str = ""
    """what the new host's configuration file has to say, if there is a new host"""
    addresses: dict[str, str] = {}
    """of the members now"""


class LogEntry(msgspec.Struct, frozen=True):
    """One entry for people. `state`: uncommitted, committed, applied, or truncated."""

    index: int
    term: int
    time_ms: int
    kind: str
    """no-op, command, configuration"""
    uid: int | None
    node: str | None
    what: str
    size: int
    """bytes of the encoded record"""
    state: str


class SegmentInfo(msgspec.Struct, frozen=True):
    """One file of the log. Indexes are None while it holds no live entry."""

    file: str
    first_index: int | None
    last_index: int | None
    first_term: int | None
    last_term: int | None
    used_bytes: int
    size_bytes: int


class SnapshotInfo(msgspec.Struct, frozen=True):
    """A snapshot, with what a backup of it says (raftd.backup)."""

    cluster_id: str
    last_included_index: int
    last_included_term: int
    members: dict[str, str]
    node: str
    version: str
    time_ms: int
    size: int
    sha256: str


class LogInfo(msgspec.Struct, frozen=True):
    first_index: int
    last_index: int
    last_term: int
    commit_index: int
    applied_index: int
    snapshot_index: int
    snapshot_term: int
    used_bytes: int
    size_bytes: int
    segments: tuple[SegmentInfo, ...]
