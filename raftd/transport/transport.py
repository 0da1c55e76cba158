"""Bytes to a peer and its answer back, over nng request/reply (nng_req(7), nng_rep(7)).

One Rep0 socket serves several requests at a time, each in a context of its own; one Req0 per peer
has a context per call. It knows nothing of messages. A call is sent at most once: what is lost
stays lost, and who called decides. raftd.transport.peer is the calling end.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pynng
import trio

from raftd.transport.peer import Peer, Unreachable

__all__ = ["AddressInUse", "CannotListen", "Transport", "Unreachable"]

log = logging.getLogger("raftd.transport")

Handler = Callable[[bytes], Awaitable[bytes | None]]


class CannotListen(Exception):
    """The address cannot be listened on; the message says why."""


class AddressInUse(CannotListen):
    """Somebody else listens there."""


class Transport:
    """One node's end of the network."""

    def __init__(self, listen: str, *, max_message_bytes: int, receivers: int = 16) -> None:
        """`listen`: a URL like tcp://127.0.0.1:7001. Messages above `max_message_bytes` are
        dropped together with their connection. `receivers`: requests handled at a time."""
        self._listen = listen
        self._max_message_bytes = max_message_bytes
        self._receivers = receivers
        self._peers: dict[str, Peer] = {}

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Give each request to `handler` and send what it returns; None: no answer.

        Until cancelled; started once it listens. Raises AddressInUse, CannotListen.
        """
        with pynng.Rep0(recv_max_size=self._max_message_bytes) as socket:
            self._bind(socket)
            async with trio.open_nursery() as nursery:
                for _ in range(self._receivers):
                    nursery.start_soon(_receive, socket, handler)
                task_status.started()

    def _bind(self, socket: pynng.Rep0) -> None:
        try:
            socket.listen(self._listen)
        except pynng.AddressInUse as error:
            raise AddressInUse(
                f"{self._listen} is in use: another program, or another raftd, listens there."
                " Stop it, or give this node another `listen` address"
            ) from error
        except pynng.NNGException as error:
            raise CannotListen(
                f"cannot listen on {self._listen}: {error}. Is it an address of this host?"
            ) from error

    def set_peer(self, name: str, address: str) -> None:
        """The peer `name` is to be found at this URL from now on."""
        known = self._peers.get(name)
        if known is not None and known.address == address:
            return
        self.remove_peer(name)
        self._peers[name] = Peer(address, self._max_message_bytes)

    def remove_peer(self, name: str) -> None:
        """Calls to it that are under way fail."""
        known = self._peers.pop(name, None)
        if known is not None:
            known.close()

    async def call(self, peer: str, request: bytes, timeout: float) -> bytes:
        """The peer's answer. Raises Unreachable, at the latest after `timeout` seconds."""
        known = self._peers.get(peer)
        if known is None:
            raise Unreachable(f"no address of {peer} is known", sent=False)
        return await known.call(request, timeout)

    async def aclose(self) -> None:
        for name in list(self._peers):
            self.remove_peer(name)
        await trio.lowlevel.checkpoint()


async def _receive(socket: pynng.Rep0, handler: Handler) -> None:
    """One of the contexts: request after request."""
    while True:
        with socket.new_context() as context:
            try:
                request = await context.arecv()
                answer = await handler(request)
                if answer is not None:
                    await context.asend(answer)
            except pynng.Closed:
                raise
            except pynng.NNGException as error:
                log.debug("an answer did not get through: %s", error)
            except Exception:
                log.exception("a request could not be handled")
