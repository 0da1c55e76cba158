"""Linearizable reads: agree on a read index with the leader, wait until it is applied, read.

Reads that come while one round is under way share the next one. Answers may be a megabyte each:
they are made a few at a time, and only when whoever asked has room for them.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable

import trio

from raftd.client_messages import ReadIndexRequest, ReadIndexResponse
from raftd.doorbell import doorbell
from raftd.driver.applier import Applier
from raftd.driver.errors import Busy, NoQuorum, Refused
from raftd.driver.life import Life
from raftd.driver.offload import Offload
from raftd.driver.peers import AnyMessage, PeerRefused, Peers
from raftd.driver.waiting import Signal
from raftd.promise import Promise
from raftd.raft.raft import NotLeader, Raft
from raftd.raft.state import LEADER
from raftd.raft.update import ReadReady
from raftd.state_machine import StateMachine
from raftd.transport.transport import Unreachable

MAX_WAITING = 20_000
MAX_IN_PLACE = 256
MAX_IN_PLACE_BYTES = 2 << 20
SLICE = 1024
SLICE_BYTES = 256 << 10
"""Answers, and bytes of them, that a thread makes before they are given to those who asked."""
MAX_THREADS = 4
"""So that what takes long holds nobody up. More for what is quick would only be in each other's
way: one at a time has the interpreter."""
LOOK_AGAIN = 0.05
"""Seconds until a leader that gave no index is asked again."""


class _Read:
    __slots__ = ("deadline", "index", "promise", "query")

    def __init__(self, query: bytes, deadline: float) -> None:
        self.query = query
        self.deadline = deadline
        self.index = 0
        """What has to be applied before it is answered; 0: that is being found out."""
        self.promise: Promise[bytes] = Promise()


class Reads:
    """`kick` makes the driver look at the algorithm's update; `changed` fires when roles change."""

    def __init__(
        self,
        raft: Raft,
        applier: Applier,
        peers: Peers,
        state_machine: StateMachine,
        life: Life,
        offload: Offload,
        kick: Callable[[], None],
        changed: Signal,
        round_timeout: float,
        in_place: Callable[[], bool],
    ) -> None:
        """`round_timeout`: seconds after which a round that got no answer is asked again.
        `in_place`: may the state machine be asked in the event loop now?"""
        self._raft = raft
        self._applier = applier
        self._peers = peers
        self._state_machine = state_machine
        self._life = life
        self._offload = offload
        self._kick = kick
        self._changed = changed
        self._round_timeout = round_timeout
        self._in_place = in_place
        self._queue: list[_Read] = []
        self._waiting: set[_Read] = set()
        self._resumed: list[_Read] = []
        """What there is room for now."""
        self._slow: deque[_Read] = deque()
        """What a thread has to answer."""
        self._threads = 0
        self._bell = doorbell()
        self._round: Promise[int | None] | None = None
        self._round_began = 0.0
        self._tickets: dict[int, Promise[int | None]] = {}

    def read(self, query: bytes, *, stale: bool, timeout: float) -> Promise[bytes]:
        """The state machine's answer; with `stale` it asks nobody else. It may fail with NoQuorum,
        Busy, Refused."""
        if len(self._waiting) >= MAX_WAITING:
            return Promise.failed(
                Busy(f"{len(self._waiting)} reads wait already; try again a little later")
            )
        read = _Read(query, trio.current_time() + timeout)
        self._waiting.add(read)
        if stale:
            self._answer([read])
        else:
            if not self._queue and self._round is None:
                self._bell.soon(self._confirm)
            self._queue.append(read)
        return read.promise

    @property
    def is_waiting(self) -> bool:
        """Is there anything that `expire` could end?"""
        return bool(self._waiting)

    def expire(self, now: float) -> None:
        """Answer those whose time is over."""
        late = [read for read in self._waiting if read.deadline <= now]
        leader = self._raft.server.leader
        for read in late:
            self._waiting.discard(read)
            error: Exception
            applied = self._applier.applied_index
            if read.index > applied:
                why = f"this node has applied entry {applied}, and needs {read.index} for an answer"
                error = Busy(f"{why}; try again a little later")
            elif leader is None:
                error = NoQuorum("there is no leader: fewer than a majority of the voters agree")
            else:
                error = NoQuorum(f"{leader} could not confirm in time that it still leads")
            read.promise.fail(error)
        if self._round is not None and now - self._round_began >= self._round_timeout:
            self._round.set(None)

    def _confirm(self) -> None:
        """One round for all reads that have come."""
        if self._round is not None or not self._queue or self._life.is_over:
            return
        batch, self._queue = self._queue, []
        self._round_began = trio.current_time()
        self._round = self._index()
        self._round.when_done(functools.partial(self._confirmed, batch))

    def _confirmed(self, batch: list[_Read], confirmed: Promise[int | None]) -> None:
        self._round = None
        if self._life.is_over:
            return
        index = confirmed.result()
        if index is None:
            self._queue = _without_answer(batch) + self._queue
            if self._queue:
                self._life.start(self._confirm_later, self._changed.next)
            return
        if index <= self._applier.applied_index:
            self._answer(batch)
        else:
            for read in batch:
                read.index = index
            self._life.start(self._answer_later, batch, index)
        self._confirm()

    async def _confirm_later(self, changed: trio.Event) -> None:
        with trio.move_on_after(LOOK_AGAIN):
            await changed.wait()
        self._confirm()

    async def _answer_later(self, batch: list[_Read], index: int) -> None:
        await self._applier.wait_applied(index)
        self._answer(batch)

    def _answer(self, batch: list[_Read]) -> None:
        """What is quick, and not too much, is answered here and now, all else in a thread."""
        in_place = len(batch) <= MAX_IN_PLACE and self._in_place()
        size = 0
        for read in batch:
            if not self._is_wanted(read):
                continue
            if in_place and self._state_machine.is_quick(read.query):
                answer = self._answer_of(self._state_machine.read_now, read.query)
                size += self._finish(read, answer)
                in_place = size < MAX_IN_PLACE_BYTES
            else:
                self._slow.append(read)
        if self._slow and self._threads < MAX_THREADS:
            self._threads += 1
            self._life.start(self._answer_slow)

    def _is_wanted(self, read: _Read) -> bool:
        """Now. A client that has no room yet gets its answer later; it can take its time."""
        promise = read.promise
        if promise.is_done or promise.abandoned:
            return False
        taker = promise.taker
        if taker is None or taker.has_room:
            return True
        self._waiting.discard(read)
        if taker.is_gone:
            promise.fail(Refused("nobody waits for the answer any more"))
        else:
            taker.when_room(functools.partial(self._resume, read))
        return False

    def _resume(self, read: _Read) -> None:
        if not self._resumed:
            self._bell.soon(self._answer_resumed)
        self._resumed.append(read)

    def _answer_resumed(self) -> None:
        resumed, self._resumed = self._resumed, []
        self._answer(resumed)

    async def _answer_slow(self) -> None:
        """In a thread, until nothing is left."""
        while batch := self._take_slow():
            answers = await self._offload(self._answers_of, batch)
            for read, answer in zip(batch, answers, strict=False):
                self._finish(read, answer)
            self._slow.extendleft(reversed(batch[len(answers) :]))
        self._threads -= 1

    def _take_slow(self) -> list[_Read]:
        batch: list[_Read] = []
        while self._slow and len(batch) < SLICE:
            read = self._slow.popleft()
            if self._is_wanted(read):
                batch.append(read)
        return batch

    def _answers_of(self, batch: list[_Read]) -> list[bytes | OSError]:
        """Of the first ones, until that is enough."""
        answers: list[bytes | OSError] = []
        size = 0
        for read in batch:
            answers.append(answer := self._answer_of(self._state_machine.read, read.query))
            size += 0 if isinstance(answer, OSError) else len(answer)
            if size >= SLICE_BYTES:
                break
        return answers

    def _answer_of(self, read: Callable[[bytes], bytes], query: bytes) -> bytes | OSError:
        try:
            return read(query)
        except OSError as error:
            return error

    def _finish(self, read: _Read, answer: bytes | OSError) -> int:
        """Returns the answer's size."""
        self._waiting.discard(read)
        if isinstance(answer, OSError):
            read.promise.fail(Refused(f"the state cannot be read: {answer}"))
            return 0
        read.promise.set(answer)
        return len(answer)

    def _index(self) -> Promise[int | None]:
        """A read index from whoever leads; None: there is none now."""
        server = self._raft.server
        if server.role is LEADER:
            return self._own_index()
        if server.leader is None:
            return Promise.done(None)
        index: Promise[int | None] = Promise()

        def answered(response: Promise[AnyMessage]) -> None:
            try:
                message = response.result()
            except (Unreachable, PeerRefused):
                message = None
            index.set(message.index if isinstance(message, ReadIndexResponse) else None)

        request = ReadIndexRequest(int(self._round_timeout * 1000))
        self._peers.call(server.leader, request, self._round_timeout).when_done(answered)
        return index

    async def handle_read_index(self, request: ReadIndexRequest) -> ReadIndexResponse:
        """A follower asks; only a leader answers, and it asks nobody else."""
        with trio.move_on_after(request.timeout_ms / 1000):
            index = await self._own_index()
            return ReadIndexResponse(index, "" if index is not None else "not the leader any more")
        return ReadIndexResponse(None, "no majority has answered in time")

    def _own_index(self) -> Promise[int | None]:
        """A read index of this node's own; None: it does not lead (any more)."""
        try:
            ticket = self._raft.read_index(trio.current_time())
        except NotLeader:
            return Promise.done(None)
        index = self._tickets[ticket] = Promise()
        self._kick()
        return index

    def ready(self, read: ReadReady) -> None:
        """The algorithm's answer to a ticket."""
        promise = self._tickets.pop(read.ticket, None)
        if promise is not None:
            promise.set(read.index)


def _without_answer(batch: list[_Read]) -> list[_Read]:
    return [read for read in batch if not (read.promise.is_done or read.promise.abandoned)]
