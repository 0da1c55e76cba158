"""Waiting for something to become true, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 60.0
"""Far more than anything takes on a slow, busy machine: running out of it is a failure."""
POLL_S = 0.02


def wait_until(condition: Callable[[], T | None], what: str, patience: float = PATIENCE_S) -> T:
    """The first true value of `condition()`; AssertionError after `patience` seconds of none."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {patience:.0f} s in vain until {what}"
        time.sleep(POLL_S)
