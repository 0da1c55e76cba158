"""Virtual time: a queue of what will happen. Nothing here knows a real clock."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Action = Callable[..., object]


class Events:
    """`now` is in virtual seconds. What is due at the same time happens in the order it was put."""

    __slots__ = ("_count", "_queue", "handled", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.handled = 0
        self._queue: list[tuple[float, int, Action, tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay: float, action: Action, *args: Any) -> None:
        """In `delay` seconds."""
        self._count += 1
        heappush(self._queue, (self.now + delay, self._count, action, args))

    def at(self, time: float, action: Action, *args: Any) -> None:
        """At that time, or now if it has passed."""
        self._count += 1
        heappush(self._queue, (max(self.now, time), self._count, action, args))

    def run_until(self, end: float) -> None:
        """Everything that is due up to `end`."""
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, action, args = heappop(queue)
            self.handled += 1
            action(*args)
        self.now = end
