"""The replies of one connection: filled in any order, sent in the order of the calls.

Each call has a `Place` in a queue. Whoever fills the first place and flushes sends all that is
ready, in one write; whoever flushes meanwhile leaves it to that one. A stream sends its parts
directly, once its place is the first. What calls and replies hold of the memory is counted here.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable

import trio

from raftd.admin.limits import Limits, Memory

logger = logging.getLogger("raftd.admin")


class OutOfMemory(Exception):
    """All connections together hold as many bytes as they may."""


class Place:
    """`size`: bytes of the call, then of its reply. A `oneway` call has no reply."""

    __slots__ = ("oneway", "reply", "size", "turn")

    def __init__(self, size: int, *, oneway: bool) -> None:
        self.size = size
        self.oneway = oneway
        self.reply: bytes | None = None
        self.turn: trio.Event | None = None


class Replies:
    """`on_progress` is called when there is more room, `on_break` when no reply can be sent now or
    later."""

    def __init__(
        self,
        sock: socket.socket,
        limits: Limits,
        memory: Memory,
        *,
        on_progress: Callable[[], None],
        on_break: Callable[[], None],
    ) -> None:
        self.held = 0
        """bytes of calls that are under way, and of replies"""
        self.broken = False
        self._socket = sock
        self._limits = limits
        self._memory = memory
        self._on_progress = on_progress
        self._on_break = on_break
        self._places: deque[Place] = deque()
        self._sending = False

    def __len__(self) -> int:
        """Places in the queue."""
        return len(self._places)

    def take_place(self, size: int, *, oneway: bool = False) -> Place:
        """At the end of the queue, for a call of `size` bytes. Raises OutOfMemory."""
        if not self._memory.take(size):
            raise OutOfMemory
        self.held += size
        place = Place(size, oneway=oneway)
        if not oneway:
            self._places.append(place)
        return place

    def fill(self, place: Place, reply: bytes) -> None:
        if place.oneway or self.broken:
            self._release(place.size)
        elif self._take(len(reply) - place.size):
            place.size = len(reply)
            place.reply = reply

    async def flush(self, *, gather: bool = False) -> None:
        """Send what is ready, or leave it to the task that is sending already.

        `gather`: let the tasks that are ready to run fill their places first.
        """
        if self._sending:
            return
        self._sending = True
        try:
            if gather:
                await trio.lowlevel.cancel_shielded_checkpoint()
            while self._places and self._places[0].reply is not None:
                ready: list[bytes] = []
                size = 0
                while self._places and (reply := self._places[0].reply) is not None:
                    ready.append(reply)
                    size += self._places.popleft().size
                await self._write(b"".join(ready), self._limits.write_timeout)
                self._release(size)
        finally:
            self._sending = False
        turn = self._places[0].turn if self._places else None
        if turn is not None:
            turn.set()

    async def send_part(self, place: Place, part: bytes) -> None:
        """One reply of a stream, whose last one goes into `place`. Waits for that to be the first.

        Cancel the stream when `on_break` is called: this does not return then.
        """
        if self._sending or not self._places or self._places[0] is not place:
            place.turn = trio.Event()
            await place.turn.wait()
        if self._take(len(part)):
            await self._write(part, self._limits.stream_write_timeout)
            self._release(len(part))
        await trio.lowlevel.checkpoint()

    def break_off(self) -> None:
        """Nothing can be sent any more."""
        self.broken = True
        self._places.clear()
        self._on_break()

    def close(self) -> None:
        """Give all memory back."""
        self._memory.take(-self.held)

    async def _write(self, data: bytes, patience: float) -> None:
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

    def _release(self, size: int) -> None:
        self._memory.take(-size)
        self.held -= size
        self._on_progress()
