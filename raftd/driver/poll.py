"""Ask other members how they stand, all at once."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import trio

from raftd.client_messages import ReportRequest, ReportResponse
from raftd.driver.peers import PeerRefused, Peers
from raftd.driver.reports import NodeReport
from raftd.transport.transport import Unreachable

_decode = msgspec.msgpack.Decoder(NodeReport).decode


async def poll(peers: Peers, names: Iterable[str], timeout: float) -> dict[str, NodeReport]:
    """The reports of those of `names` that answer within `timeout` seconds."""
    reports: dict[str, NodeReport] = {}

    async def ask(name: str) -> None:
        try:
            response = await peers.call(name, ReportRequest(), timeout)
            if isinstance(response, ReportResponse):
                reports[name] = _decode(response.report)
        except (Unreachable, PeerRefused, msgspec.DecodeError):
            return

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(ask, name)
    return reports
