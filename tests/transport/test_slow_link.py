"""Calls through a link that is slow, and not dead."""

from __future__ import annotations

import pytest
import trio

from raftd.transport import peer
from raftd.transport.transport import Unreachable
from tests.transport.wire import caller, eventually, port_of, proxy, transport

pytestmark = pytest.mark.system

LARGE = 256 << 10


async def brief(request: bytes) -> bytes:
    return request[:10]


async def test_what_takes_long_on_a_slow_link_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its time ends before its bytes are there, nor is the connection taken for dead."""
    monkeypatch.setattr(peer, "SILENCE", 0.03)
    monkeypatch.setattr(peer, "SLOWEST", LARGE // 2)
    async with transport(brief) as server, proxy(port_of(server)) as between, caller() as client:
        client.set_peer("a", between.address)
        await eventually(lambda: client.call("a", b"x", 5))
        between.rate = LARGE
        started = trio.Event()

        async def call(request: bytes) -> None:
            promise = client.call("a", request, 0.5, bulk=True)
            started.set()
            assert await promise == request[:10]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, b"one" + bytes(LARGE))
            nursery.start_soon(call, b"other" + bytes(LARGE))
            await started.wait()
            with pytest.raises(Unreachable, match="did not answer"):
                await client.call("a", b"too impatient", 0.1)
        assert between.accepted == 2, "one beside the other, none anew"
        assert client._peers["a"].under_way == 0


async def test_others_do_not_wait_behind_what_takes_long() -> None:
    """Beside it they have a connection of their own; what has to keep its place follows it."""
    handled: list[bytes] = []

    async def handler(request: bytes) -> bytes:
        handled.append(request[:10])
        return b""

    async with transport(handler) as server, proxy(port_of(server)) as between, caller() as client:
        client.set_peer("a", between.address)
        await eventually(lambda: client.call("a", b"x", 5))
        handled.clear()
        between.rate = LARGE
        large = client.call("a", b"large".ljust(LARGE), 5, bulk=True)
        behind = client.call("a", b"behind it", 5, bulk=True)
        for _ in range(3):
            await eventually(lambda: client.call("a", b"beside", 0.05))
        await large
        await behind
        assert handled[:3] == [b"beside"] * 3
        assert {b"large     ", b"behind it"} < set(handled[3:])
        await client.call("a", b"x", 5)
        client.remove_peer("a")
        assert not client._beside


async def test_without_a_second_connection_others_wait() -> None:
    async with transport(brief) as server, proxy(port_of(server)) as between, caller() as client:
        client.set_peer("a", between.address)
        await eventually(lambda: client.call("a", b"x", 5))
        between.frozen = lambda number: number > 1
        between.rate = LARGE
        large = client.call("a", bytes(LARGE), 5, bulk=True)
        assert await client.call("a", b"small", 5) == b"small"
        assert await large == bytes(10)


async def test_a_dead_connection_is_replaced_however_much_is_on_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer, "SILENCE", 0.03)
    monkeypatch.setattr(peer, "SLOWEST", LARGE)
    async with transport(brief) as server, proxy(port_of(server)) as between, caller() as client:
        client.set_peer("a", between.address)
        await eventually(lambda: client.call("a", b"x", 5))
        between.frozen = lambda number: number == 1
        began = trio.current_time()
        with pytest.raises(Unreachable, match="did not answer"):
            await client.call("a", bytes(LARGE), 0.1, bulk=True)
        assert trio.current_time() - began > 1
        assert await eventually(lambda: client.call("a", b"y", 5, bulk=True)) == b"y"
        assert between.accepted == 3, "the second is the one for what does not wait"
