"""Work that blocks goes to a thread; tests and simulations do it in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

T = TypeVar("T")


class Offload(Protocol):
    """Await the result of `function(*args)`, done where it does not block the event loop."""

    async def __call__(self, function: Callable[..., T], *args: object) -> T: ...


async def to_thread(function: Callable[..., T], *args: object) -> T:
    """In a worker thread. Waits for the end even when cancelled: disk writes are not abandoned."""
    return await trio.to_thread.run_sync(lambda: function(*args))
