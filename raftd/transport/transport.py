"""Bytes to a peer and its answer back, over nng request/reply (nng_req(7), nng_rep(7)).

It knows nothing of messages. A call is sent at most once: what is lost stays lost, and who called
decides. raftd.transport.peer is the calling end, raftd.transport.server the answering one.

On a slow link a heartbeat would wait for what was sent before it. So while much is under way to a
peer, other calls go beside it, by a second connection, which is opened with the first of it.
"""

from __future__ import annotations

import trio

from raftd.credentials import Credentials
from raftd.promise import Promise
from raftd.transport import tls
from raftd.transport.peer import Peer, Unreachable
from raftd.transport.server import (
    MAX_CONNECTIONS,
    AddressInUse,
    CannotListen,
    Handler,
    Server,
)
from raftd.transport.timers import Timers

__all__ = ["AddressInUse", "CannotListen", "Handler", "Transport", "Unreachable"]


MUCH = 16 << 10
"""Bytes under way beside which other calls have a connection of their own: half a second on the
slowest link."""
LOOK_INTERVAL = 5.0
"""Seconds between two looks for why peers are not connected."""


class Transport:
    """One node's end of the network."""

    def __init__(
        self,
        listen: str,
        *,
        max_message_bytes: int,
        receivers: int = 16,
        max_connections: int = MAX_CONNECTIONS,
        credentials: Credentials | None = None,
    ) -> None:
        """`listen`: a URL like tcp://127.0.0.1:7001, IPv6 in brackets; port 0 takes a free one.
        tls+tcp:// here, or as the address of a peer, takes `credentials`; CredentialsError if they
        are of no use.

        Messages above `max_message_bytes` are dropped together with their connection.
        `receivers`: requests handled at a time. `max_connections`: from peers to here.
        """
        if credentials is not None:
            tls.check(credentials)
        self.address = listen
        self._max_message_bytes = max_message_bytes
        self._max_connections = max_connections
        self._receivers = receivers
        self._credentials = credentials
        self._timers = Timers()
        self._peers: dict[str, Peer] = {}
        self._beside: dict[str, Peer] = {}
        """Second connections."""
        self._serving = trio.CancelScope()
        self._server: Server | None = None
        self._closed = False

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Give each request to `handler` and send what it returns; None: no answer.

        Until cancelled or closed; started once it listens. An exception of the handler is logged,
        and its request gets no answer. Raises AddressInUse, CannotListen.
        """
        self._server = server = Server(
            self._timers,
            max_message_bytes=self._max_message_bytes,
            max_connections=self._max_connections,
            credentials=self._credentials,
        )
        try:
            self.address = await server.listen(self.address)
            server.answer(handler, self._receivers)
            task_status.started()
            with self._serving:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._timers.run)
                    nursery.start_soon(self._look_for_trouble)
        finally:
            server.close()

    async def _look_for_trouble(self) -> None:
        while True:
            await trio.sleep(LOOK_INTERVAL)
            for peer in list(self._peers.values()):
                await peer.look_for_trouble()

    def set_peer(self, name: str, address: str) -> None:
        """The peer `name` is to be found at this URL from now on."""
        known = self._peers.get(name)
        if self._closed or (known is not None and known.address == address):
            return
        self.remove_peer(name)
        self._peers[name] = self._peer(name, address)

    def remove_peer(self, name: str) -> None:
        """Calls to it that are under way fail."""
        for connections in (self._peers, self._beside):
            known = connections.pop(name, None)
            if known is not None:
                known.close()

    def trouble_with(self, name: str) -> str | None:
        """Why there is no encrypted connection to it, if that is known."""
        known = self._peers.get(name)
        return (
            None if known is None or known.trouble is None else f"{known.address}: {known.trouble}"
        )

    def call(
        self, peer: str, request: bytes, timeout: float, *, bulk: bool = False
    ) -> Promise[bytes]:
        """The peer's answer; fails with Unreachable, at the latest after `timeout` seconds, as long
        as `serve` runs. `bulk`: it may take longer, as large as it is, and arrives behind all that
        was sent so before."""
        known = self._peers.get(peer)
        if known is None:
            return Promise.failed(Unreachable(f"no address of {peer} is known", sent=False))
        if known.under_way + len(request) >= MUCH:
            beside = self._beside.get(peer)
            if beside is None:  # now: soon a packet that opens it would wait, or be lost
                beside = self._beside[peer] = self._peer(peer, known.address)
            if known.under_way >= MUCH and not bulk and beside.refusal(request) is None:
                known = beside
        return known.call(request, timeout, bulk=bulk)

    def _peer(self, name: str, address: str) -> Peer:
        return Peer(name, address, self._max_message_bytes, self._timers, self._credentials)

    async def aclose(self) -> None:
        """Calls under way fail, later ones too; `serve` returns."""
        self._closed = True
        for name in list(self._peers):
            self.remove_peer(name)
        self._serving.cancel()
        await trio.lowlevel.checkpoint()
