"""The order law: a message that leaves speaks only of what its sender's disk holds.

Paper 5.1 and Figure 2: persistent state is "updated on stable storage before responding to RPCs".
The one exception is a leader's AppendEntries, which may leave while its entries are being
written (thesis 10.2.1); its term, though, must be durable.
"""

from __future__ import annotations

from typing import Protocol, TypeGuard, assert_never

from raftd.raft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    Message,
    Request,
    RequestVoteRequest,
    RequestVoteResponse,
    TimeoutNowRequest,
    TimeoutNowResponse,
)
from raftd.raft.state import HardState, SnapshotMetadata
from raftd.raft.update import Outgoing


class OnDisk(Protocol):
    """What a crash does not take."""

    @property
    def hard_state(self) -> HardState: ...

    @property
    def snapshot(self) -> SnapshotMetadata: ...

    @property
    def last_index(self) -> int: ...


def is_request(message: Message) -> TypeGuard[Request]:
    return isinstance(
        message,
        RequestVoteRequest | AppendEntriesRequest | InstallSnapshotRequest | TimeoutNowRequest,
    )


def check_durable(sender: str, out: Outgoing, durable: OnDisk, *, campaigns: bool) -> None:
    """`durable` is the sender's disk at the moment the message leaves; `campaigns`: it is still the
    candidate that asked for votes.

    What speaks of an older term than the one on disk says what was true in that term; many calls
    may share one save, and nobody can be elected, or commit, by it against the newer one.
    """
    term = durable.hard_state.current_term
    message = out.message
    match message:
        case RequestVoteRequest() if message.pre_vote:
            good = message.term - 1 <= term
        case RequestVoteRequest():
            good = message.term < term or (
                durable.hard_state == HardState(message.term, sender)
                and (message.last_log_index <= durable.last_index or not campaigns)
            )
        case RequestVoteResponse() if message.pre_vote and message.vote_granted:
            good = True  # it binds nobody
        case RequestVoteResponse() if message.vote_granted:
            good = message.term < term or durable.hard_state == HardState(message.term, out.to)
        case AppendEntriesResponse() if message.success:
            good = message.term < term or (
                message.term == term and message.match_index <= durable.last_index
            )
        case InstallSnapshotResponse() if message.installed:
            held = max(durable.snapshot.last_included_index, durable.last_index)
            good = message.term < term or (
                message.term == term and message.last_included_index <= held
            )
        case InstallSnapshotRequest():
            snapshot = durable.snapshot.last_included_index
            good = message.term <= term and message.last_included_index <= snapshot
        case (
            RequestVoteResponse()
            | AppendEntriesRequest()
            | AppendEntriesResponse()
            | InstallSnapshotResponse()
            | TimeoutNowRequest()
            | TimeoutNowResponse()
        ):
            good = message.term <= term
        case _:
            assert_never(message)
    assert good, (
        f"{sender} sends {out.to} {message}, but its disk has {durable.hard_state},"
        f" entries up to {durable.last_index},"
        f" a snapshot up to {durable.snapshot.last_included_index}"
    )
