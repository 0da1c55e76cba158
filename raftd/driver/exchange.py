"""Messages of the algorithm on their way to the other members and back, a task for each request.

Requests of others wait in the inbox until the driver's loop gives them to the algorithm; what nodes
ask each other for their clients goes to who knows the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from raftd.codec import ClientMessage
from raftd.driver.peers import AnyMessage, PeerRefused, Peers
from raftd.driver.snapshots import Snapshots
from raftd.driver.waiting import Promise
from raftd.raft.messages import InstallSnapshotRequest, Message, Request, Response
from raftd.raft.raft import Raft
from raftd.raft.update import Outgoing
from raftd.storage.disk import StorageFailed
from raftd.transport.transport import Unreachable

MAX_CALLS = 64
"""Requests to one peer that may be without an answer; further ones count as lost."""


class Looking(Protocol):
    """The driver's loop, which looks at the algorithm's updates."""

    def kick(self) -> None:
        """Soon."""
        ...

    def look(self) -> None:
        """Now."""
        ...


class Exchange:
    """`takes_large`: whether there is room on the disk for more entries, or a snapshot."""

    def __init__(
        self,
        raft: Raft,
        peers: Peers,
        snapshots: Snapshots,
        answer: Callable[[ClientMessage], Awaitable[AnyMessage | None]],
        takes_large: Callable[[], bool],
        timeout: float,
    ) -> None:
        """`answer` is for what is not the algorithm's; `timeout` in seconds, for each request."""
        self._raft = raft
        self._peers = peers
        self._snapshots = snapshots
        self._answer_client = answer
        self._takes_large = takes_large
        self._timeout = timeout
        self._inbox: list[tuple[str, Request]] = []
        self._answers: dict[tuple[str, int], Promise[Response]] = {}
        self._calls: dict[str, int] = {}
        self._nursery: trio.Nursery
        self._loop: Looking

    def begin(self, nursery: trio.Nursery, loop: Looking) -> None:
        """Where requests live from now on, and who is to look at what they bring."""
        self._nursery = nursery
        self._loop = loop

    # ---- to peers

    def send(self, outgoing: Outgoing) -> None:
        message = outgoing.message
        if isinstance(message, Response):
            promise = self._answers.get((outgoing.to, message.request_id))
            if promise is not None:
                promise.set(message)
        elif self._calls.get(outgoing.to, 0) >= MAX_CALLS:
            self._raft.unanswered(trio.current_time(), outgoing.to, message.request_id)
        else:
            self._nursery.start_soon(self._call, outgoing.to, message)

    async def _call(self, peer: str, request: Request) -> None:
        self._calls[peer] = self._calls.get(peer, 0) + 1
        try:
            response = await self._ask(peer, request)
        finally:
            self._calls[peer] -= 1
        now = trio.current_time()
        if isinstance(response, Response):
            self._raft.receive(now, peer, response)
        else:
            self._raft.unanswered(now, peer, request.request_id)
        self._loop.look()

    async def _ask(self, peer: str, request: Request) -> AnyMessage | None:
        timeout = self._timeout
        filled: Request | None = request
        if isinstance(request, InstallSnapshotRequest):
            filled = await self._snapshots.fill(request)
            timeout *= 10
        if filled is None:
            return None
        try:
            return await self._peers.call(peer, filled, timeout)
        except (Unreachable, PeerRefused):
            return None

    # ---- from peers

    def take_inbox(self) -> None:
        """Requests that came together are taken in the order in which they were sent: tasks wake
        in any order, and an AppendEntries that overtakes another is refused."""
        inbox, self._inbox = self._inbox, []
        inbox.sort(key=lambda item: item[1].request_id)
        for sender, request in inbox:
            self._raft.receive(trio.current_time(), sender, request)

    async def handle(self, data: bytes) -> bytes | None:
        """The answer to a peer's bytes; None: there is none."""
        try:
            return await self._peers.handle(data, self._answer)
        except StorageFailed as error:
            self._nursery.start_soon(_fail, error)
            return None

    async def _answer(self, sender: str, message: AnyMessage) -> AnyMessage | None:
        if isinstance(message, Request):
            return await self._answer_request(sender, message)
        if isinstance(message, Response):
            return None
        return await self._answer_client(message)

    async def _answer_request(self, sender: str, request: Request) -> Message | None:
        key = (sender, request.request_id)
        if key in self._answers or (_is_large(request) and not self._takes_large()):
            return None
        promise = self._answers[key] = Promise()
        try:
            self._inbox.append((sender, request))
            self._loop.kick()
            with trio.move_on_after(self._timeout * 10):
                return await promise.wait()
        finally:
            del self._answers[key]
        return None


async def _fail(error: Exception) -> None:
    """End the node, from whichever task has found out that it must."""
    raise error


def _is_large(request: Request) -> bool:
    """Would it add to what waits for the disk?"""
    return isinstance(request, InstallSnapshotRequest) or bool(getattr(request, "entries", ()))
