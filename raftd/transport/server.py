"""The answering end: one Rep0 socket, served by several contexts at a time.

Whatever comes in is given to a handler, and whatever the handler returns goes back. nng itself
closes a connection that does not speak its protocol or announces too large a message; one that does
not take its answers is closed here.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable

import pynng
import trio

from raftd.transport.connections import Connections
from raftd.transport.contexts import Context

log = logging.getLogger("raftd.transport")

Handler = Callable[[bytes], Awaitable[bytes | None]]

MAX_CONNECTIONS = 256
"""Far more than members have, far fewer than a process may have files."""
ANSWER_TIMEOUT = 5.0
"""Seconds for an answer to get into the connection's buffers."""
_PAUSE_AFTER_FAILURE = 0.1
_ROUTING_BYTES = 64
"""Room for nng's own request header, which counts as part of a message."""


class CannotListen(Exception):
    """The address cannot be listened on; the message says why."""


class AddressInUse(CannotListen):
    """Somebody else listens there."""


class Server:
    """Answers requests at one address. Messages have at most `max_message_bytes`."""

    def __init__(self, *, max_message_bytes: int, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max_message_bytes = max_message_bytes
        self._socket = pynng.Rep0(recv_max_size=max_message_bytes + _ROUTING_BYTES)
        self._connections = Connections(self._socket, max_connections)

    async def listen(self, address: str) -> str:
        """Returns the address with its port, if that was 0. Raises AddressInUse, CannotListen."""
        try:
            # In a thread, because a host name is looked up.
            listener = await trio.to_thread.run_sync(self._socket.listen, address)
        except pynng.AddressInUse as error:
            raise AddressInUse(
                f"{address} is in use: another program, or another raftd, listens there."
                " Stop it, or give this node another `listen` address"
            ) from error
        except pynng.AddressInvalid as error:
            raise CannotListen(
                f"cannot listen on {address}: it is no address of this host, or its name is not"
                " known here. Give this node another `listen` address"
            ) from error
        except pynng.NNGException as error:
            raise CannotListen(f"cannot listen on {address}: {str(error).lower()}") from error
        return str(listener.url)

    async def answer(self, handler: Handler) -> None:
        """Handle one request after the other, until the server is closed."""
        with contextlib.suppress(pynng.Closed):
            context = Context(self._socket)
            try:
                while True:
                    await self._answer_one(context, handler)
            finally:
                context.close()

    async def _answer_one(self, context: Context, handler: Handler) -> None:
        try:
            request = await context.receive()
        except pynng.Closed:
            raise
        except pynng.NNGException as error:  # out of memory, for example
            log.warning("cannot receive: %s", str(error).lower())
            await trio.sleep(_PAUSE_AFTER_FAILURE)
            return
        self._connections.used(request.pipe_id)
        try:
            answer = await handler(request.data)
        except Exception:
            log.exception("a request of %d bytes could not be handled", len(request.data))
            return
        if answer is None:
            return
        if len(answer) > self._max_message_bytes:
            log.error(
                "an answer of %d bytes is not sent: a message may have %d",
                len(answer),
                self._max_message_bytes,
            )
            return
        # Who has gone meanwhile gets no answer, and that is no error.
        if context.send_now(answer):
            return
        with trio.move_on_after(ANSWER_TIMEOUT) as scope:
            await context.finish_sending()
        if scope.cancelled_caught:
            log.warning("a connection takes no answers: closed")
            self._connections.close(request.pipe_id)

    def close(self) -> None:
        self._socket.close()
