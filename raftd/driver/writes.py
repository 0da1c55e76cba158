"""Clients' commands on their way into the log: here if this node leads, else to the leader.

A command is never sent twice unless it is certain that the first time had no effect: what may have
reached a log ends as applied, as certainly not done, or as `OutcomeUnknown`. Commands enter the log
in the order in which they were proposed here, as long as nothing is lost on the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import trio

from raftd.client_messages import MAX_FORWARDED, ForwardRequest, ForwardResponse, Outcome
from raftd.doorbell import doorbell
from raftd.driver.applier import Applier
from raftd.driver.errors import Busy, NoQuorum, OutcomeUnknown, Refused, TooLarge
from raftd.driver.forwarding import error_of
from raftd.driver.peers import PeerRefused, Peers
from raftd.driver.proposal import Applied, Proposal
from raftd.driver.results import Results
from raftd.driver.waiting import Signal
from raftd.promise import Promise
from raftd.raft import raft as algorithm
from raftd.raft.raft import Raft
from raftd.raft.state import LEADER
from raftd.state_machine import Command, encode_command
from raftd.transport.transport import Unreachable

LOOK_AGAIN = 0.05
"""Seconds until a leader that took nothing is asked again."""


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
        self._queue: deque[Proposal] = deque()
        self._queued_bytes = 0
        self._sent: set[Proposal] = set()
        """What a leader was asked to do and has not answered."""
        self._asked = 0
        """The term whose leader has a batch; 0: none has."""
        self._look = Signal()
        self._bell = doorbell()

    def propose(self, body: bytes, *, uid: int, timeout: float) -> Promise[Applied]:
        """Carry a command to the state machine. It may fail with TooLarge, Busy, NoQuorum,
        OutcomeUnknown, Refused."""
        payload = encode_command(Command(uid, self._raft.server.name, body))
        size = len(payload)
        if size > self._entry_bytes:
            return Promise.failed(TooLarge(size, self._entry_bytes))
        if self._queued_bytes > self._queue_bytes:
            return Promise.failed(
                Busy(f"{self._queued_bytes} bytes wait for the leader; try again a little later")
            )
        write = Proposal(payload, trio.current_time() + timeout)
        if not self._queue:
            self._bell.soon(self._propose_soon)
        self._queue.append(write)
        self._queued_bytes += size
        return write

    def _propose_soon(self) -> None:
        """What has come together."""
        if self._leads():
            self._propose_queued()
        else:
            self._look.fire()

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
                    write.fail(NoQuorum(_no_leader(leader)))
        for write in self._sent:
            if write.deadline <= now:
                write.fail(OutcomeUnknown("the leader has not answered in time"))

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
        return server.role is LEADER and server.transfer is None

    def _propose_queued(self) -> None:
        writes = [write for write in self._queue if not write.abandoned]
        self._queue.clear()
        self._queued_bytes = 0
        try:
            first, term = self._raft.propose(
                trio.current_time(), [write.payload for write in writes]
            )
        except algorithm.Busy as error:
            _fail_all(writes, Busy(f"{error}; try again a little later"))
        else:
            self._applier.expect(first, term, writes)
            self._kick()

    # ---- the follower's side

    def _take(self) -> list[Proposal]:
        """As many as one message takes."""
        size = 0
        batch: list[Proposal] = []
        while self._queue and len(batch) < MAX_FORWARDED:
            if batch and size + len(self._queue[0].payload) > self._forward_bytes:
                break
            write = self._queue.popleft()
            self._queued_bytes -= len(write.payload)
            if not write.abandoned:
                size += len(write.payload)
                batch.append(write)
        return batch

    async def _forward(self, leader: str, term: int, batch: list[Proposal]) -> None:
        """Have the leader do them: one batch at a time, so that they keep their order. What it
        certainly did not do goes back to the front of the queue."""
        self._sent.update(batch)
        not_done = await self._ask(leader, batch) if batch else []
        self._sent.difference_update(batch)
        left = [write for write in not_done if not write.is_done]
        self._queue.extendleft(reversed(left))
        self._queued_bytes += sum(len(write.payload) for write in left)
        if left:
            with trio.move_on_after(LOOK_AGAIN):
                await self._changed.wait()
        if self._asked == term:
            self._asked = 0
        self._look.fire()

    async def _ask(self, leader: str, batch: list[Proposal]) -> list[Proposal]:
        """Answer those of which it is known, or cannot be known, what became of them. The others
        were certainly not done."""
        timeout = max(0.001, max(write.deadline for write in batch) - trio.current_time())
        request = ForwardRequest(tuple(write.payload for write in batch), int(timeout * 1000))
        with Results(self._applier, batch) as results:
            try:
                response = await self._peers.call(leader, request, timeout)
            except PeerRefused as error:
                _fail_all(batch, Refused(str(error)))
            except Unreachable as error:
                if not error.sent:
                    return batch
                why = f"{leader}, the leader, gave no answer: {error}"
                _fail_all(batch, OutcomeUnknown(why))
            else:
                if isinstance(response, ForwardResponse) and len(response.outcomes) == len(batch):
                    return self._answer(batch, response.outcomes, results)
                _fail_all(batch, OutcomeUnknown(f"{leader} gave no fitting answer"))
        return []

    def _answer(
        self, batch: list[Proposal], outcomes: Sequence[Outcome], results: Results
    ) -> list[Proposal]:
        """Returns those that were certainly not done."""
        not_done: list[Proposal] = []
        for write, outcome in zip(batch, outcomes, strict=True):
            match outcome.status:
                case "applied":
                    write.set(Applied(outcome.index, outcome.term, outcome.result))
                case "applied-elsewhere":
                    results.answer(write, outcome.index, outcome.term)
                case "no-quorum":
                    not_done.append(write)
                case _:
                    write.fail(error_of(outcome, len(write.payload), self._entry_bytes))
        return not_done


def _fail_all(batch: list[Proposal], error: Exception) -> None:
    for write in batch:
        write.fail(error)


def _no_leader(leader: str | None) -> str:
    if leader is None:
        return "there is no leader: fewer than a majority of the voters agree. Nothing was done"
    return f"{leader}, the leader, did not take the command in time. Nothing was done"
