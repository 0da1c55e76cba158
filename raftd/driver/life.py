"""How long a node runs. Its parts are called back when something has come from peers, threads or
timers; that the node is ending meanwhile they find out here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from raftd.promise import Promise, in_task

T = TypeVar("T")


class Life:
    """Starts tasks from `begin` to `end`; before and after it does nothing."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery
        self.is_over = True
        """Nothing is done any more with what comes."""

    def begin(self, nursery: trio.Nursery) -> None:
        """Tasks live in `nursery`, which must last until `end`."""
        self._nursery = nursery
        self.is_over = False

    def end(self) -> None:
        self.is_over = True

    def fail(self, error: Exception) -> None:
        """End the node, whoever has found out that it must; the first one says why."""
        if not self.is_over:
            self.is_over = True
            self._nursery.start_soon(_raise, error)

    def start(self, function: Callable[..., Awaitable[None]], *args: object) -> None:
        """A task; what it raises ends the node."""
        if not self.is_over:
            self._nursery.start_soon(function, *args)

    def call(
        self,
        function: Callable[..., Awaitable[T]],
        *args: object,
        failures: tuple[type[Exception], ...] = (),
    ) -> Promise[T]:
        """A task's result, as `raftd.promise.in_task`; none ever comes if the life is over."""
        if self.is_over:
            return Promise()
        return in_task(self._nursery, function, *args, failures=failures)


async def _raise(error: Exception) -> None:
    raise error
