"""How other threads call into the event loop: cheaply, and many calls with one wake-up.

trio.lowlevel.TrioToken.run_sync_soon does the same at twice the cost: a socket pair, a task switch
and a look for signals. Here a queue and an eventfd(2), which is written only if the loop
has taken everything that was in the queue.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import trio

from raftd.promise import Promise

T = TypeVar("T")

_of_this_loop: trio.lowlevel.RunVar[Doorbell] = trio.lowlevel.RunVar("doorbell")


class Doorbell:
    """One for each event loop; see `doorbell`. No call may raise anything."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._has_rung = False
        self._lock = threading.Lock()
        self._descriptor: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._soon: list[Callable[[], object]] = []
        self._in_turn = False

    def ring(self, call: Callable[[], object]) -> None:
        """Have the event loop make that call soon, unless it is over. From any thread."""
        self._calls.append(call)
        if self._has_rung:
            return
        with self._lock:
            if self._descriptor is not None:
                self._has_rung = True
                os.eventfd_write(self._descriptor, 1)

    def soon(self, call: Callable[[], object]) -> None:
        """Have that call made behind all that has come together: at the end of this turn. From the
        event loop."""
        if not self._in_turn and not self._soon:
            self.ring(self.end_turn)
        self._soon.append(call)

    def begin_turn(self) -> None:
        """What follows has come together, until `end_turn`. No task switch may lie between."""
        self._in_turn = True

    def end_turn(self) -> None:
        while self._soon:
            calls, self._soon = self._soon, []
            for call in calls:
                call()
        self._in_turn = False

    async def answer(self) -> None:
        """Until the loop is over."""
        assert self._descriptor is not None
        try:
            while True:
                await trio.lowlevel.wait_readable(self._descriptor)
                with suppress(BlockingIOError):
                    os.eventfd_read(self._descriptor)
                self._has_rung = False
                self._in_turn = True
                for _ in range(len(self._calls)):  # who calls without end gets the next turn
                    self._calls.popleft()()
                self.end_turn()
        finally:
            with self._lock:
                os.close(self._descriptor)
                self._descriptor = None


def doorbell() -> Doorbell:
    """This event loop's."""
    try:
        return _of_this_loop.get()
    except LookupError:
        bell = Doorbell()
        _of_this_loop.set(bell)
        trio.lowlevel.spawn_system_task(bell.answer)
        return bell


class Worker:
    """A thread that does one thing after the other. What trio.to_thread.run_sync does with a thread
    of its pool, at a third of the cost."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, function: Callable[..., T], *args: object) -> Promise[T]:
        """Its result. It is done to its end even if nobody waits: a disk write is not abandoned."""
        promise: Promise[T] = Promise()
        ring = doorbell().ring

        def job() -> None:
            try:
                result = function(*args)
            except Exception as error:
                ring(functools.partial(promise.fail, error))
            else:
                ring(functools.partial(promise.set, result))

        self._jobs.put(job)
        return promise

    def close(self) -> None:
        """When all that it was given is done."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
