"""The leader's side of forwarded commands: each gets an outcome of its own, nothing is raised."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import trio

from raftd.client_messages import ForwardRequest, ForwardResponse, Outcome
from raftd.driver.applier import Applier
from raftd.driver.errors import Busy, CallFailed, NoQuorum, OutcomeUnknown, Refused, TooLarge
from raftd.driver.proposal import Proposal
from raftd.driver.results import LARGE
from raftd.raft import raft as algorithm
from raftd.raft.raft import NotLeader, Raft

_OVERHEAD = 100
"""Bytes of an outcome beside its result."""


class Forwarding:
    """`kick` makes the driver look at the algorithm's update."""

    def __init__(
        self,
        raft: Raft,
        applier: Applier,
        kick: Callable[[], None],
        *,
        entry_bytes: int,
        answer_bytes: int,
    ) -> None:
        """`entry_bytes`: the largest command; `answer_bytes`: all results of one answer."""
        self._raft = raft
        self._applier = applier
        self._kick = kick
        self._entry_bytes = entry_bytes
        self._answer_bytes = answer_bytes

    async def handle(self, request: ForwardRequest) -> ForwardResponse:
        if any(len(payload) > self._entry_bytes for payload in request.commands):
            reason = f"an entry may have {self._entry_bytes} bytes on the leader"
            return _all(request, Outcome("too-large", reason=reason))
        if self._raft.server.transfer is not None:
            return _all(request, Outcome("no-quorum", reason="leadership is being handed over"))
        now = trio.current_time()
        try:
            first, term = self._raft.propose(now, request.commands)
        except NotLeader as error:
            return _all(request, Outcome("no-quorum", reason=str(error)))
        except algorithm.Busy as error:
            return _all(request, Outcome("busy", reason=str(error)))
        self._kick()
        deadline = now + request.timeout_ms / 1000
        proposals = [Proposal(payload, deadline) for payload in request.commands]
        self._applier.expect(first, term, proposals)
        for proposal in proposals:
            if not proposal.is_done:
                with contextlib.suppress(NoQuorum, OutcomeUnknown):
                    await proposal
        return ForwardResponse(self._fitting([_outcome(proposal) for proposal in proposals]))

    def _fitting(self, outcomes: list[Outcome]) -> tuple[Outcome, ...]:
        """Without the large results that are too much for one message."""
        size = _OVERHEAD * len(outcomes)
        for number, outcome in enumerate(outcomes):
            size += len(outcome.result)
            if size > self._answer_bytes and len(outcome.result) > LARGE:
                size -= len(outcome.result)
                outcomes[number] = Outcome("applied-elsewhere", outcome.index, outcome.term)
        return tuple(outcomes)


def error_of(outcome: Outcome, size: int, entry_bytes: int) -> CallFailed:
    """What the caller of a command of `size` bytes is told that was not applied."""
    match outcome.status:
        case "unknown":
            return OutcomeUnknown(outcome.reason)
        case "busy":
            return Busy(outcome.reason)
        case "too-large":
            return TooLarge(size, entry_bytes)
        case _:
            return Refused(outcome.reason)


def _outcome(proposal: Proposal) -> Outcome:
    try:
        applied = proposal.result()
    except NoQuorum as error:
        return Outcome("no-quorum", reason=str(error))
    except OutcomeUnknown as error:
        return Outcome("unknown", reason=str(error))
    return Outcome("applied", applied.index, applied.term, applied.result)


def _all(request: ForwardRequest, outcome: Outcome) -> ForwardResponse:
    return ForwardResponse((outcome,) * len(request.commands))
