"""The leader's side of forwarded commands: each gets an outcome of its own, nothing is raised."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from raftd.client_messages import ForwardRequest, ForwardResponse, Outcome
from raftd.driver.applier import Applier
from raftd.driver.errors import Busy, CallFailed, NoQuorum, OutcomeUnknown, Refused, TooLarge
from raftd.driver.proposal import Applied, Proposal
from raftd.driver.results import LARGE
from raftd.promise import Promise
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
        answer = _Answer(len(request.commands), self._answer_bytes)
        self._applier.expect(
            first,
            term,
            (
                answer.proposal(number, each, deadline)
                for number, each in enumerate(request.commands)
            ),
        )
        return await answer.complete


class _Answer:
    """Grows outcome by outcome. Large results that are too much for one message are let go at once:
    all of them together might be too much for the memory, too."""

    def __init__(self, count: int, room: int) -> None:
        self.complete: Promise[ForwardResponse] = Promise()
        self._outcomes = [Outcome("unknown")] * count
        self._missing = count
        self._room = room - _OVERHEAD * count

    def proposal(self, number: int, payload: bytes, deadline: float) -> Proposal:
        proposal = Proposal(payload, deadline)
        proposal.when_done(partial(self._add, number))
        return proposal

    def _add(self, number: int, proposal: Promise[Applied]) -> None:
        outcome = _outcome(proposal)
        size = len(outcome.result)
        if size > max(self._room, LARGE):
            outcome = Outcome("applied-elsewhere", outcome.index, outcome.term)
        else:
            self._room -= size
        self._outcomes[number] = outcome
        self._missing -= 1
        if not self._missing:
            self.complete.set(ForwardResponse(tuple(self._outcomes)))


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


def _outcome(proposal: Promise[Applied]) -> Outcome:
    error = proposal.error
    if isinstance(error, NoQuorum):
        return Outcome("no-quorum", reason=str(error))
    if error is not None:
        return Outcome("unknown", reason=str(error))
    applied = proposal.result()
    return Outcome("applied", applied.index, applied.term, applied.result)


def _all(request: ForwardRequest, outcome: Outcome) -> ForwardResponse:
    return ForwardResponse((outcome,) * len(request.commands))
