"""How other threads call into the event loop: cheaply, and many calls with one wake-up.

trio.lowlevel.TrioToken.run_sync_soon does the same at twice the cost: a socket pair, a task switch
and a look for signals. Here a queue and an eventfd(2), which is written only if the loop
has taken everything that was in the queue.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import outcome
import trio

T = TypeVar("T")

_of_this_loop: trio.lowlevel.RunVar[Doorbell] = trio.lowlevel.RunVar("doorbell")


class Doorbell:
    """One for each event loop; see `doorbell`."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._has_rung = False
        self._lock = threading.Lock()
        self._descriptor: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self, call: Callable[[], object]) -> None:
        """Have the event loop make that call soon, unless it is over. From any thread."""
        self._calls.append(call)
        if self._has_rung:
            return
        with self._lock:
            if self._descriptor is not None:
                self._has_rung = True
                os.eventfd_write(self._descriptor, 1)

    async def answer(self) -> None:
        """Until the loop is over."""
        assert self._descriptor is not None
        try:
            while True:
                await trio.lowlevel.wait_readable(self._descriptor)
                with suppress(BlockingIOError):
                    os.eventfd_read(self._descriptor)
                self._has_rung = False
                while self._calls:
                    self._calls.popleft()()
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

    async def do(self, function: Callable[..., T], *args: object) -> T:
        """Await its result, to the end even when cancelled: a disk write is not abandoned."""
        task = trio.lowlevel.current_task()
        bell = doorbell()

        def job() -> None:
            result = outcome.capture(function, *args)
            bell.ring(lambda: trio.lowlevel.reschedule(task, result))

        self._jobs.put(job)
        result: Any = await trio.lowlevel.wait_task_rescheduled(_cannot_be_aborted)
        return result  # type: ignore[no-any-return]  # what `function` returned

    def close(self) -> None:
        """Once nothing is under way."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _cannot_be_aborted(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
