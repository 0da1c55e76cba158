"""The lines of a state trace, and how raftd's messages look in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from raftd.raft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    RequestVoteRequest,
    RequestVoteResponse,
)
from raftd.raft.state import Role

NOBODY = "0"
FOLLOWER, CANDIDATE, LEADER = "StateFollower", "StateCandidate", "StateLeader"
ROLES = {
    Role.FOLLOWER: FOLLOWER,
    Role.PRE_CANDIDATE: FOLLOWER,
    Role.CANDIDATE: CANDIDATE,
    Role.LEADER: LEADER,
}


class State(msgspec.Struct, frozen=True):
    """`vote` is NOBODY if there is none."""

    term: int = 0
    vote: str = NOBODY
    commit: int = 1


class TracedMessage(msgspec.Struct, frozen=True, rename="camel"):
    """Of type MsgVote, MsgVoteResp, MsgApp, MsgAppResp, MsgHeartbeat, MsgHeartbeatResp, MsgSnap.

    `entries`: how many; of a snapshot, its last index.
    """

    type: str
    term: int
    from_: str = msgspec.field(name="from")
    to: str
    entries: int = 0
    log_term: int = 0
    index: int = 0
    commit: int = 0
    vote: str = NOBODY
    reject: bool = False
    reject_hint: int = 0


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """`log` is the last index; `conf` the voters and, while joint, the outgoing ones."""

    name: str
    nid: str
    state: State
    role: str
    log: int
    conf: tuple[Sequence[str], Sequence[str]]
    msg: TracedMessage | None = None
    prop: Mapping[str, Any] | None = None


class Sink(Protocol):
    """Where events go. `durable` is the state in the last Ready of that node's earlier lives."""

    def write(self, event: Event) -> None: ...

    def durable(self, node: str) -> State | None: ...


def line(event: Event, nanoseconds: int) -> bytes:
    """As zap writes it, with the time first: the specification's scripts sort lines as text."""
    seconds, rest = divmod(nanoseconds, 10**9)
    start = f'{{"level":"debug","ts":{seconds}.{rest:09},"caller":"raftd","msg":"trace"'
    return b'%s,"tag":"trace","event":%s}\n' % (start.encode(), msgspec.json.encode(event))


def index_of(index: int) -> int:
    """As the specification counts: its entry 1 is the configuration of the first start."""
    return index + 1


def match_of(index: int) -> int:
    """Nothing matches before anything was said."""
    return index + 1 if index else 0


def term_of(index: int, term: int) -> int:
    """Of the entry at raftd's `index`."""
    return term if index else 1


def voted(sender: str, to: str, response: RequestVoteResponse) -> TracedMessage:
    rejected = not response.vote_granted
    return TracedMessage("MsgVoteResp", response.term, from_=sender, to=to, reject=rejected)


def snapshot(sender: str, to: str, request: InstallSnapshotRequest) -> TracedMessage:
    last = index_of(request.last_included_index)
    return TracedMessage("MsgSnap", request.term, from_=sender, to=to, entries=last)


def installed(sender: str, to: str, response: InstallSnapshotResponse) -> TracedMessage:
    index = index_of(response.last_included_index)
    return TracedMessage("MsgAppResp", response.term, from_=sender, to=to, index=index)


def append(sender: str, to: str, request: AppendEntriesRequest) -> TracedMessage:
    last = request.prev_log_index + len(request.entries)
    commit = min(request.leader_commit, last)
    if not request.entries:
        # In the specification a heartbeat stands behind no entry, and what it says is committed
        # never exceeds what the follower is known to have.
        beat = index_of(commit) if request.prev_log_index else 0
        return TracedMessage("MsgHeartbeat", request.term, from_=sender, to=to, commit=beat)
    return TracedMessage(
        "MsgApp",
        request.term,
        from_=sender,
        to=to,
        entries=len(request.entries),
        index=index_of(request.prev_log_index),
        log_term=term_of(request.prev_log_index, request.prev_log_term),
        commit=index_of(commit),
    )


def appended(
    sender: str, to: str, response: AppendEntriesResponse, *, heartbeat: bool
) -> TracedMessage:
    if heartbeat and response.success:
        return TracedMessage("MsgHeartbeatResp", response.term, from_=sender, to=to)
    return TracedMessage(
        "MsgAppResp",
        response.term,
        from_=sender,
        to=to,
        index=index_of(response.match_index) if response.success else 0,
        log_term=response.conflict_term,
        reject=not response.success,
        reject_hint=0 if response.success else index_of(response.conflict_index),
    )


def vote_asked(sender: str, to: str, request: RequestVoteRequest) -> TracedMessage:
    return TracedMessage(
        "MsgVote",
        request.term,
        from_=sender,
        to=to,
        index=index_of(request.last_log_index),
        log_term=term_of(request.last_log_index, request.last_log_term),
    )
