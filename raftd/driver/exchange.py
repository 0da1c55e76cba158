"""Messages of the algorithm on their way to the other members and back, without a task for each.

Requests of others wait in the inbox until the driver's loop gives them to the algorithm; what nodes
ask each other for their clients goes to who knows the answer.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable

import trio

from raftd.client_messages import ClientMessage
from raftd.driver.life import Life
from raftd.driver.peers import AnyMessage, PeerRefused, Peers
from raftd.driver.snapshots import Snapshots
from raftd.promise import Promise
from raftd.raft.messages import InstallSnapshotRequest, Request, Response
from raftd.raft.raft import Raft
from raftd.raft.update import Outgoing
from raftd.storage.disk import StorageFailed
from raftd.transport.transport import Unreachable

log = logging.getLogger("raftd.raft")

PATIENCE = 10
"""Timeouts that a snapshot may take, and until a request is given up that the algorithm does not
answer."""
MAX_CALLS = 64
"""Requests to one peer that may be without an answer; further ones count as lost."""


class Exchange:
    """`takes_large`: whether there is room on the disk for more entries, or a snapshot."""

    def __init__(
        self,
        raft: Raft,
        peers: Peers,
        snapshots: Snapshots,
        life: Life,
        kick: Callable[[], None],
        look: Callable[[], None],
        answer: Callable[[ClientMessage], Awaitable[AnyMessage | None]],
        takes_large: Callable[[], bool],
        timeout: float,
    ) -> None:
        """`kick` has the algorithm's update looked at soon, `look` now. `answer` is for what is not
        the algorithm's; `timeout` in seconds, for each request, without the time that its bytes
        take."""
        self._raft = raft
        self._peers = peers
        self._snapshots = snapshots
        self._life = life
        self._kick = kick
        self._look = look
        self._answer_client = answer
        self._takes_large = takes_large
        self._timeout = timeout
        self._inbox: list[tuple[str, Request]] = []
        self._answers: dict[tuple[str, int], tuple[float, Promise[AnyMessage | None]]] = {}
        """The requests under way, and when they are given up."""
        self._calls: dict[str, int] = {}

    # ---- to peers

    def send(self, outgoing: Outgoing) -> None:
        peer, message = outgoing.to, outgoing.message
        if isinstance(message, Response):
            answer = self._answers.pop((peer, message.request_id), None)
            if answer is not None:
                answer[1].set(message)
            return
        calls = self._calls.get(peer, 0)
        if calls >= MAX_CALLS:
            self._raft.unanswered(trio.current_time(), peer, message.request_id)
            return
        self._calls[peer] = calls + 1
        if isinstance(message, InstallSnapshotRequest):
            failures = (Unreachable, PeerRefused)
            call = self._life.call(self._install_snapshot, peer, message, failures=failures)
        else:
            call = self._peers.call(peer, message, self._timeout, bulk=_is_large(message))
        call.when_done(functools.partial(self._answered, peer, message.request_id))

    async def _install_snapshot(self, peer: str, request: InstallSnapshotRequest) -> AnyMessage:
        filled = await self._snapshots.fill(request)
        if filled is None:
            raise Unreachable("the snapshot is not here any more", sent=False)
        return await self._peers.call(peer, filled, PATIENCE * self._timeout, bulk=True)

    def _answered(self, peer: str, request_id: int, call: Promise[AnyMessage]) -> None:
        self._calls[peer] -= 1
        if self._life.is_over:
            return
        try:
            response = call.result()
        except (Unreachable, PeerRefused):
            response = None
        now = trio.current_time()
        try:
            if isinstance(response, Response):
                self._raft.receive(now, peer, response)
            else:
                self._raft.unanswered(now, peer, request_id)
        except Exception as error:
            self._life.fail(error)
        self._look()

    # ---- from peers

    def take_inbox(self) -> None:
        """Requests that came together are taken in the order in which they were sent: nng's threads
        bring them in any order, and an AppendEntries that overtakes another is refused."""
        if not self._inbox:
            return
        inbox, self._inbox = self._inbox, []
        if len(inbox) > 1:
            inbox.sort(key=lambda item: item[1].request_id)
        for sender, request in inbox:
            self._raft.receive(trio.current_time(), sender, request)

    def handle(self, data: bytes, certified: str | None) -> Promise[bytes | None]:
        """The answer to a peer's bytes; None: there is none. `certified`: whose certificate they
        came with, if the connection is encrypted."""
        return self._peers.handle(data, certified, self._answer)

    def _answer(self, sender: str, message: AnyMessage) -> Promise[AnyMessage | None]:
        if isinstance(message, Request):
            return self._answer_request(sender, message)
        if isinstance(message, Response):
            return Promise.done(None)
        return self._life.call(self._answer_for_client, message)

    async def _answer_for_client(self, message: ClientMessage) -> AnyMessage | None:
        try:
            return await self._answer_client(message)
        except StorageFailed:
            raise
        except Exception:
            log.exception("cannot answer a %s", type(message).__name__)
            return None

    def _answer_request(self, sender: str, request: Request) -> Promise[AnyMessage | None]:
        key = (sender, request.request_id)
        if key in self._answers or (_is_large(request) and not self._takes_large()):
            return Promise.done(None)
        answer: Promise[AnyMessage | None] = Promise()
        self._answers[key] = (trio.current_time() + PATIENCE * self._timeout, answer)
        self._inbox.append((sender, request))
        self._kick()
        return answer

    async def run(self) -> None:
        """Give up what the algorithm does not answer."""
        while True:
            await trio.sleep(self._timeout)
            now = trio.current_time()
            late = [key for key, (deadline, _) in self._answers.items() if deadline <= now]
            for key in late:
                self._answers.pop(key)[1].set(None)


def _is_large(request: Request) -> bool:
    """Would it add to what waits for the disk? On its way it keeps its place, and may take long."""
    return isinstance(request, InstallSnapshotRequest) or bool(getattr(request, "entries", ()))
