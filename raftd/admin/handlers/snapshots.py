"""io.raftd.Snapshots: snapshots on demand, and their bytes."""

from __future__ import annotations

from raftd.admin.handlers.call import Call, Reply, invalid
from raftd.admin.handlers.driver_api import Driver
from raftd.admin.protocol import EXPECTED_MORE, PERMISSION_DENIED, CallError

PIECE = 256 << 10
"""bytes in one reply"""


class Snapshots:
    """Reading is for all who may use the socket: they may read every key as well."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def take(self, call: Call) -> Reply:
        if not call.privileged:
            raise CallError(PERMISSION_DENIED)
        return {"snapshot": await self._driver.take_snapshot()}

    async def reseed(self, call: Call) -> Reply:
        if not call.privileged:
            raise CallError(PERMISSION_DENIED)
        return {"snapshot": await self._driver.reseed()}

    def list(self, _: Call) -> Reply:
        return {"snapshots": self._driver.snapshot_list()}

    async def fetch(self, call: Call, at: int | None) -> Reply:
        if call.send is None:
            raise CallError(EXPECTED_MORE)
        if at is not None and at < 1:
            raise invalid("at")
        async with self._driver.state(at) as state:
            await call.send({"snapshot": state.info})
            offset = 0
            while True:
                piece = await state.read(offset, PIECE)
                offset += len(piece)
                if offset >= state.info.size or not piece:
                    return {"data": piece}
                await call.send({"data": piece})
