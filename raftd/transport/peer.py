"""The calling end: one Req0 socket to one peer, a context for each call under way.

nng connects by itself and again after a loss, but three things it leaves to us:
* A request made without a connection would wait in nng and might leave much later. It fails at
  once.
* A connection whose packets vanish looks alive to TCP for many minutes, and so does an attempt to
  connect. When calls time out and nothing has come back for a while, dial anew; when an attempt to
  connect takes long, make another, each time a little more patient. A slow link is not a dead one:
  what is on its way has time in proportion to its size.
* After a lost connection nng would send a request again; with resend_time -1 it never does.
"""

from __future__ import annotations

import logging

import pynng
import trio

from raftd.address import AddressError, parse
from raftd.credentials import Credentials
from raftd.promise import Promise
from raftd.transport import tls
from raftd.transport.connections import Connections
from raftd.transport.contexts import Context
from raftd.transport.timers import Timers
from raftd.transport.trial import trouble_with

log = logging.getLogger("raftd.transport")

SILENCE = 1.0
"""Seconds without any answer to calls after which a connection is taken for dead."""
PACE = 64 << 10
"""Bytes a second that a link is taken to carry."""
SLOWEST = 4 << 10
"""The same, where what takes long has failed again and again, and yet there is a connection."""
PATIENCE = (1.0, 6.0)
"""Seconds for the first attempt to connect, and at most: a name server may need more than 5."""
RECONNECT_MS = (20, 500)
"""nng's first and longest pause between two attempts to connect that were refused."""
_IDLE_LIMIT = 8
_NO_CREDENTIALS = "it takes encrypted connections only, and this node has no [tls]"
_CONNECTIONS = 4
"""One, and others that are about to go."""
_ROUTING_BYTES = 64
"""Room for nng's own request header, which counts as part of a message."""


class Unreachable(Exception):
    """No answer; the message says why. `sent` is False if the request certainly never left."""

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent


class Line:
    """A context, and the call that it carries now."""

    def __init__(self, peer: Peer, socket: pynng.Socket) -> None:
        self._peer = peer
        self._context = Context(socket, self._answered, self._lost)
        self._promise: Promise[bytes]
        self._timeout = 0.0
        self.bulk = False
        self.size = 0
        self.due = 0.0

    def call(self, request: bytes, timeout: float, *, bulk: bool) -> Promise[bytes]:
        self._timeout = timeout
        self.bulk = bulk
        self.size = len(request)
        self.due = trio.current_time() + timeout
        promise = self._promise = Promise()
        try:
            self._context.send(request)
            self._context.receive()
        except pynng.NNGException as error:
            self._lost(error)
        return promise

    def look(self, now: float) -> None:
        """Its time is over."""
        del now
        sent = self._context.stop_sending()
        self._peer.unanswered(self)
        why = f"{self._peer.who} did not answer within {self._timeout:.1f} s"
        self._promise.fail(Unreachable(why, sent=sent))

    def close(self) -> None:
        self._context.close()

    def end(self) -> None:
        """The peer is given up."""
        self._lost(pynng.Closed("Object closed", 0))

    def _answered(self, answer: bytes, _: int) -> None:
        promise = self._promise
        self._peer.answered(self)
        promise.set(answer)

    def _lost(self, error: pynng.NNGException) -> None:
        sent = self._context.stop_sending()
        self._peer.lost(self)
        why = f"the connection to {self._peer.who} was lost: {str(error).lower()}"
        self._promise.fail(Unreachable(why, sent=sent))


