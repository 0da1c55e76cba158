"""What nodes ask each other for their clients, and for people: all messages that are none of the
algorithm's (raftd.raft.messages). Each request has its tag with a question mark, its answer the
same with an exclamation mark.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from raftd.raft.changes import Change
from raftd.raft.configuration import Configuration
from raftd.raft.messages import Counter

# \Z, not $: a dollar sign lets a final newline through.
NAME = r"^[A-Za-z0-9._-]{1,63}\Z"
Name = Annotated[str, msgspec.Meta(pattern=NAME)]
MAX_FORWARDED = 512
"""Commands in one message to the leader; more are not read."""


class ForwardRequest(msgspec.Struct, frozen=True, tag="forward?"):
    """A follower hands clients' commands (encoded state_machine.Command) to the leader."""

    commands: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_FORWARDED)]
    timeout_ms: Counter


class Outcome(msgspec.Struct, frozen=True):
    """What became of one forwarded command. `unknown`: it may still be applied.
    `applied-elsewhere`: it is applied, and the answer has no room for the result, which the asker's
    own state machine has.
    """

    status: Literal[
        "applied", "applied-elsewhere", "no-quorum", "unknown", "busy", "too-large", "refused"
    ]
    index: Counter = 0
    term: Counter = 0
    result: bytes = b""
    reason: str = ""


class ForwardResponse(msgspec.Struct, frozen=True, tag="forward!"):
    """One outcome for each command, in the commands' order."""

    outcomes: Annotated[tuple[Outcome, ...], msgspec.Meta(max_length=MAX_FORWARDED)]


class ReadIndexRequest(msgspec.Struct, frozen=True, tag="read?"):
    """A follower asks the leader for a read index (thesis 6.4)."""

    timeout_ms: Counter


class ReadIndexResponse(msgspec.Struct, frozen=True, tag="read!"):
    """Reads are linearizable once `index` is applied; None: no index, and `reason` says why."""

    index: Counter | None
    reason: str = ""


class TransferRequest(msgspec.Struct, frozen=True, tag="transfer?"):
    """Hand leadership to `target`, or with None to the member that is best prepared."""

    target: Name | None
    timeout_ms: Counter


class TransferResponse(msgspec.Struct, frozen=True, tag="transfer!"):
    """The new leader's name; None: it did not happen, and `reason` says why."""

    leader: Name | None
    reason: str = ""


class ReportRequest(msgspec.Struct, frozen=True, tag="report?"):
    """What does this node know about itself?"""


class ReportResponse(msgspec.Struct, frozen=True, tag="report!"):
    """`report` is the msgpack of a driver.reports.NodeReport."""

    report: bytes


class FetchRequest(msgspec.Struct, frozen=True, tag="fetch?"):
    """A node whose state is not to be believed asks for the leader's: a piece of a snapshot.

    `checksum` empty: of a new one, which the leader takes now.
    """

    checksum: str
    offset: Counter
    size: Counter


class FetchResponse(msgspec.Struct, frozen=True, tag="fetch!"):
    """A piece of the snapshot with this metadata; None: there is none, and `reason` says why."""

    last_included_index: Counter | None
    last_included_term: Counter = 0
    configuration: Configuration | None = None
    size: Counter = 0
    checksum: str = ""
    data: bytes = b""
    reason: str = ""


class MembersRequest(msgspec.Struct, frozen=True, tag="members?"):
    """Change the members, or, with `dry_run`, say what that would mean."""

    change: Change
    dry_run: bool
    force: bool
    timeout_ms: Counter


class MembersResponse(msgspec.Struct, frozen=True, tag="members!"):
    """`report` is the msgpack of a driver.reports.ChangeReport; empty if there is none: then
    `failure` names a class of driver.errors, and `reason` says why."""

    report: bytes = b""
    failure: Literal["", "no-quorum", "unknown", "busy", "refused"] = ""
    reason: str = ""


class DrainRequest(msgspec.Struct, frozen=True, tag="drain?"):
    """Stay away from leadership, or, with `drained` False, do so no more."""

    drained: bool
    force: bool
    timeout_ms: Counter


class DrainResponse(msgspec.Struct, frozen=True, tag="drain!"):
    """`reason` says why it was not done; empty if it was."""

    reason: str = ""


class RefusedResponse(msgspec.Struct, frozen=True, tag="refused!"):
    """The recipient does not deal with this sender: another cluster, a wiped node, a stranger.

    `removed_at`, if it is not 0: the sender was a member, and is none any more in the configuration
    committed at that index.
    """

    reason: str
    removed_at: Counter = 0


ClientMessage = (
    ForwardRequest
    | ForwardResponse
    | ReadIndexRequest
    | ReadIndexResponse
    | TransferRequest
    | TransferResponse
    | ReportRequest
    | ReportResponse
    | FetchRequest
    | FetchResponse
    | MembersRequest
    | MembersResponse
    | DrainRequest
    | DrainResponse
    | RefusedResponse
)
