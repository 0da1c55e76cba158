"""Calls over real sockets through a network that loses connections and packets."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import trio

from raftd.transport import peer
from raftd.transport.transport import Transport, Unreachable
from tests.transport.wire import caller, eventually, port_of, proxy, transport

pytestmark = pytest.mark.system


async def echo(request: bytes) -> bytes:
    return request


async def test_a_peer_that_comes_later_and_comes_back() -> None:
    async with caller() as client:
        async with transport(echo) as server:
            address = server.address
        client.set_peer("a", address)
        with pytest.raises(Unreachable, match="not connected"):
            await client.call("a", b"x", 5)
        for _ in range(3):
            async with transport(echo, address):
                assert await eventually(lambda: client.call("a", b"x", 5)) == b"x"


async def test_a_lost_connection_ends_the_call_and_the_request_is_not_repeated() -> None:
    """pitfall 86: nng would send it again; here it counts as lost."""
    handled: list[bytes] = []
    asked = trio.Event()

    async def handler(request: bytes) -> bytes:
        handled.append(request)
        if request == b"x":
            asked.set()
            await trio.sleep_forever()
        return request

    async with (
        transport(handler) as server,
        proxy(port_of(server)) as between,
        caller() as client,
        trio.open_nursery() as nursery,
    ):
        client.set_peer("a", between.address)
        await eventually(lambda: client.call("a", b"first", 5))

        async def lose() -> None:
            await asked.wait()
            between.cut()

        nursery.start_soon(lose)
        with trio.fail_after(10), pytest.raises(Unreachable, match="was lost") as caught:
            await client.call("a", b"x", 1000)
        assert caught.value.sent
        assert await eventually(lambda: client.call("a", b"y", 5)) == b"y"
        assert handled.count(b"x") == 1
        assert between.accepted == 2


async def test_no_request_is_handled_twice_however_connections_are_cut() -> None:
    """pitfall 86"""
    handled: Counter[bytes] = Counter()
    answered: set[bytes] = set()
    unsent: set[bytes] = set()
    dice = random.Random(5)

    async def handler(request: bytes) -> bytes:
        handled[request] += 1
        await trio.sleep(dice.random() / 500)
        return request

    async with (
        transport(handler) as server,
        proxy(port_of(server)) as between,
        caller() as client,
    ):
        client.set_peer("a", between.address)
        await eventually(lambda: client.call("a", b"first", 5))

        async def work(worker: int) -> None:
            for number in range(60):
                request = b"%d/%d" % (worker, number) + bytes(dice.randrange(2000))
                try:
                    assert await client.call("a", request, dice.choice([0.001, 5, 5])) == request
                    answered.add(request)
                except Unreachable as error:
                    if not error.sent:
                        unsent.add(request)
                    await trio.sleep(0.002)

        async def disturb() -> None:
            while True:
                await trio.sleep(dice.random() / 50)
                between.cut()

        async with trio.open_nursery() as outer:
            outer.start_soon(disturb)
            async with trio.open_nursery() as nursery:
                for worker in range(6):
                    nursery.start_soon(work, worker)
            outer.cancel_scope.cancel()
        await eventually(lambda: client.call("a", b"last", 5))
    assert answered
    assert between.accepted > 2
    assert set(handled.values()) == {1}
    assert answered <= handled.keys()
    assert not unsent & handled.keys(), "what is said not to have left has not left"


async def test_what_waits_behind_a_blocked_connection_is_never_delivered_late() -> None:
    handled: list[int] = []

    async def handler(request: bytes) -> bytes:
        handled.append(request[0])
        return b""

    async with (
        transport(handler) as server,
        proxy(port_of(server)) as between,
        caller() as client,
    ):
        client.set_peer("a", between.address)
        await eventually(lambda: client.call("a", bytes([255]), 5))
        handled.clear()
        between.frozen = lambda number: True
        outcomes: dict[int, bool] = {}

        async def call(number: int) -> None:
            # More than all buffers on the way hold together.
            with pytest.raises(Unreachable) as caught:
                await client.call("a", bytes([number]) + bytes(1 << 20), 0.2)
            outcomes[number] = caught.value.sent

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(call, number)
        assert set(outcomes.values()) == {True, False}
        between.thaw()
        await eventually(lambda: client.call("a", bytes([255]), 5))
        assert not [number for number in handled if number != 255 and not outcomes[number]]
        assert len(handled) == len(set(handled))


async def test_a_connection_whose_packets_vanish_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer, "SILENCE", 0.03)
    async with (
        transport(echo) as server,
        proxy(port_of(server)) as between,
        caller() as client,
    ):
        client.set_peer("a", between.address)
        await eventually(lambda: client.call("a", b"x", 5))
        before = between.accepted
        between.frozen = lambda number: number <= before
        with pytest.raises(Unreachable, match="did not answer"):
            await client.call("a", b"x", 0.05)
        assert await eventually(lambda: client.call("a", b"y", 5)) == b"y"
        assert between.accepted > before


async def test_a_single_slow_answer_does_not_cost_the_connection() -> None:
    async def handler(request: bytes) -> bytes:
        if request == b"slow":
            await trio.sleep_forever()
        return request

    async with (
        transport(handler) as server,
        proxy(port_of(server)) as between,
        caller() as client,
    ):
        client.set_peer("a", between.address)
        await eventually(lambda: client.call("a", b"x", 5))
        for _ in range(5):
            with pytest.raises(Unreachable):
                await client.call("a", b"slow", 0.01)
            assert await client.call("a", b"x", 5) == b"x"
        assert between.accepted == 1


async def test_an_attempt_to_connect_that_hangs_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer, "PATIENCE", (0.03, 0.1))
    async with (
        transport(echo) as server,
        proxy(port_of(server)) as between,
        caller() as client,
    ):
        between.frozen = lambda number: number <= 2
        client.set_peer("a", between.address)
        assert await eventually(lambda: client.call("a", b"y", 5)) == b"y"
        assert between.accepted == 3


async def test_patience_grows_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that needs seconds must not be interrupted for ever."""
    monkeypatch.setattr(peer, "PATIENCE", (0.001, 0.006))
    async with caller() as client, transport(echo) as server:
        client.set_peer("a", "tcp://127.0.0.1:1")
        lonely = client._peers["a"]
        seen = []
        for _ in range(5):
            await trio.sleep(0.01)
            with pytest.raises(Unreachable):
                await client.call("a", b"x", 5)
            seen.append(lonely._patience)
        assert seen == [0.002, 0.004, 0.006, 0.006, 0.006]
        lonely.address = server.address
        await eventually(lambda: client.call("a", b"x", 5))
        assert lonely._patience == 0.001


