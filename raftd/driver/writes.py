"""Clients' commands on their way into the log: here if this node leads, else to the leader.

A command is never sent twice unless it is certain that the first time had no effect: what may have
reached a log ends as applied, as certainly not done, or as `OutcomeUnknown`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import trio

from raftd.codec import ForwardRequest, ForwardResponse, Outcome
from raftd.driver.applier import Applied, Applier
from raftd.driver.errors import Busy, CallFailed, NoQuorum, OutcomeUnknown, Refused, TooLarge
from raftd.driver.peers import PeerRefused, Peers
from raftd.driver.waiting import Promise, Signal
from raftd.raft import raft as algorithm
from raftd.raft.raft import NotLeader, Raft
from raftd.raft.state import Role
from raftd.state_machine import Command, encode_command
from raftd.transport.transport import Unreachable

MAX_FORWARDED = 512
"""Commands in one message to the leader."""
FORWARDS_IN_FLIGHT = 4


class _Forwarded:
    __slots__ = ("deadline", "payload", "promise")

    def __init__(self, payload: bytes, deadline: float) -> None:
        self.payload = payload
        self.deadline = deadline
        self.promise: Promise[Outcome] = Promise()


class Writes:
    """`kick` makes the driver look at the algorithm's update; `changed` fires when roles change."""

    def __init__(
        self,
        raft: Raft,
        applier: Applier,
        peers: Peers,
        kick: Callable[[], None],
        changed: Signal,
        *,
        entry_bytes: int,
        forward_bytes: int,
        queue_bytes: int,
    ) -> None:
        """`entry_bytes`: the largest command; `forward_bytes`: one message to the leader;
        `queue_bytes`: all that may wait to be sent there."""
        self._raft = raft
        self._applier = applier
        self._peers = peers
        self._kick = kick
        self._changed = changed
        self._entry_bytes = entry_bytes
        self._forward_bytes = forward_bytes
        self._queue_bytes = queue_bytes
        self._queue: list[_Forwarded] = []
        self._queued_bytes = 0
        self._wake = Signal()

    async def propose(self, body: bytes, *, uid: int, timeout: float) -> Applied:
        """Carry a command to the state machine. Raises TooLarge, Busy, NoQuorum, OutcomeUnknown."""
        payload = encode_command(Command(uid, self._raft.server.name, body))
        if len(payload) > self._entry_bytes:
            raise TooLarge(len(payload), self._entry_bytes)
        deadline = trio.current_time() + timeout
        while True:
            server = self._raft.server
            if server.role is Role.LEADER and server.transfer is None:
                return await self._propose_here(payload, deadline)
            if server.leader not in {None, server.name}:
                outcome = await self._forward(payload, deadline)
                if outcome.status == "applied":
                    return Applied(outcome.index, outcome.term, outcome.result)
                if outcome.status != "no-quorum":
                    raise _error(outcome, self._entry_bytes)
                if server.leader is not None and server.role is not Role.LEADER:
                    await trio.sleep(min(0.05, max(0.0, deadline - trio.current_time())))
            else:
                with trio.move_on_at(deadline):
                    await self._changed.wait()
            if trio.current_time() >= deadline:
                raise NoQuorum(_no_leader(self._raft.server.leader))

    async def _propose_here(self, payload: bytes, deadline: float) -> Applied:
        try:
            index, term = self._raft.propose(trio.current_time(), [payload])
        except algorithm.Busy as error:
            raise Busy(f"{error}; try again a little later") from error
        self._kick()
        promise = self._applier.expect(index, term)
        try:
            with trio.move_on_at(deadline):
                return await promise.wait()
        finally:
            self._applier.forget(index, promise)
        raise OutcomeUnknown(
            f"entry {index} was not committed in time: no majority, or a slow one."
            " It may still be done"
        )

    # ---- the follower's side

    async def _forward(self, payload: bytes, deadline: float) -> Outcome:
        if self._queued_bytes > self._queue_bytes:
            raise Busy(f"{self._queued_bytes} bytes wait to be sent to the leader; try again later")
        item = _Forwarded(payload, deadline)
        self._queue.append(item)
        self._queued_bytes += len(payload)
        self._wake.fire()
        with trio.move_on_at(deadline):
            return await item.promise.wait()
        if item in self._queue:
            return Outcome("no-quorum", reason="the leader could not be reached in time")
        return Outcome("unknown", reason="the leader has not answered in time")

    async def run(self) -> None:
        """Send what is queued to the leader, in batches."""
        slots = trio.CapacityLimiter(FORWARDS_IN_FLIGHT)
        async with trio.open_nursery() as nursery:
            while True:
                while not self._queue:
                    await self._wake.wait()
                batch_owner = object()
                await slots.acquire_on_behalf_of(batch_owner)
                batch = self._take()
                nursery.start_soon(self._send, batch, slots, batch_owner)

    def _take(self) -> list[_Forwarded]:
        batch: list[_Forwarded] = []
        size = 0
        for item in self._queue[:MAX_FORWARDED]:
            if batch and size + len(item.payload) > self._forward_bytes:
                break
            size += len(item.payload)
            batch.append(item)
        del self._queue[: len(batch)]
        self._queued_bytes -= size
        return [item for item in batch if not item.promise.abandoned]

    async def _send(
        self, batch: list[_Forwarded], slots: trio.CapacityLimiter, owner: object
    ) -> None:
        try:
            outcomes = await self._ask_leader(batch)
        finally:
            slots.release_on_behalf_of(owner)
        for item, outcome in zip(batch, outcomes, strict=True):
            item.promise.set(outcome)

    async def _ask_leader(self, batch: list[_Forwarded]) -> list[Outcome]:
        leader = self._raft.server.leader
        if leader in {None, self._raft.server.name} or not batch:
            return [Outcome("no-quorum", reason="the leader has changed") for _ in batch]
        assert leader is not None
        timeout = max(0.001, max(item.deadline for item in batch) - trio.current_time())
        request = ForwardRequest(tuple(item.payload for item in batch), int(timeout * 1000))
        try:
            response = await self._peers.call(leader, request, timeout)
        except PeerRefused as error:
            return [Outcome("refused", reason=str(error)) for _ in batch]
        except Unreachable as error:
            reason = f"{leader}, the leader, gave no answer: {error}"
            status: Literal["unknown", "no-quorum"] = "unknown" if error.sent else "no-quorum"
            return [Outcome(status, reason=reason) for _ in batch]
        if isinstance(response, ForwardResponse) and len(response.outcomes) == len(batch):
            return list(response.outcomes)
        return [Outcome("unknown", reason=f"{leader} gave no fitting answer") for _ in batch]

    # ---- the leader's side

    async def handle_forward(self, request: ForwardRequest) -> ForwardResponse:
        """Commands that a follower hands over. Each gets its own outcome; nothing is raised."""
        if any(len(payload) > self._entry_bytes for payload in request.commands):
            reason = f"an entry may have {self._entry_bytes} bytes on this node"
            return _all(request, Outcome("too-large", reason=reason))
        if self._raft.server.transfer is not None:
            return _all(request, Outcome("no-quorum", reason="leadership is being handed over"))
        try:
            first, term = self._raft.propose(trio.current_time(), request.commands)
        except NotLeader as error:
            return _all(request, Outcome("no-quorum", reason=str(error)))
        except algorithm.Busy as error:
            return _all(request, Outcome("busy", reason=str(error)))
        self._kick()
        indexes = range(first, first + len(request.commands))
        promises = [self._applier.expect(index, term) for index in indexes]
        outcomes: list[Outcome] = []
        with trio.move_on_after(request.timeout_ms / 1000):
            for promise in promises:
                outcomes.append(await _outcome(promise))  # noqa: PERF401 - keeps what is there
        for index, promise in zip(indexes, promises, strict=True):
            self._applier.forget(index, promise)
        unknown = Outcome("unknown", reason="not committed in time; it may still be done")
        outcomes += [unknown] * (len(promises) - len(outcomes))
        return ForwardResponse(tuple(outcomes))


async def _outcome(promise: Promise[Applied]) -> Outcome:
    try:
        applied = await promise.wait()
    except NoQuorum as error:
        return Outcome("no-quorum", reason=str(error))
    except OutcomeUnknown as error:
        return Outcome("unknown", reason=str(error))
    return Outcome("applied", applied.index, applied.term, applied.result)


def _all(request: ForwardRequest, outcome: Outcome) -> ForwardResponse:
    return ForwardResponse((outcome,) * len(request.commands))


def _error(outcome: Outcome, entry_bytes: int) -> CallFailed:
    match outcome.status:
        case "unknown":
            return OutcomeUnknown(outcome.reason)
        case "busy":
            return Busy(outcome.reason)
        case "too-large":
            return TooLarge(len(outcome.result), entry_bytes)
        case _:
            return Refused(outcome.reason)


def _no_leader(leader: str | None) -> str:
    if leader is None:
        return "there is no leader: fewer than a majority of the voters agree. Nothing was done"
    return f"{leader}, the leader, did not take the command in time. Nothing was done"
