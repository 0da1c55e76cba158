"""Linearizable reads: agree on a read index with the leader, wait until it is applied, read.

Reads that come while one round is under way share the next one.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from raftd.codec import ReadIndexRequest, ReadIndexResponse
from raftd.driver.applier import Applier
from raftd.driver.errors import Busy, NoQuorum, Refused
from raftd.driver.offload import Offload
from raftd.driver.peers import PeerRefused, Peers
from raftd.driver.waiting import Promise, Signal
from raftd.raft.raft import NotLeader, Raft
from raftd.raft.state import Role
from raftd.raft.update import ReadReady
from raftd.state_machine import StateMachine
from raftd.transport.transport import Unreachable

MAX_WAITING = 20_000


class _Read:
    __slots__ = ("promise", "query")

    def __init__(self, query: bytes) -> None:
        self.query = query
        self.promise: Promise[bytes] = Promise()


class Reads:
    """`kick` makes the driver look at the algorithm's update; `changed` fires when roles change."""

    def __init__(
        self,
        raft: Raft,
        applier: Applier,
        peers: Peers,
        state_machine: StateMachine,
        offload: Offload,
        kick: Callable[[], None],
        changed: Signal,
        round_timeout: float,
    ) -> None:
        """`round_timeout`: seconds after which a round that got no answer is asked again."""
        self._raft = raft
        self._applier = applier
        self._peers = peers
        self._state_machine = state_machine
        self._offload = offload
        self._kick = kick
        self._changed = changed
        self._round_timeout = round_timeout
        self._queue: list[_Read] = []
        self._wake = Signal()
        self._tickets: dict[int, Promise[int | None]] = {}

    async def read(self, query: bytes, *, stale: bool, timeout: float) -> bytes:
        """The state machine's answer. Raises NoQuorum, Busy; with `stale` it asks nobody."""
        if stale:
            try:
                return await self._offload(self._state_machine.read, query)
            except OSError as error:
                raise Refused(f"the state cannot be read: {error}") from error
        if len(self._queue) >= MAX_WAITING:
            raise Busy(f"{len(self._queue)} reads wait for the leader; try again a little later")
        read = _Read(query)
        self._queue.append(read)
        self._wake.fire()
        with trio.move_on_after(timeout):
            return await read.promise.wait()
        if self._raft.server.leader is None:
            raise NoQuorum("there is no leader: fewer than a majority of the voters agree")
        raise NoQuorum(f"{self._raft.server.leader} could not confirm in time that it still leads")

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                while not self._queue:
                    await self._wake.wait()
                batch, self._queue = self._queue, []
                changed = self._changed
                index = await self.confirmed_index(self._round_timeout)
                batch = [read for read in batch if not read.promise.abandoned]
                if index is None:
                    self._queue = batch + self._queue
                    if batch:
                        with trio.move_on_after(0.05):
                            await changed.wait()
                elif batch:
                    nursery.start_soon(self._finish, batch, index)

    async def _finish(self, batch: list[_Read], index: int) -> None:
        await self._applier.wait_applied(index)
        read = self._state_machine.read
        queries = [each.query for each in batch]
        try:
            answers = await self._offload(lambda: [read(query) for query in queries])
        except OSError as error:
            for each in batch:
                each.promise.fail(Refused(f"the state cannot be read: {error}"))
            return
        for each, answer in zip(batch, answers, strict=True):
            each.promise.set(answer)

    async def confirmed_index(self, timeout: float) -> int | None:
        """A read index from the leader; None when there is none within `timeout` seconds."""
        server = self._raft.server
        with trio.move_on_after(timeout):
            if server.role is Role.LEADER:
                return await self._local_index()
            if server.leader is None:
                return None
            try:
                request = ReadIndexRequest(int(timeout * 1000))
                response = await self._peers.call(server.leader, request, timeout)
            except (Unreachable, PeerRefused):
                return None
            if isinstance(response, ReadIndexResponse):
                return response.index
        return None

    async def handle_read_index(self, request: ReadIndexRequest) -> ReadIndexResponse:
        """A follower asks; only a leader answers, and it asks nobody else."""
        with trio.move_on_after(request.timeout_ms / 1000):
            index = await self._local_index()
            return ReadIndexResponse(index, "" if index is not None else "not the leader any more")
        return ReadIndexResponse(None, "no majority has answered in time")

    async def _local_index(self) -> int | None:
        try:
            ticket = self._raft.read_index(trio.current_time())
        except NotLeader:
            return None
        promise = self._tickets[ticket] = Promise()
        self._kick()
        try:
            return await promise.wait()
        finally:
            self._tickets.pop(ticket, None)

    def ready(self, read: ReadReady) -> None:
        """The algorithm's answer to a ticket."""
        promise = self._tickets.pop(read.ticket, None)
        if promise is not None:
            promise.set(read.index)
