"""One client's connection: calls are begun as they come, and their replies leave in the same order.

It is read by raftd.admin.intake. A call is begun in place; only one that waits for something of
its own has a task, so calls sent one behind the other overlap. They are begun in their order: the
driver sees writes as they were sent. When too much is in flight, reading stops until there is room.

A client that hangs up does not undo what it asked for: calls that are under way go on, streams end.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from raftd.admin import message, protocol
from raftd.admin.handlers.call import Call, Later, Reply
from raftd.admin.handlers.dispatch import Handlers, Method
from raftd.admin.intake import Intake
from raftd.admin.limits import Limits, Memory
from raftd.admin.message import Malformed
from raftd.admin.protocol import CallError
from raftd.admin.replies import OutOfMemory, Place, Replies
from raftd.admin.tasks import Tasks
from raftd.promise import Promise

_received = memoryview(bytearray(1 << 16))
_TURN = 64
"""calls that are begun before other connections get their turn"""


class Connection:
    """`sock` is connected and non-blocking; it is closed when `run` is over."""

    def __init__(
        self,
        sock: socket.socket,
        handlers: Handlers,
        caller: Call,
        limits: Limits,
        memory: Memory,
        intake: Intake,
    ) -> None:
        self._socket = sock
        self._handlers = handlers
        self._caller = caller
        self._limits = limits
        self._memory = memory
        self._intake = intake
        self._buffer = bytearray()  # the first part of a call
        self._began = 0.0  # when that came
        self._held = 0  # bytes of it that are counted
        self._pending: deque[bytes] = deque()  # calls that are not begun
        self._running = 0  # calls that are, and are not answered
        self._is_watched = False
        self._input_over = False
        self._over = trio.Event()
        self._failure: Exception | None = None
        self._nursery: trio.Nursery
        self._replies = Replies(
            sock, limits, memory, on_progress=self._progress, on_break=self.stop, spawn=self._spawn
        )
        self._tasks = Tasks(caller, self._replies, spawn=self._spawn, on_end=self._task_ended)

    async def run(self) -> None:
        """Until the client hangs up or breaks the rules, or `stop`; and its calls are done."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._watch(wanted=not self._input_over)
                await self._over.wait()
                if self._failure is not None:
                    raise self._failure
        finally:
            self._input_over = True
            self._watch(wanted=False)
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._memory.take(-self._held)
            self._replies.close()

    def stop(self) -> None:
        """Begin no more calls; those that are under way are still answered, streams end."""
        self._end_of_input()
        self._tasks.end_streams()
        self._intake.soon(self)

    def look(self, now: float) -> bool:
        """Is the client still there, and does it go on with what it has begun?"""
        if self._tasks.has_streams and not self._is_watched and _has_hung_up(self._socket):
            self._tasks.end_streams()
        seconds = self._limits.message_timeout
        if self._buffer and self._is_watched and now > self._began + seconds:
            self._refuse_bytes(f"a call was not complete {seconds:g} s after its first byte")
        return self._tasks.has_streams or bool(self._buffer and not self._input_over)

    def read(self) -> None:
        try:
            self._go_on(self._receive())
        except Exception as error:
            self._fail(error)

    def proceed(self) -> None:
        try:
            self._go_on(b"")
        except Exception as error:
            self._fail(error)

    def _receive(self) -> bytes:
        """What the socket has; nothing once the input is over."""
        if self._input_over:
            return b""
        try:
            # Into a buffer that all share: to make one of that size for each call costs more.
            size = self._socket.recv_into(_received)
        except BlockingIOError:
            return b""
        except OSError:
            size = 0
        if size == 0:
            if self._buffer:
                self._refuse_bytes("the last call has no NUL byte at its end")
            else:
                self._end_of_input()
        return _received[:size].tobytes()

    def _go_on(self, chunk: bytes) -> None:
        """Begin calls, send replies, and see what there is to wait for now."""
        try:
            if chunk:
                self._take(chunk)
            if self._pending:
                self._begin_some()
        except Malformed as error:
            self._refuse_bytes(str(error))
        except OutOfMemory:
            reason = "too many large calls at once; try again a little later"
            self._refuse(CallError(protocol.BUSY, {"reason": reason}))
        self._replies.flush()
        if self._replies.waiting:
            self._replies.resume()
        if self._pending or self._input_over or not self._is_watched:
            self._see_what_next()

    def _see_what_next(self) -> None:
        if self._pending and self._room() > 0:
            self._intake.soon(self)
        self._watch(wanted=not (self._input_over or self._pending))
        if self._input_over and not (self._pending or self._running or self._replies.is_busy):
            self._over.set()

    # ---- calls in

    def _take(self, chunk: bytes) -> None:
        if not self._buffer and chunk.find(0) == len(chunk) - 1:
            self._pending.append(chunk[:-1])  # one whole call, as it mostly is
            return
        if not self._buffer:
            self._began = trio.current_time()
            self._intake.look_after(self)
        self._buffer += chunk
        if 0 in chunk:
            *calls, rest = bytes(self._buffer).split(b"\0")
            self._pending.extend(calls)
            self._buffer = bytearray(rest)
            self._began = trio.current_time()
        self._check_size(len(self._buffer))
        if not self._memory.take(len(self._buffer) - self._held):
            raise OutOfMemory
        self._held = len(self._buffer)

    def _check_size(self, size: int) -> None:
        if size > self._limits.message_bytes:
            raise Malformed(f"a call has more than {self._limits.message_bytes} bytes")

    def _begin_some(self) -> None:
        pending, replies, most = self._pending, self._replies, self._limits.message_bytes
        room = min(_TURN, self._room())
        while room > 0 and pending and replies.held < most:
            room -= 1
            self._begin(pending.popleft())

    def _room(self) -> int:
        """How many calls may be begun now; each takes no more than one of these places."""
        if self._replies.held >= self._limits.message_bytes:
            return 0
        return self._limits.in_flight - max(len(self._replies.places), self._running)

    def _begin(self, data: bytes) -> None:
        """Answer a call, or begin to. Raises Malformed, OutOfMemory."""
        size = len(data)
        self._check_size(size)
        call = message.decode(data)
        replies = self._replies
        try:
            method = self._handlers.method(call.method, upgrade=call.upgrade)
            arguments = method.arguments(call.parameters)
        except CallError as error:
            place = replies.take_place(size, oneway=call.oneway is True)
            replies.fill(place, message.encode_error(error))
            return
        place = replies.take_place(size, oneway=call.oneway is True)
        if method.needs_task:
            self._running += 1
            self._tasks.begin(place, method, arguments, stream=call.more is True)
            if self._tasks.has_streams:
                self._intake.look_after(self)
            return
        try:
            answer = method.handler(self._caller, *arguments)
        except Exception as error:
            replies.fill(place, message.encode_error(method.failure(error)))
            return
        if isinstance(answer, Later):
            self._running += 1
            answer.promise.taker = place
            answer.promise.when_done(partial(self._done, place, method, answer.to_reply))
        else:
            replies.fill(place, message.encode({"parameters": answer}))

    def _done(
        self, place: Place, method: Method, to_reply: Callable[[Any], Reply], promise: Promise[Any]
    ) -> None:
        """What a call has waited for is there."""
        self._running -= 1
        try:
            failed = promise.error
            try:
                if failed is not None:
                    data = message.encode_error(method.failure(failed))
                else:
                    data = message.encode({"parameters": to_reply(promise.result())})
            except Exception as error:
                data = message.encode_error(method.failure(error))
            self._replies.fill(place, data)
            if len(self._replies.places) == 1 and not self._pending:
                self._replies.flush()  # no other can go with it
            else:
                self._intake.soon(self)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """A bug of ours, wherever it showed: `run` raises it."""
        self._failure = error
        self._over.set()

    def _refuse_bytes(self, reason: str) -> None:
        self._refuse(CallError(protocol.PROTOCOL_ERROR, {"reason": reason}))

    def _refuse(self, error: CallError) -> None:
        """The last reply there is: nothing more is read."""
        self._replies.fill(self._replies.take_place(0), message.encode_error(error))
        self._end_of_input()
        self._tasks.end_streams()  # they could keep that reply waiting for ever
        self._intake.soon(self)

    def _end_of_input(self) -> None:
        self._input_over = True
        self._pending.clear()

    def _watch(self, *, wanted: bool) -> None:
        if wanted and not self._is_watched:
            self._intake.watch(self._socket, self)
        elif self._is_watched and not wanted:
            self._intake.unwatch(self._socket)
        self._is_watched = wanted

    def _task_ended(self) -> None:
        self._running -= 1
        self._intake.soon(self)

    def _progress(self) -> None:
        """There may be room for more calls, and answers."""
        if self._pending or self._input_over or self._replies.waiting:
            self._intake.soon(self)

    def _spawn(self, function: Callable[..., Any], *args: object) -> None:
        self._nursery.start_soon(function, *args)


def _has_hung_up(sock: socket.socket) -> bool:
    """poll(2): POLLHUP is both directions; a client that only stopped sending may still read."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))
