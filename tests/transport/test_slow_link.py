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
    monkeypatch.setattr(peer, "PACE", LARGE // 2)
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


async def test_a_link_that_is_slower_than_expected_has_more_time_with_each_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else nothing large would ever get through it, and it would be full all the time."""
    monkeypatch.setattr(peer, "SILENCE", 0.03)
    monkeypatch.setattr(peer, "PACE", 16 * LARGE)
    async with transport(brief) as server, proxy(port_of(server)) as between, caller() as client:
        client.set_peer("a", between.address)
        await eventually(lambda: client.call("a", b"x", 5))
        between.rate = LARGE
        with pytest.raises(Unreachable, match="did not answer"):
            await client.call("a", bytes(LARGE), 0.01, bulk=True)
        assert await eventually(lambda: client.call("a", bytes(LARGE), 0.01, bulk=True)) == bytes(
            10
        )
        assert peer.SLOWEST < client._peers["a"]._pace < peer.PACE


async def test_a_peer_that_was_away_is_not_taken_for_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer, "SILENCE", 0.03)
    monkeypatch.setattr(peer, "PACE", 4 * LARGE)
    monkeypatch.setattr(peer, "PATIENCE", (0.2, 0.2))
    async with transport(brief) as server, proxy(port_of(server)) as between, caller() as client:
        client.set_peer("a", between.address)
        await eventually(lambda: client.call("a", b"x", 5))
        between.frozen = lambda _: True
        with pytest.raises(Unreachable, match="did not answer"):
            await client.call("a", bytes(LARGE), 0.01, bulk=True)
        known = client._peers["a"]
        assert known._pace < peer.PACE
        with trio.fail_after(20):
            while known._pace < peer.PACE:
                with pytest.raises(Unreachable):
                    await client.call("a", b"x", 0.01)
                await trio.sleep(0.005)


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
    monkeypatch.setattr(peer, "PACE", LARGE)
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
