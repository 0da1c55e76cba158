"""To wait for the next change."""

from __future__ import annotations

import trio


class Signal:
    """Something changes again and again; `wait` returns at the next change."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: trio.Event | None = None

    def fire(self) -> None:
        event, self._event = self._event, None
        if event is not None:
            event.set()

    @property
    def next(self) -> trio.Event:
        """Set at the next change; take it before looking, so that nothing is missed."""
        if self._event is None:
            self._event = trio.Event()
        return self._event

    async def wait(self) -> None:
        await self.next.wait()
