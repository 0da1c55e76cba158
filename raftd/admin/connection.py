"""One client's connection: calls are begun as they come, and their replies leave in the same order.

A call that is answered quickly costs no task; any other runs in one of its own, so that calls sent
one behind the other overlap. They are begun in their order all the same: the driver sees writes as
they were sent. When too much is in flight, reading stops until there is room.

A client that hangs up does not undo what it asked for: calls that are under way go on, streams end.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import trio

from raftd.admin import message, protocol
from raftd.admin.handlers.call import Call, Reply
from raftd.admin.handlers.dispatch import Handlers, Method
from raftd.admin.limits import Limits, Memory
from raftd.admin.message import Malformed
from raftd.admin.protocol import CallError
from raftd.admin.replies import OutOfMemory, Place, Replies

_RECEIVE_BYTES = 1 << 16
_TURN = 64
"""calls that are begun before other tasks get their turn"""
_LOOK_EVERY = 5.0
"""seconds between looks whether the client is still there, while nothing is read from it"""


class _Waiting:
    """A call whose task has not begun. `scope`: a stream's, which ends it."""

    __slots__ = ("arguments", "method", "place", "scope")

    def __init__(self, place: Place, method: Method, arguments: Mapping[str, Any]) -> None:
        self.place = place
        self.method = method
        self.arguments = arguments
        self.scope: trio.CancelScope | None = None


