"""What has to be looked at when its time comes: one task that sleeps for all of it.

A cancel scope for each message would cost more than the message does.
"""

from __future__ import annotations

import math
from typing import Protocol

import trio

PAUSES = (0.001, 0.05)
"""Seconds: the first, and the longest, between two looks whether a message has gone."""


class Timed(Protocol):
    """Something under way."""

    due: float
    """When to look at it, in trio's seconds."""

    def look(self, now: float) -> None:
        """It is due: this ends it, or puts `due` off. It raises nothing."""
        ...


class Timers:
    def __init__(self) -> None:
        self._timed: dict[Timed, None] = {}
        self._next = math.inf
        self._wake = trio.Event()

    def watch(self, timed: Timed) -> None:
        self._timed[timed] = None
        if timed.due < self._next:
            self._wake.set()

    def forget(self, timed: Timed) -> None:
        """It is over; no error if that is known."""
        self._timed.pop(timed, None)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            now = trio.current_time()
            for timed in [timed for timed in self._timed if timed.due <= now]:
                timed.look(now)
            self._next = min((timed.due for timed in self._timed), default=math.inf)
            with trio.move_on_at(self._next):
                await self._wake.wait()
            self._wake = trio.Event()
