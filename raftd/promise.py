"""An answer that will come once, in one event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, Protocol, TypeVar

import trio

T = TypeVar("T")


class Taker(Protocol):
    """Who an answer is for that may be large, and need not be made before there is room for it."""

    @property
    def is_gone(self) -> bool:
        """Nobody takes it any more."""
        ...

    @property
    def has_room(self) -> bool:
        """Take it now? Never when gone."""
        ...

    def when_room(self, resume: Callable[[], None]) -> None:
        """Have `resume` called once: when there may be room, or the taker is gone."""
        ...


class Promise(Generic[T]):
    """Await it, or be called back. Setting it again does nothing.

    Thousands of calls wait at a time, so one that is called back costs no task and no event.
    """

    __slots__ = ("_callback", "_error", "_event", "_value", "abandoned", "is_done", "taker")

    def __init__(self) -> None:
        self._event: trio.Event | None = None
        self._callback: Callable[[Promise[T]], None] | None = None
        self._value: T | None = None
        self._error: Exception | None = None
        self.is_done = False
        self.abandoned = False
        """Nobody waits any more."""
        self.taker: Taker | None = None
        """None: there is always room."""

    @classmethod
    def done(cls, value: T) -> Promise[T]:
        promise = cls()
        promise._value = value
        promise.is_done = True
        return promise

    @classmethod
    def failed(cls, error: Exception) -> Promise[T]:
        promise = cls()
        promise._error = error
        promise.is_done = True
        return promise

    def set(self, value: T) -> None:
        if not self.is_done:
            self._value = value
            self._finish()

    def fail(self, error: Exception) -> None:
        if not self.is_done:
            self._error = error
            self._finish()

    @property
    def error(self) -> Exception | None:
        """What it failed with, without raising it."""
        return self._error

    def result(self) -> T:
        """The answer, once it is there; raises what it failed with."""
        # No frame on the error's traceback may lead back here: in that cycle all that the caller
        # has at hand would wait for the collector.
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self
        return self._value  # type: ignore[return-value]  # set when it was done

    def when_done(self, callback: Callable[[Promise[T]], None]) -> None:
        """Call `callback` with this, now or as soon as the answer is there. One at most."""
        if self.is_done:
            callback(self)
        else:
            self._callback = callback

    def follow(self, other: Promise[T]) -> None:
        """Have the same answer as `other`, which is done."""
        if other._error is not None:
            self.fail(other._error)
        else:
            self.set(other.result())

    async def wait(self) -> T:
        """The answer; raises what it failed with."""
        if not self.is_done:
            if self._event is None:
                self._event = trio.Event()
            try:
                await self._event.wait()
            except trio.Cancelled:
                self.abandoned = True
                raise
        try:
            return self.result()
        finally:
            del self

    def __await__(self) -> Generator[Any, None, T]:
        return self.wait().__await__()

    def _finish(self) -> None:
        self.is_done = True
        if self._event is not None:
            self._event.set()
        callback, self._callback = self._callback, None
        self.taker = None
        if callback is not None:
            callback(self)


def in_task(
    nursery: trio.Nursery,
    function: Callable[..., Awaitable[T]],
    *args: object,
    failures: tuple[type[Exception], ...] = (),
) -> Promise[T]:
    """The result of `function(*args)`, which has to wait for something. What it raises ends the
    nursery, but for `failures`: those the promise fails with."""
    promise: Promise[T] = Promise()

    async def run() -> None:
        try:
            result = await function(*args)
        except failures as error:
            promise.fail(error)
        else:
            promise.set(result)

    nursery.start_soon(run)
    return promise
