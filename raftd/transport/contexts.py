"""A context of an nng socket (nng_ctx(5)): one message after the other, out and in.

pynng 0.9 has this as well, and it falls short here:
* nng_ctx_send(3) gives a message back when it could not be sent; pynng forgets it, and it leaks.
* A received message knows its connection; pynng looks that up in a table that it then lets grow.
* For each message it makes an asynchronous operation anew and wakes trio the long way, even when
  a message is sent at once. That was half of the processor time of a round trip.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pynng
import trio
from pynng import ffi, lib
from pynng._aio import _aio_map
from pynng.exceptions import check_err

from raftd.doorbell import doorbell

_PAUSES = (0.001, 0.05)
"""Seconds: the first, and the longest, between two looks whether a message has gone."""


class Received(NamedTuple):
    """A message, and nng's number for the connection it came by."""

    data: bytes
    pipe_id: int


class Context:
    """Of `socket`. For one task at a time."""

    def __init__(self, socket: pynng.Socket) -> None:
        self._context = socket.new_context()
        self._bell = doorbell()
        self._task: trio.lowlevel.Task | None = None  # who sends or receives
        self._closed = False
        # pynng calls back what _aio_map has for a number, once, from a thread of nng's.
        self._callback: Callable[[], None] = self._received
        self._number = id(self._callback)
        place = ffi.new("nng_aio **")
        check_err(
            lib.nng_aio_alloc(place, lib._async_complete, ffi.cast("void *", self._number))  # noqa: SLF001
        )
        self._receiving = place[0]
        check_err(lib.nng_aio_alloc(place, ffi.NULL, ffi.NULL))
        self._sending = place[0]
        self._message: pynng.Message | None = None

    async def send(self, data: bytes) -> None:
        """Raises pynng.NNGException; then, and when cancelled, nothing leaves any more."""
        if not self.send_now(data):
            await self.finish_sending()

    def send_now(self, data: bytes) -> bool:
        """True: it has left. False: the connection is full, `finish_sending` waits for it. Raises
        pynng.NNGException."""
        self._message = message = pynng.Message(data)
        lib.nng_aio_set_msg(self._sending, message._nng_msg)  # noqa: SLF001
        lib.nng_ctx_send(self._context.context, self._sending)
        if lib.nng_aio_busy(self._sending):
            return False
        self._sent()
        return True

    async def finish_sending(self) -> None:
        """As `send`."""
        self._task = trio.lowlevel.current_task()
        try:
            await self._wait_until_sent()
            self._sent()
        finally:
            self._ended()

    async def _wait_until_sent(self) -> None:
        """Cancelled only if it has not left."""
        pause = _PAUSES[0]
        try:
            while lib.nng_aio_busy(self._sending):
                await trio.sleep(pause)
                pause = min(2 * pause, _PAUSES[1])
        except trio.Cancelled:
            lib.nng_aio_cancel(self._sending)
            lib.nng_aio_wait(self._sending)
            if lib.nng_aio_result(self._sending) != 0:
                raise

    def _sent(self) -> None:
        """Sending has ended. If it failed, the message is ours again, to be freed with the object;
        raises why."""
        assert self._message is not None
        error = lib.nng_aio_result(self._sending)
        self._message._mem_freed = error == 0  # noqa: SLF001
        self._message = None
        check_err(error)

    async def receive(self) -> Received:
        """The next message. Raises pynng.NNGException."""
        self._task = trio.lowlevel.current_task()
        _aio_map[self._number] = self._callback
        try:
            check_err(lib.nng_ctx_recv(self._context.context, self._receiving))
            await self._wait()
            message = lib.nng_aio_get_msg(self._receiving)
        finally:
            self._ended()
        data = ffi.buffer(lib.nng_msg_body(message), lib.nng_msg_len(message))[:]
        pipe_id = lib.nng_pipe_id(lib.nng_msg_get_pipe(message))
        lib.nng_msg_free(message)
        return Received(data, pipe_id)

    def close(self) -> None:
        """Whatever it was waiting for ends with pynng.Closed. Closing twice, or behind the socket,
        is no error."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(pynng.Closed):
            self._context.close()
        if self._task is None:
            self._free()

    async def _wait(self) -> None:
        """For the operation to end, as whatever it may. Raises what it failed with."""
        raise_cancelled: Callable[[], Any] | None = None

        def abort(raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            nonlocal raise_cancelled
            raise_cancelled = raise_cancel
            lib.nng_aio_cancel(self._receiving)
            return trio.lowlevel.Abort.FAILED  # it ends soon, perhaps with a message

        await trio.lowlevel.wait_task_rescheduled(abort)
        error = lib.nng_aio_result(self._receiving)
        if error == lib.NNG_ECANCELED and raise_cancelled is not None:
            raise_cancelled()
        check_err(error)

    def _received(self) -> None:
        """In nng's thread: the operation has ended."""
        self._bell.ring(self._wake)

    def _wake(self) -> None:
        assert self._task is not None
        trio.lowlevel.reschedule(self._task)

    def _ended(self) -> None:
        self._task = None
        self._message = None
        if self._closed:
            self._free()

    def _free(self) -> None:
        _aio_map.pop(self._number, None)
        del self._callback  # it refers to this
        lib.nng_aio_free(self._receiving)
        lib.nng_aio_free(self._sending)
