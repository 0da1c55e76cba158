"""Ways to wait in one event loop: for an answer, and for the next change."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Promise(Generic[T]):
    """An answer that will come once. Setting it again does nothing."""

    __slots__ = ("_error", "_event", "_value", "abandoned")

    def __init__(self) -> None:
        self._event = trio.Event()
        self._value: T | None = None
        self._error: Exception | None = None
        self.abandoned = False
        """Nobody waits any more."""

    def set(self, value: T) -> None:
        if not self._event.is_set():
            self._value = value
            self._event.set()

    def fail(self, error: Exception) -> None:
        if not self._event.is_set():
            self._error = error
            self._event.set()

    async def wait(self) -> T:
        """The answer; raises what it failed with."""
        try:
            await self._event.wait()
        except trio.Cancelled:
            self.abandoned = True
            raise
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set together with the event


class Signal:
    """Something changes again and again; `wait` returns at the next change."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def fire(self) -> None:
        event, self._event = self._event, trio.Event()
        event.set()

    @property
    def next(self) -> trio.Event:
        """Set at the next change; take it before looking, so that nothing is missed."""
        return self._event

    async def wait(self) -> None:
        await self._event.wait()
