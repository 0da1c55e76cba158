"""The calling end of a connection: one Req0 socket to one peer, a context for each call.

nng connects by itself and again after a loss, but three things it leaves to us:
* A request made without a connection would wait in nng and might leave much later. It fails at
  once.
* A connection whose packets vanish looks alive to TCP for many minutes, and so does an attempt to
  connect. When a call has timed out and nothing has come back since it was sent, or an attempt has
  taken REDIAL_AFTER seconds, dial anew.
* After a lost connection nng would send a request again; with resend_time -1 it never does.
"""

from __future__ import annotations

import pynng
import trio

REDIAL_AFTER = 1.0
"""Seconds after which an attempt to connect is given up for another one."""
RECONNECT_MS = (20, 500)
"""nng's first and longest pause between two attempts to connect."""


class Unreachable(Exception):
    """No answer; the message says why. `sent` is False if the request certainly never left."""

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent


class Peer:
    """`address`: a URL like tcp://192.0.2.7:7001."""

    def __init__(self, address: str, max_message_bytes: int) -> None:
        self.address = address
        self._socket = pynng.Req0(
            resend_time=-1,
            recv_max_size=max_message_bytes,
            reconnect_time_min=RECONNECT_MS[0],
            reconnect_time_max=RECONNECT_MS[1],
        )
        self._idle: list[pynng.Context] = []
        self._dialer: pynng.Dialer | None = None
        self._dialed = 0.0
        self._last_answer = float("-inf")
        self._dial()

    async def call(self, request: bytes, timeout: float) -> bytes:
        """The answer. Raises Unreachable, at the latest after `timeout` seconds."""
        self._check_connection()
        context = self._idle.pop() if self._idle else self._socket.new_context()
        sent = False
        answer: bytes | None = None
        began = trio.current_time()
        try:
            with trio.move_on_after(timeout):
                await context.asend(request)
                sent = True
                answer = await context.arecv()
        except pynng.NNGException as error:
            raise Unreachable(f"connection lost: {error}", sent=sent) from error
        finally:
            # A context that did not finish its call may still get the answer to it.
            if answer is None:
                context.close()
            else:
                self._idle.append(context)
        if answer is None:
            if self._last_answer < began and self._dialed < began:
                self._dial()
            raise Unreachable(f"no answer within {timeout:.1f} s", sent=sent)
        self._last_answer = trio.current_time()
        return answer

    def close(self) -> None:
        self._socket.close()

    def _check_connection(self) -> None:
        if self._socket.pipes:
            return
        if trio.current_time() - self._dialed > REDIAL_AFTER:
            self._dial()
        raise Unreachable("not connected", sent=False)

    def _dial(self) -> None:
        if self._dialer is not None:
            self._dialer.close()
        # Never block: a dial that waits for a peer that is cut off would stop the event loop.
        self._dialer = self._socket.dial(self.address, block=False)
        self._dialed = trio.current_time()