async def test_one_dead_peer_does_not_hold_up_another() -> None:
    async with transport(echo) as server, caller() as client:
        client.set_peer("dead", "tcp://127.0.0.1:1")
        client.set_peer("a", server.address)
        await eventually(lambda: client.call("a", b"x", 5))
        async with trio.open_nursery() as nursery:

            async def call_dead() -> None:
                with pytest.raises(Unreachable):
                    await client.call("dead", b"x", 5)

            for _ in range(20):
                nursery.start_soon(call_dead)
                assert await client.call("a", b"x", 5) == b"x"


async def test_the_caller_may_go_before_its_answer() -> None:
    handled = trio.Event()
    release = trio.Event()

    async def handler(request: bytes) -> bytes:
        if request == b"leaving":
            handled.set()
            await release.wait()
        return request

    async with transport(handler, receivers=1) as server:
        leaving = Transport("tcp://127.0.0.1:0", max_message_bytes=100)
        leaving.set_peer("a", server.address)
        await eventually(lambda: leaving.call("a", b"x", 5))
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(Unreachable):
                    await leaving.call("a", b"leaving", 1000)

            nursery.start_soon(call)
            await handled.wait()
            await leaving.aclose()
        release.set()
        async with caller() as client:
            client.set_peer("a", server.address)
            assert await eventually(lambda: client.call("a", b"x", 5)) == b"x"
