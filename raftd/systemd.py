"""What the service manager is told (sd_notify(3)); without one, nothing happens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import sdnotify
import trio

from raftd.driver.reports import NodeReport

STATUS_INTERVAL = 1.0
"""Seconds between two looks at the node for the status line."""


class ServiceManager:
    """Messages to systemd: readiness, a status line, the watchdog."""

    def __init__(self) -> None:
        present = bool(os.environ.get("NOTIFY_SOCKET"))
        self._notifier = sdnotify.SystemdNotifier() if present else None

    def close(self) -> None:
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()

    def _tell(self, message: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(message)

    def ready(self) -> None:
        self._tell("READY=1")

    def reloading(self) -> None:
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={now_us}")

    def stopping(self, extra_s: float) -> None:
        """`extra_s`: how long it may take until leadership is handed over."""
        self._tell(f"STOPPING=1\nSTATUS=stops\nEXTEND_TIMEOUT_USEC={int((extra_s + 10) * 1e6)}")

    async def tell_status(self, describe: Callable[[], str]) -> None:
        """Keep the line that `systemctl status` shows what `describe()` says."""
        told = ""
        while self._notifier is not None:
            line = describe()
            if line != told:
                self._tell(f"STATUS={line}")
                told = line
            await trio.sleep(STATUS_INTERVAL)

    async def feed_watchdog(self, alive: Callable[[], bool]) -> None:
        """Tell that this process lives, as often as WATCHDOG_USEC asks, while `alive()` holds."""
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        if not microseconds.isdecimal() or int(microseconds) == 0:
            return
        while True:
            if alive():
                self._tell("WATCHDOG=1")
            await trio.sleep(int(microseconds) / 1e6 / 3)


def status_line(report: NodeReport) -> str:
    """Role, term, leader and lag, or what is wrong."""
    line = f"{report.role} in term {report.term}"
    if report.role == "leader":
        line += f", {_followers(report)}"
        if not report.has_quorum:
            line += ", no quorum"
    elif report.leader is None:
        line += ", no leader"
    else:
        line += f", leader {report.leader}, {_lag(report.last_index - report.applied_index)}"
    if report.problem is not None:
        line += f"; {report.problem}"
    return " ".join(line.split())


def _followers(report: NodeReport) -> str:
    """The one that is furthest behind."""
    if not report.peers:
        return "no other members"
    last = min(report.peers, key=lambda peer: peer.match_index)
    behind = report.last_index - last.match_index
    return "all others up to date" if behind <= 0 else f"{last.name} {behind} entries behind"


def _lag(entries: int) -> str:
    return "up to date" if entries <= 0 else f"{entries} entries to apply"
