"""Clients' commands on their way into the log: here if this node leads, else to the leader.

A command is never sent twice unless it is certain that the first time had no effect: what may have
reached a log ends as applied, as certainly not done, or as `OutcomeUnknown`. Commands enter the log
in the order in which they were proposed here, as long as nothing is lost on the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from raftd.codec import ForwardRequest, ForwardResponse
from raftd.driver.applier import Applied, Applier
from raftd.driver.errors import Busy, NoQuorum, OutcomeUnknown, Refused, TooLarge
from raftd.driver.forwarding import error_of
from raftd.driver.peers import PeerRefused, Peers
from raftd.driver.waiting import Signal
from raftd.promise import Promise
from raftd.raft import raft as algorithm
from raftd.raft.raft import Raft
from raftd.raft.state import Role
from raftd.state_machine import Command, encode_command
from raftd.transport.transport import Unreachable

MAX_FORWARDED = 512
"""Commands in one message to the leader."""
LOOK_AGAIN = 0.05
"""Seconds until a leader that took nothing is asked again."""


class _Write:
    __slots__ = ("deadline", "payload", "promise")

    def __init__(self, payload: bytes, deadline: float) -> None:
        self.payload = payload
        self.deadline = deadline
        self.promise: Promise[Applied] = Promise()


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
        self._queue: deque[_Write] = deque()
        self._queued_bytes = 0
        self._sent: set[_Write] = set()
        """What a leader was asked to do and has not answered."""
        self._asked = 0
        """The term whose leader has a batch; 0: none has."""
        self._look = Signal()

    def propose(self, body: bytes, *, uid: int, timeout: float) -> Promise[Applied]:
        """Carry a command to the state machine. It may fail with TooLarge, Busy, NoQuorum,
        OutcomeUnknown, Refused."""
        payload = encode_command(Command(uid, self._raft.server.name, body))
        if len(payload) > self._entry_bytes:
            return Promise.failed(TooLarge(len(payload), self._entry_bytes))
        deadline = trio.current_time() + timeout
        if self._leads() and not self._queue:
            return self._propose_here(payload, deadline)
        if self._queued_bytes > self._queue_bytes:
            return Promise.failed(
                Busy(f"{self._queued_bytes} bytes wait for the leader; try again a little later")
            )
        write = _Write(payload, deadline)
        self._queue.append(write)
        self._queued_bytes += len(payload)
        self._look.fire()
        return write.promise

    @property
    def is_waiting(self) -> bool:
        """Is there anything that `expire` could end?"""
        return bool(self._queue or self._sent)

    def expire(self, now: float) -> None:
        """Answer those whose time is over."""
        leader = self._raft.server.leader
        if any(write.deadline <= now for write in self._queue):
            writes, self._queue, self._queued_bytes = self._queue, deque(), 0
            for write in writes:
                if write.deadline > now:
                    self._queue.append(write)
                    self._queued_bytes += len(write.payload)
                else:
                    write.promise.fail(NoQuorum(_no_leader(leader)))
        for write in self._sent:
            if write.deadline <= now:
                write.promise.fail(OutcomeUnknown("the leader has not answered in time"))

    async def run(self) -> None:
        """Bring what is queued into the log."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_roles)
            while True:
                server = self._raft.server
                leader = server.leader
                if not self._queue:
                    await self._look.wait()
                elif self._leads():
                    self._propose_queued()
                elif leader in {None, server.name} or self._asked == server.current_term:
                    await self._look.wait()
                else:
                    self._asked = server.current_term
                    nursery.start_soon(self._forward, leader, server.current_term, self._take())

    async def _watch_roles(self) -> None:
        while True:
            await self._changed.wait()
            self._look.fire()

    # ---- here

    def _leads(self) -> bool:
        server = self._raft.server
        return server.role is Role.LEADER and server.transfer is None

    def _propose_here(self, payload: bytes, deadline: float) -> Promise[Applied]:
        try:
            index, term = self._raft.propose(trio.current_time(), (payload,))
        except algorithm.Busy as error:
            return Promise.failed(Busy(f"{error}; try again a little later"))
        self._kick()
        return self._applier.expect(index, term, deadline)

    def _propose_queued(self) -> None:
        """They came while this node did not lead."""
        while self._queue and self._leads():
            write = self._queue.popleft()
            self._queued_bytes -= len(write.payload)
            if not write.promise.abandoned:
                applied = self._propose_here(write.payload, write.deadline)
                applied.when_done(write.promise.follow)

    # ---- the follower's side

    def _take(self) -> list[_Write]:
        """As many as one message takes."""
        size = 0
        batch: list[_Write] = []
        while self._queue and len(batch) < MAX_FORWARDED:
            if batch and size + len(self._queue[0].payload) > self._forward_bytes:
                break
            write = self._queue.popleft()
            self._queued_bytes -= len(write.payload)
            if not write.promise.abandoned:
                size += len(write.payload)
                batch.append(write)
        return batch

    async def _forward(self, leader: str, term: int, batch: list[_Write]) -> None:
        """Have the leader do them: one batch at a time, so that they keep their order. What it
        certainly did not do goes back to the front of the queue."""
        self._sent.update(batch)
        if batch:
            await self._ask(leader, batch)
        self._sent.difference_update(batch)
        left = [write for write in batch if not write.promise.is_done]
        self._queue.extendleft(reversed(left))
        self._queued_bytes += sum(len(write.payload) for write in left)
        if left:
            with trio.move_on_after(LOOK_AGAIN):
                await self._changed.wait()
        if self._asked == term:
            self._asked = 0
        self._look.fire()

    async def _ask(self, leader: str, batch: list[_Write]) -> None:
        """Answer those of which it is known, or cannot be known, what became of them."""
        timeout = max(0.001, max(write.deadline for write in batch) - trio.current_time())
        request = ForwardRequest(tuple(write.payload for write in batch), int(timeout * 1000))
        try:
            response = await self._peers.call(leader, request, timeout)
        except PeerRefused as error:
            _fail_all(batch, Refused(str(error)))
        except Unreachable as error:
            if error.sent:
                why = f"{leader}, the leader, gave no answer: {error}"
                _fail_all(batch, OutcomeUnknown(why))
        else:
            if not isinstance(response, ForwardResponse) or len(response.outcomes) != len(batch):
                _fail_all(batch, OutcomeUnknown(f"{leader} gave no fitting answer"))
                return
            for write, outcome in zip(batch, response.outcomes, strict=True):
                if outcome.status == "applied":
                    write.promise.set(Applied(outcome.index, outcome.term, outcome.result))
                elif outcome.status != "no-quorum":
                    write.promise.fail(error_of(outcome, len(write.payload), self._entry_bytes))


def _fail_all(batch: list[_Write], error: Exception) -> None:
    for write in batch:
        write.promise.fail(error)


def _no_leader(leader: str | None) -> str:
    if leader is None:
        return "there is no leader: fewer than a majority of the voters agree. Nothing was done"
    return f"{leader}, the leader, did not take the command in time. Nothing was done"
