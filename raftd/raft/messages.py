"""The RPCs between peers, with the paper's names (Figure 2, Figure 13; thesis 3.10 and 9.6).

Sender and recipient belong to the envelope that carries a message, not to the message. Every
request has a `request_id`, unique within one life of its sender, and is answered by exactly one
response with the same id. Integers are bounded: a term or index outside [0, 2**63) never
gets past the decoder.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry

Counter = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class RequestVoteRequest(msgspec.Struct, frozen=True, tag="vote?"):
    """Paper 5.2, 5.4. With `pre_vote` it asks "would you?" and binds nobody (thesis 9.6)."""

    term: Counter
    last_log_index: Counter
    last_log_term: Counter
    request_id: Counter
    pre_vote: bool = False
    leadership_transfer: bool = False


class RequestVoteResponse(msgspec.Struct, frozen=True, tag="vote!"):
    term: Counter
    vote_granted: bool
    request_id: Counter
    pre_vote: bool = False


class AppendEntriesRequest(
    msgspec.Struct, frozen=True, tag="append?", omit_defaults=True, gc=False
):
    """Paper 5.3; without entries it is a heartbeat. Between nodes the entries stand by themselves
    (raftd/codec.py)."""

    term: Counter
    prev_log_index: Counter
    prev_log_term: Counter
    leader_commit: Counter
    request_id: Counter
    entries: tuple[Entry, ...] = ()


class AppendEntriesResponse(msgspec.Struct, frozen=True, tag="append!"):
    """`success`: the log agrees with the leader's up to `match_index`, durably.

    Else `match_index` is 0, and `conflict_index`/`conflict_term` say where the logs may still
    agree: the largest index below the request's prev_log_index, and the term there, that is worth
    trying (paper 5.3, end). `conflict_index` never exceeds the follower's last log index.
    """

    term: Counter
    success: bool
    request_id: Counter
    match_index: Counter = 0
    conflict_index: Counter = 0
    conflict_term: Counter = 0


class InstallSnapshotRequest(msgspec.Struct, frozen=True, tag="snapshot?"):
    """One chunk of a snapshot (paper section 7, Figure 13).

    The algorithm makes it with `data` empty; the driver fills in the chunk at `offset`.
    `size` is the whole snapshot in bytes, `checksum` the hex SHA-256 of the whole.
    """

    term: Counter
    last_included_index: Counter
    last_included_term: Counter
    configuration: Configuration
    offset: Counter
    request_id: Counter
    size: Counter = 0
    checksum: str = ""
    data: bytes = b""
    done: bool = False


class InstallSnapshotResponse(msgspec.Struct, frozen=True, tag="snapshot!"):
    """`next_offset`: bytes the follower holds, where the next chunk starts; `installed`: done."""

    term: Counter
    last_included_index: Counter
    next_offset: Counter
    request_id: Counter
    installed: bool = False


class TimeoutNowRequest(msgspec.Struct, frozen=True, tag="timeout-now?"):
    """Thesis 3.10: stand for election at once; the leader hands over."""

    term: Counter
    request_id: Counter


class TimeoutNowResponse(msgspec.Struct, frozen=True, tag="timeout-now!"):
    term: Counter
    request_id: Counter


Request = RequestVoteRequest | AppendEntriesRequest | InstallSnapshotRequest | TimeoutNowRequest
Response = (
    RequestVoteResponse | AppendEntriesResponse | InstallSnapshotResponse | TimeoutNowResponse
)
Message = Request | Response
