"""What the handlers need of the driver. `raftd.driver.driver.Driver` has this shape.

Timeouts are in seconds. Calls that are not done raise the exceptions of raftd.driver.errors.
"""

from __future__ import annotations

from typing import Protocol

from raftd.driver.applier import Applied
from raftd.driver.reports import ChangeReport, ClusterStatus, LogEntry, LogInfo
from raftd.driver.waiting import Promise
from raftd.raft.changes import Change


class LogFollower(Protocol):
    async def next(self) -> list[LogEntry]:
        """Entries that are new, or whose state is; waits until there are some."""
        ...


class Driver(Protocol):
    @property
    def name(self) -> str:
        """This node's."""
        ...

    def propose(self, body: bytes, *, uid: int, timeout: float) -> Promise[Applied]: ...
    def read(self, query: bytes, *, stale: bool, timeout: float) -> Promise[bytes]: ...
    async def transfer_leadership(self, target: str | None, *, timeout: float) -> str: ...
    async def change_members(
        self, change: Change, *, dry_run: bool, force: bool, timeout: float
    ) -> ChangeReport: ...
    async def drain(
        self, name: str | None, *, drained: bool, force: bool, timeout: float
    ) -> str: ...
    def shared_settings(self) -> dict[str, object]:
        """Settings that are not the default, and should be the same on all nodes."""
        ...

    async def status(self, *, timeout: float) -> ClusterStatus: ...
    def log_info(self) -> LogInfo: ...
    async def log_entry(self, index: int) -> tuple[LogEntry, bytes]: ...
    async def log_entries(self, first: int | None, count: int) -> list[LogEntry]: ...
    def log_follower(self, first: int | None, count: int) -> LogFollower: ...
