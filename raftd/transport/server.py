"""The answering end: one Rep0 socket, served by several contexts at a time.

Whatever comes in is given to a handler, and whatever the handler returns goes back. nng itself
closes a connection that does not speak its protocol or announces too large a message; one that does
not take its answers is closed here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import pynng
import trio

from raftd.credentials import Credentials
from raftd.promise import Promise
from raftd.transport import tls
from raftd.transport.connections import Connections
from raftd.transport.contexts import Context
from raftd.transport.timers import PAUSES, Timers

log = logging.getLogger("raftd.transport")

Handler = Callable[[bytes, str | None], Promise[bytes | None]]
"""A request, and whose certificate it came with, if there is TLS -> the answer to it."""

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


class Receiver:
    """A context, and the request that it brings or the answer that it takes now."""

    def __init__(self, server: Server, socket: pynng.Socket, handler: Handler) -> None:
        self._server = server
        self._handler = handler
        self._context = Context(socket, self._received, self._failed)
        self._pipe_id = 0
        self._deadline = 0.0
        self._pause = 0.0
        self.due = 0.0
        self._context.receive()

    def close(self) -> None:
        self._context.close()

    def look(self, now: float) -> None:
        """While the connection is full; and a while after nothing could be received."""
        try:
            done = self._context.has_sent()
        except pynng.NNGException:
            done = True  # it has gone
        if not done and now < self._deadline:
            self._pause = min(2 * self._pause, PAUSES[1])
            self.due = now + self._pause
            return
        if not done:
            log.warning("a connection takes no answers: closed")
            self._context.stop_sending()
            self._server.connections.close(self._pipe_id)
        self._next()

    def _next(self) -> None:
        self._server.timers.forget(self)
        self._context.receive()

    def _wait(self, pause: float) -> None:
        self._pause = pause
        self.due = trio.current_time() + pause
        self._server.timers.watch(self)

    def _failed(self, error: pynng.NNGException) -> None:
        if isinstance(error, pynng.Closed):
            self._context.close()
        else:  # out of memory, for example
            log.warning("cannot receive: %s", str(error).lower())
            self._wait(_PAUSE_AFTER_FAILURE)

    def _received(self, request: bytes, pipe_id: int) -> None:
        self._pipe_id = pipe_id
        self._server.connections.used(pipe_id)
        try:
            promise = self._handler(request, self._server.sender_by(pipe_id))
        except Exception as error:
            promise = Promise.failed(error)
        promise.when_done(self._answer)

    def _answer(self, promise: Promise[bytes | None]) -> None:
        try:
            answer = promise.result()
        except Exception:
            log.exception("a request could not be handled")
            answer = None
        if answer is not None and len(answer) > self._server.max_message_bytes:
            log.error(
                "an answer of %d bytes is not sent: a message may have %d",
                len(answer),
                self._server.max_message_bytes,
            )
            answer = None
        try:
            if answer is not None and not self._context.send(answer):
                self._deadline = trio.current_time() + ANSWER_TIMEOUT
                self._wait(PAUSES[0])
                return
        except pynng.NNGException:
            pass  # who has gone meanwhile gets no answer
        self._context.receive()


class Server:
    """Answers requests at one address. Messages have at most `max_message_bytes`."""

    def __init__(
        self,
        timers: Timers,
        *,
        max_message_bytes: int,
        max_connections: int = MAX_CONNECTIONS,
        credentials: Credentials | None = None,
    ) -> None:
        self.timers = timers
        self.max_message_bytes = max_message_bytes
        self._socket = pynng.Rep0(recv_max_size=max_message_bytes + _ROUTING_BYTES)
        self.connections = Connections(self._socket, max_connections)
        self._credentials = credentials
        self._is_encrypted = False
        self._receivers: list[Receiver] = []

    async def listen(self, address: str) -> str:
        """Returns the address with its port, if that was 0. Raises AddressInUse, CannotListen."""
        try:
            if address.startswith(tls.SCHEME):
                assert self._credentials is not None, "the configuration sees to that"
                self._socket.tls_config = tls.listening(self._credentials)
                self._is_encrypted = True
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
        except pynng.TryAgain as error:
            raise CannotListen(
                f"cannot listen on {address}: the name cannot be looked up now. Is it right, and"
                " does the name server answer? An IP address needs none"
            ) from error
        except pynng.NNGException as error:
            raise CannotListen(f"cannot listen on {address}: {str(error).lower()}") from error
        return str(listener.url)

    def answer(self, handler: Handler, receivers: int) -> None:
        """Handle so many requests at a time, until closed."""
        self._receivers = [Receiver(self, self._socket, handler) for _ in range(receivers)]

    def sender_by(self, pipe_id: int) -> str | None:
        """Who sends by this connection, if it is encrypted: empty if that has become unknown."""
        return self.connections.name_of(pipe_id) or "" if self._is_encrypted else None

    def close(self) -> None:
        for receiver in self._receivers:
            receiver.close()
        self._socket.close()
