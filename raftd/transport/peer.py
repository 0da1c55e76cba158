"""The calling end: one Req0 socket to one peer, a context for each call under way.

nng connects by itself and again after a loss, but three things it leaves to us:
* A request made without a connection would wait in nng and might leave much later. It fails at
  once.
* A connection whose packets vanish looks alive to TCP for many minutes, and so does an attempt to
  connect. When calls time out and nothing has come back for a while, dial anew; when an attempt to
  connect takes long, make another, each time a little more patient.
* After a lost connection nng would send a request again; with resend_time -1 it never does.
"""

from __future__ import annotations

import logging

import pynng
import trio

from raftd.transport.connections import Connections
from raftd.transport.contexts import Context

log = logging.getLogger("raftd.transport")

SILENCE = 1.0
"""Seconds without any answer to calls after which a connection is taken for dead."""
PATIENCE = (1.0, 6.0)
"""Seconds for the first attempt to connect, and at most: a name server may need more than 5."""
RECONNECT_MS = (20, 500)
"""nng's first and longest pause between two attempts to connect that were refused."""
_IDLE_LIMIT = 8
_CONNECTIONS = 4
"""One, and others that are about to go."""
_ROUTING_BYTES = 64
"""Room for nng's own request header, which counts as part of a message."""


class Unreachable(Exception):
    """No answer; the message says why. `sent` is False if the request certainly never left."""

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent


class Peer:
    """`name` is for messages; `address` is a URL like tcp://192.0.2.7:7001."""

    def __init__(self, name: str, address: str, max_message_bytes: int) -> None:
        self.address = address
        self._who = f"{name} ({address})"
        self._max_message_bytes = max_message_bytes
        self._socket = pynng.Req0(
            resend_time=-1,
            recv_max_size=max_message_bytes + _ROUTING_BYTES,
            reconnect_time_min=RECONNECT_MS[0],
            reconnect_time_max=RECONNECT_MS[1],
        )
        self._connections = Connections(self._socket, _CONNECTIONS)
        self._idle: list[Context] = []
        self._dialer: pynng.Dialer | None = None
        self._dialed = 0.0
        self._patience = PATIENCE[0]
        self._unanswered_since: float | None = None
        self._closed = False
        self._dial()

    async def call(self, request: bytes, timeout: float) -> bytes:
        """The answer. Raises Unreachable, at the latest after `timeout` seconds."""
        self._check(request)
        if self._unanswered_since is None:
            self._unanswered_since = trio.current_time()
        sent = False
        answer: bytes | None = None
        context = self._idle.pop() if self._idle else Context(self._socket)
        try:
            with trio.move_on_after(timeout):
                await context.send(request)
                sent = True
                answer = (await context.receive()).data
        except pynng.NNGException as error:
            raise Unreachable(
                f"the connection to {self._who} was lost: {str(error).lower()}", sent=sent
            ) from error
        finally:
            self._give_back(context, reusable=answer is not None)
        if answer is None:
            since = self._unanswered_since
            if since is not None and trio.current_time() - since >= SILENCE:
                self._dial()
            raise Unreachable(f"{self._who} did not answer within {timeout:.1f} s", sent=sent)
        self._unanswered_since = None
        self._patience = PATIENCE[0]
        return answer

    def close(self) -> None:
        """Calls under way fail."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        self._socket.close()

    def _check(self, request: bytes) -> None:
        """Raises Unreachable if there is no use in trying."""
        if len(request) > self._max_message_bytes:
            raise Unreachable(
                f"a message of {len(request)} bytes is too large for {self._who}", sent=False
            )
        if self._dialer is None:
            raise Unreachable(f"{self._who} has an address that makes no sense", sent=False)
        if not self._connections:
            if trio.current_time() - self._dialed > self._patience:
                self._patience = min(2 * self._patience, PATIENCE[1])
                self._dial()
            raise Unreachable(f"{self._who} is not connected", sent=False)

    def _dial(self) -> None:
        if self._closed:
            return
        if self._dialer is not None:
            self._dialer.close()
            self._dialer = None
        self._dialed = trio.current_time()
        self._unanswered_since = None
        try:
            # Never block: a dial that waits for a peer that is cut off would stop the event loop.
            # Host names are looked up in nng's own threads.
            self._dialer = self._socket.dial(self.address, block=False)
        except pynng.NNGException as error:
            log.warning("cannot connect to %s: %s", self._who, str(error).lower())

    def _give_back(self, context: Context, *, reusable: bool) -> None:
        """A context that has not finished its call might still be sent the answer to it."""
        if reusable and not self._closed and len(self._idle) < _IDLE_LIMIT:
            self._idle.append(context)
        else:
            context.close()