class Peer:
    """`name` is for messages, and for the certificate of who answers at `address`, a URL like
    tcp://192.0.2.7:7001, if that is tls+tcp://."""

    def __init__(
        self,
        name: str,
        address: str,
        max_message_bytes: int,
        timers: Timers,
        credentials: Credentials | None = None,
    ) -> None:
        self.address = address
        self.who = f"{name} ({address})"
        self._max_message_bytes = max_message_bytes
        self._timers = timers
        self._socket = pynng.Req0(
            resend_time=-1,
            recv_max_size=max_message_bytes + _ROUTING_BYTES,
            reconnect_time_min=RECONNECT_MS[0],
            reconnect_time_max=RECONNECT_MS[1],
        )
        self._name = name
        self._credentials = credentials
        self._is_encrypted = address.startswith(tls.SCHEME)
        self._lacks_credentials = self._is_encrypted and credentials is None
        if self._is_encrypted and credentials is not None:
            self._socket.tls_config = tls.dialling(credentials, name)
        self.trouble = _NO_CREDENTIALS if self._lacks_credentials else None
        """Why there is no connection, if that is known."""
        self._said_trouble = False
        self._connections = Connections(self._socket, _CONNECTIONS)
        self._idle: list[Line] = []
        self._busy: set[Line] = set()
        self.under_way = 0
        """Bytes of the requests that have no answer yet."""
        self._dialer: pynng.Dialer | None = None
        self._dialed = 0.0
        self._patience = PATIENCE[0]
        self._pace = PACE
        self._unanswered_since: float | None = None
        self._closed = False
        self._dial()

    def call(self, request: bytes, timeout: float, *, bulk: bool = False) -> Promise[bytes]:
        """The answer; fails with Unreachable, at the latest after `timeout` seconds. With `bulk`
        the bytes on their way, these included, may take their time besides."""
        refused = self.refusal(request)
        if refused is not None:
            return Promise.failed(Unreachable(refused, sent=False))
        if self._unanswered_since is None:
            self._unanswered_since = trio.current_time()
        line = self._idle.pop() if self._idle else Line(self, self._socket)
        self._busy.add(line)
        self.under_way += len(request)
        if bulk:
            timeout += self.under_way / self._pace
        promise = line.call(request, timeout, bulk=bulk)
        if not promise.is_done:
            self._timers.watch(line)
        return promise

    def answered(self, line: Line) -> None:
        self._unanswered_since = None
        self._patience = PATIENCE[0]
        if line.bulk and self._pace < PACE:
            self._pace = min(2 * self._pace, PACE)
        self._ended(line)
        if not self._closed and len(self._idle) < _IDLE_LIMIT:
            self._idle.append(line)
        else:
            line.close()

    def unanswered(self, line: Line) -> None:
        since = self._unanswered_since
        silence = SILENCE + self.under_way / self._pace
        if line.bulk:
            self._pace = max(self._pace // 2, SLOWEST)
        if since is not None and trio.current_time() - since >= silence:
            self._dial()
        self.lost(line)

    def lost(self, line: Line) -> None:
        """A context that has not finished its call might still be sent the answer to it."""
        self._ended(line)
        line.close()

    async def look_for_trouble(self) -> None:
        """If it is not connected, find out why, and say it."""
        if self._lacks_credentials:
            return
        if self._connections:
            if self._said_trouble:
                log.info("connected to %s again", self.who)
            self._said_trouble = False
            self.trouble = None
            return
        try:
            where = parse(self.address)
        except AddressError:
            return  # `_refusal` says so
        client = self._credentials.client if self._credentials and self._is_encrypted else None
        trouble = await trouble_with(where, client, self._name)
        if trouble is not None and trouble != self.trouble and not self._connections:
            log.warning("cannot connect to %s: %s", self.who, trouble)
            self._said_trouble = True
        self.trouble = trouble

    def close(self) -> None:
        """Calls under way fail."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        for line in list(self._busy):
            line.end()
        self._socket.close()

    def _ended(self, line: Line) -> None:
        if line in self._busy:
            self._busy.remove(line)
            self.under_way -= line.size
        self._timers.forget(line)

    def refusal(self, request: bytes) -> str | None:
        """Why there is no use in trying."""
        if len(request) > self._max_message_bytes:
            return f"a message of {len(request)} bytes is too large for {self.who}"
        if self._lacks_credentials:
            return f"{self.who}: {self.trouble}"
        if self._dialer is None:
            return f"{self.who} has an address that makes no sense"
        if not self._connections:
            if trio.current_time() - self._dialed > self._patience:
                self._patience = min(2 * self._patience, PATIENCE[1])
                self._pace = PACE  # it is not slow, it is away
                self._dial()
            return f"{self.who} is not connected{f': {self.trouble}' if self.trouble else ''}"
        return None

    def _dial(self) -> None:
        if self._closed or self._lacks_credentials:
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
            log.warning("cannot connect to %s: %s", self.who, str(error).lower())