class Connection:
    """`sock` is connected and non-blocking; it is closed when `run` is over."""

    def __init__(
        self, sock: socket.socket, handlers: Handlers, caller: Call, limits: Limits, memory: Memory
    ) -> None:
        self._socket = sock
        self._handlers = handlers
        self._caller = caller
        self._limits = limits
        self._memory = memory
        self._buffered = 0  # bytes of calls that are not begun
        self._waiting: deque[_Waiting] = deque()
        self._running = 0  # calls that have a task
        self._streams: set[trio.CancelScope] = set()
        self._progress = trio.Event()
        self._reading = trio.CancelScope()
        self._calls: trio.Nursery
        self._replies = Replies(
            sock, limits, memory, on_progress=self._note_progress, on_break=self.stop
        )

    async def run(self) -> None:
        """Until the client hangs up or breaks the rules, or `stop`; and its calls are done."""
        try:
            async with trio.open_nursery() as self._calls:
                with self._reading:
                    await self._read()
                while self._streams:
                    await self._wait_for_progress()
        finally:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._memory.take(-self._buffered)
            self._replies.close()

    def stop(self) -> None:
        """Begin no more calls; those that are under way are still answered, streams end."""
        self._reading.cancel()
        self._end_streams()

    async def _read(self) -> None:
        buffer = bytearray()
        began = trio.current_time()
        try:
            while chunk := await self._receive(began if buffer else None):
                if not buffer:
                    began = trio.current_time()
                buffer += chunk
                if 0 in chunk:
                    *calls, buffer = buffer.split(b"\0")
                    await self._begin_all(calls)
                    began = trio.current_time()
                self._hold_buffer(len(buffer))
            if buffer:
                await self._refuse_bytes("the last call has no NUL byte at its end")
        except Malformed as error:
            await self._refuse_bytes(str(error))
        except OutOfMemory:
            reason = "too many large calls at once; try again a little later"
            await self._refuse(CallError(protocol.BUSY, {"reason": reason}))

    async def _receive(self, began: float | None) -> bytes:
        """Some bytes, none at the end. Raises Malformed for a call that `began` too long ago."""
        while True:
            if began is None:
                await trio.lowlevel.wait_readable(self._socket)
            else:
                seconds = self._limits.message_timeout
                with trio.move_on_at(began + seconds) as scope:
                    await trio.lowlevel.wait_readable(self._socket)
                if scope.cancelled_caught:
                    raise Malformed(f"a call was not complete {seconds:g} s after its first byte")
            try:
                return self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return b""

    def _hold_buffer(self, size: int) -> None:
        self._check_size(size)
        if not self._memory.take(size - self._buffered):
            raise OutOfMemory
        self._buffered = size

    def _check_size(self, size: int) -> None:
        if size > self._limits.message_bytes:
            raise Malformed(f"a call has more than {self._limits.message_bytes} bytes")

    async def _begin_all(self, calls: Sequence[bytearray]) -> None:
        for number, data in enumerate(calls, 1):
            if not self._has_room():
                await self._replies.flush()
                while not self._has_room():
                    await self._wait_for_progress()
            self._begin(data)
            if number % _TURN == 0:
                await self._replies.flush()
                await trio.lowlevel.checkpoint()
        await self._replies.flush()

    def _has_room(self) -> bool:
        return (
            len(self._replies) < self._limits.in_flight
            and self._running < self._limits.in_flight
            and self._replies.held < self._limits.message_bytes
        )

    def _begin(self, data: bytearray) -> None:
        """Answer a call, or begin to. Raises Malformed, OutOfMemory."""
        self._check_size(len(data))
        call = message.decode(data)
        reply: bytes | None = None
        try:
            method = self._handlers.method(call.method, upgrade=call.upgrade)
            arguments = method.arguments(call.parameters)
            if method.quick:
                reply = message.encode({"parameters": method.answer(self._caller, arguments)})
        except CallError as error:
            reply = message.encode_error(error)
        place = self._replies.take_place(len(data), oneway=bool(call.oneway))
        if reply is not None:
            self._replies.fill(place, reply)
            return
        self._running += 1
        waiting = _Waiting(place, method, arguments)
        if call.more and not call.oneway:
            waiting.scope = trio.CancelScope()
            self._streams.add(waiting.scope)
        self._waiting.append(waiting)
        self._calls.start_soon(self._answer_next)

    async def _refuse_bytes(self, reason: str) -> None:
        await self._refuse(CallError(protocol.PROTOCOL_ERROR, {"reason": reason}))

    async def _refuse(self, error: CallError) -> None:
        """The last reply there is: nothing more is read."""
        self._replies.fill(self._replies.take_place(0), message.encode_error(error))
        await self._replies.flush()
        self._end_streams()  # they could keep that reply waiting for ever

    async def _answer_next(self) -> None:
        # Trio starts tasks in any order. Whichever is first takes the call that is.
        call = self._waiting.popleft()
        if call.scope is None:
            await self._answer(call, self._caller)
        else:
            await self._stream(call, call.scope)

    async def _answer(self, call: _Waiting, caller: Call) -> None:
        try:
            reply = await call.method.answer_later(caller, call.arguments)
            data = message.encode({"parameters": reply})
        except CallError as error:
            data = message.encode_error(error)
        finally:
            self._running -= 1
            self._note_progress()
        self._replies.fill(call.place, data)
        await self._replies.flush(gather=self._running > 0)

    async def _stream(self, call: _Waiting, scope: trio.CancelScope) -> None:
        send = partial(self._send_part, call.place)
        with scope:
            await self._answer(call, Call(self._caller.uid, self._caller.privileged, send))
        self._streams.discard(scope)
        self._note_progress()
        if scope.cancelled_caught:
            self._replies.break_off()  # its place stays empty: nothing behind it can be sent

    async def _send_part(self, place: Place, reply: Reply) -> None:
        part = message.encode({"parameters": reply, "continues": True})
        await self._replies.send_part(place, part)

    def _end_streams(self) -> None:
        for scope in self._streams:
            scope.cancel()

    def _note_progress(self) -> None:
        self._progress.set()

    async def _wait_for_progress(self) -> None:
        """Wait until there may be room, or fewer streams. Streams to nobody end."""
        if self._streams and _has_hung_up(self._socket):
            self._end_streams()
        self._progress = trio.Event()
        with trio.move_on_after(_LOOK_EVERY):
            await self._progress.wait()


def _has_hung_up(sock: socket.socket) -> bool:
    """poll(2): POLLHUP is both directions; a client that only stopped sending may still read."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))
