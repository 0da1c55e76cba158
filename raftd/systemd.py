"""What the service manager is told (sd_notify(3)); without one, nothing happens."""

from __future__ import annotations

import os
from collections.abc import Callable

import sdnotify
import trio


class ServiceManager:
    """Messages to systemd: readiness, a status line, the watchdog."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()

    def ready(self) -> None:
        self._notifier.notify("READY=1")

    def status(self, text: str) -> None:
        self._notifier.notify(f"STATUS={text}")

    def reloading(self) -> None:
        self._notifier.notify("RELOADING=1")

    def stopping(self) -> None:
        self._notifier.notify("STOPPING=1")

    async def feed_watchdog(self, alive: Callable[[], bool]) -> None:
        """Tell that this process lives, as often as WATCHDOG_USEC asks, while `alive()` holds."""
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        if not microseconds.isdecimal() or int(microseconds) == 0:
            return
        while True:
            if alive():
                self._notifier.notify("WATCHDOG=1")
            await trio.sleep(int(microseconds) / 1e6 / 3)
