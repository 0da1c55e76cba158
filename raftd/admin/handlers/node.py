"""io.raftd.Node: this node, its log, and the cluster as it sees it."""

from __future__ import annotations

from collections.abc import Callable

from raftd import __version__
from raftd.admin.handlers.call import Call, Reply, invalid, timeout_seconds
from raftd.admin.handlers.driver_api import Driver
from raftd.admin.handlers.members import STATUS_TIMEOUT_MS, Members, demand_privilege
from raftd.admin.protocol import EXPECTED_MORE, CallError
from raftd.admin.protocol import NODE as INTERFACE
from raftd.driver.errors import NoSuchMember
from raftd.driver.reports import LogEntry

TRANSFER_TIMEOUT_MS = 5000
DEFAULT_COUNT = 100
MAX_COUNT = 10_000
"""entries in one reply; with "more" there may be any number, in replies of PAGE"""
PAGE = 1000


class Node(Members):
    """`reload` reads the configuration's log levels again; what it raises is told to the caller."""

    def __init__(self, driver: Driver, reload: Callable[[], None]) -> None:
        super().__init__(driver)
        self._reload = reload

    async def get_status(self, _: Call, timeout_ms: int | None) -> Reply:
        timeout = timeout_seconds(timeout_ms, STATUS_TIMEOUT_MS)
        return {"status": await self._driver.status(timeout=timeout)}

    def get_version(self, _: Call) -> Reply:
        return {"version": __version__, "node": self._driver.name}

    async def transfer_leadership(
        self, call: Call, name: str | None, timeout_ms: int | None
    ) -> Reply:
        demand_privilege(call)
        timeout = timeout_seconds(timeout_ms, TRANSFER_TIMEOUT_MS)
        try:
            leader = await self._driver.transfer_leadership(name, timeout=timeout)
        except NoSuchMember:
            raise CallError(f"{INTERFACE}.NoSuchMember", {"name": name or ""}) from None
        return {"leader": leader}

    def reload(self, call: Call) -> Reply:
        demand_privilege(call)
        try:
            self._reload()
        except Exception as error:
            raise CallError(f"{INTERFACE}.Refused", {"reason": str(error)}) from error
        return {}

    def get_log_info(self, _: Call) -> Reply:
        return {"info": self._driver.log_info()}

    async def get_log_entry(self, _: Call, index: int) -> Reply:
        entry, payload = await self._driver.log_entry(index)
        return {"entry": entry, "payload": payload}

    async def read_log(
        self, call: Call, first: int | None, count: int | None, follow: bool | None
    ) -> Reply:
        if first is not None and first < 1:
            raise invalid("first")
        count = DEFAULT_COUNT if count is None else count
        if count < 0 or (count > MAX_COUNT and call.send is None):
            raise invalid("count")
        if follow:
            return await self._follow(call, first, count)
        return {"entries": await self._read(call, first, count)}

    async def _read(self, call: Call, first: int | None, count: int) -> list[LogEntry]:
        """All of them, or, with "more", the last page: those before it have been sent."""
        info = self._driver.log_info()
        first = max(info.first_index, info.last_index - count + 1 if first is None else first)
        last = min(info.last_index, first + count - 1)
        entries: list[LogEntry] = []
        while first <= last:
            if entries and call.send is not None:
                await call.send({"entries": entries})
                entries = []
            page = await self._driver.log_entries(first, min(PAGE, last - first + 1))
            if not page:
                break
            entries += page
            first = page[-1].index + 1
        return entries

    async def _follow(self, call: Call, first: int | None, count: int) -> Reply:
        if call.send is None:
            raise CallError(EXPECTED_MORE)
        follower = self._driver.log_follower(first, count)
        while True:
            entries = await follower.next()
            for start in range(0, len(entries), PAGE):
                await call.send({"entries": entries[start : start + PAGE]})
