"""The replies of one connection: filled in any order, sent in the order of the calls.

Each call has a `Place` in a queue. `flush` sends all that is ready, in one write; what the socket
does not take at once is left to a task. A stream sends its parts directly, once its place is the
first. What calls and replies hold of the memory is counted here. An answer that need not be made
before there is room for it waits until enough of those before it are sent.
"""

from __future__ import annotations

import heapq
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from raftd.admin.limits import Limits, Memory

logger = logging.getLogger("raftd.admin")


_FEW = 64 << 10
"""bytes of replies that are no reason to look any further"""
_RESUMED = 32
"""answers at a time; they may be too many for the room that is found"""


class OutOfMemory(Exception):
    """All connections together hold as many bytes as they may."""


class Place(msgspec.Struct, eq=False):
    """`size`: bytes of the call, then of its reply. A `oneway` call has no reply.

    A raftd.promise.Taker."""

    number: int
    size: int
    oneway: bool
    replies: Replies
    reply: bytes | None = None
    turn: trio.Event | None = None

    @property
    def is_gone(self) -> bool:
        return self.replies.broken

    @property
    def has_room(self) -> bool:
        replies = self.replies
        if replies.unsent < _FEW and not (replies.broken or replies.waiting):
            return True
        return replies.has_room(self)

    def when_room(self, resume: Callable[[], None]) -> None:
        heapq.heappush(self.replies.waiting, (self.number, self, resume))


class Replies:
    """`on_progress` is called when there is more room, `on_break` when no reply can be sent now or
    later; `spawn` starts a task."""

    def __init__(
        self,
        sock: socket.socket,
        limits: Limits,
        memory: Memory,
        *,
        on_progress: Callable[[], None],
        on_break: Callable[[], None],
        spawn: Callable[..., Any],
    ) -> None:
        self.places: deque[Place] = deque()
        """of all calls whose reply is not sent, in their order"""
        self.held = 0
        """bytes of calls that are under way, and of replies"""
        self.unsent = 0
        """bytes of replies"""
        self.waiting: list[tuple[int, Place, Callable[[], None]]] = []
        """places whose answers are made when there is room: a heap, in the order of the calls"""
        self.broken = False
        self._socket = sock
        self._limits = limits
        self._memory = memory
        self._on_progress = on_progress
        self._on_break = on_break
        self._spawn = spawn
        self._sending = False
        self._calls = 0

    @property
    def is_busy(self) -> bool:
        """There is something to send, now or later."""
        return self._sending or bool(self.places)

    def take_place(self, size: int, *, oneway: bool = False) -> Place:
        """At the end of the queue, for a call of `size` bytes. Raises OutOfMemory."""
        if not self._memory.take(size):
            raise OutOfMemory
        self.held += size
        self._calls += 1
        place = Place(self._calls, size, oneway, self)
        if not oneway:
            self.places.append(place)
        return place

    def fill(self, place: Place, reply: bytes) -> None:
        if place.oneway or self.broken:
            self._release(place.size)
        elif self._take(len(reply) - place.size):
            place.size = len(reply)
            place.reply = reply
            self.unsent += len(reply)

    def has_room(self, place: Place) -> bool:
        """For one more answer. The first one's is made in any case: all others wait for it. Those
        behind one that waits would only fill the room, and could not be sent."""
        if self.broken or (self.waiting and self.waiting[0][0] < place.number):
            return False
        most = _FEW if self._memory.is_short else self._limits.message_bytes
        return self.unsent < most or place.oneway or self.places[0] is place

    def resume(self) -> None:
        """Have answers made that there is room for now; if all is over, given up."""
        waiting = self.waiting
        left = len(waiting) if self.broken else _RESUMED
        while waiting and left > 0 and (self.broken or self.has_room(waiting[0][1])):
            left -= 1
            resume = heapq.heappop(waiting)[-1]
            resume()

    def flush(self) -> None:
        """Send what is ready."""
        places = self.places
        while places and not self._sending:
            ready: list[bytes] = []
            while places and (reply := places[0].reply) is not None:
                ready.append(reply)
                places.popleft().reply = None
            if ready:
                self._send(ready[0] if len(ready) == 1 else b"".join(ready))
                continue
            if (turn := places[0].turn) is not None:
                turn.set()
            return

    def _send(self, data: bytes) -> None:
        """Its size is released once all of it is gone."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(data)
            self.break_off()
        if sent == len(data):
            self._sent(sent)
        else:
            self._sending = True
            self._spawn(self._send_rest, data, sent)

    async def _send_rest(self, data: bytes, sent: int) -> None:
        try:
            await self._write(memoryview(data)[sent:], self._limits.write_timeout)
            self._sent(len(data))
        finally:
            self._sending = False
        self.flush()
        self._on_progress()

    async def send_part(self, place: Place, part: bytes) -> None:
        """One reply of a stream, whose last one goes into `place`. Waits for that to be the first.

        Cancel the stream when `on_break` is called: this does not return then.
        """
        if self._sending or not self.places or self.places[0] is not place:
            place.turn = trio.Event()
            await place.turn.wait()
        if self._take(len(part)):
            await self._write(part, self._limits.stream_write_timeout)
            self._release(len(part))
        await trio.lowlevel.checkpoint()

    def break_off(self) -> None:
        """Nothing can be sent any more."""
        self.broken = True
        self.places.clear()
        self._on_break()

    def close(self) -> None:
        """Give all memory back; answers that are not made need not be."""
        self.broken = True
        self._memory.take(-self.held)

    async def _write(self, data: bytes | memoryview, patience: float) -> None:
        """All of `data`, unless the client goes away or takes nothing for `patience` seconds."""
        unsent = memoryview(data)
        try:
            while unsent and not self.broken:
                try:
                    unsent = unsent[self._socket.send(unsent) :]
                except BlockingIOError:
                    with trio.move_on_after(patience) as scope:
                        await trio.lowlevel.wait_writable(self._socket)
                    if scope.cancelled_caught:
                        logger.warning("a client took none of its replies for %g s", patience)
                        self.break_off()
                except OSError:
                    self.break_off()
        except trio.Cancelled:
            self.broken = True  # perhaps in the middle of a reply
            raise

    def _take(self, size: int) -> bool:
        if self._memory.take(size):
            self.held += size
            return True
        logger.warning("a client was cut off: all together hold too many bytes of replies")
        self.break_off()
        return False

    def _sent(self, size: int) -> None:
        self.unsent -= size
        self._release(size)

    def _release(self, size: int) -> None:
        self._memory.take(-size)
        self.held -= size
        self._on_progress()
