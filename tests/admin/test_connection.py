"""One connection: calls overlap, replies keep their order, and each has what it asked for.

Server and client share one event loop and a virtual clock; the sockets are real.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from raftd.admin import protocol
from raftd.admin.handlers.call import from_base64
from raftd.admin.server import Limits
from tests.admin.clients import (
    GET,
    PUT,
    READ_LOG,
    VERSION,
    A,
    B,
    call_bytes,
    connect,
    error_name,
    put,
    serving,
)
from tests.admin.fake_driver import FakeDriver


async def test_calls_overlap_and_replies_keep_their_order(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    """pitfall 87"""
    driver.gates[b"a"] = trio.Event()
    keys = [f"{number:04d}" for number in range(61)]
    gets = b"".join(call_bytes(GET, {"key": key}) for key in keys)
    async with serving(path, driver):
        client = await connect(path)
        await client.send(put(A) + put(B) + gets + call_bytes(VERSION))
        await wait_all_tasks_blocked()
        assert (len(driver.proposals), driver.answered, len(driver.stale)) == (2, 1, 61)
        with trio.move_on_after(1) as scope:
            await client.receive()
        assert scope.cancelled_caught
        driver.gates[b"a"].set()
        assert await client.receive() == {"parameters": {"revision": 2, "existed": False}}
        assert await client.receive() == {"parameters": {"revision": 1, "existed": False}}
        for key in keys:
            reply = await client.receive()
            assert reply == {"error": f"{protocol.KV}.NotFound", "parameters": {"key": key}}
        reply = await client.receive()
        assert reply is not None
        assert reply["parameters"]["node"] == "node1"


async def test_the_driver_sees_calls_in_their_order(path: Path, driver: FakeDriver) -> None:
    keys = [f"{number:04d}" for number in range(500)]
    async with serving(path, driver):
        client = await connect(path)
        await client.send(b"".join(put(key) for key in keys))
        for _ in keys:
            assert error_name(await client.receive()) is None
    assert [proposal.command.key for proposal in driver.proposals] == [
        from_base64("key", key) for key in keys
    ]


@pytest.mark.parametrize("most", [1, 10, 64, 100])
async def test_only_so_many_calls_are_begun_at_once(
    path: Path, driver: FakeDriver, most: int
) -> None:
    driver.gates[b"a"] = trio.Event()
    async with serving(path, driver, limits=Limits(in_flight=most)):
        client = await connect(path)
        await client.send(put(A) * 1000)
        await wait_all_tasks_blocked()
        assert len(driver.proposals) == most
        driver.gates[b"a"].set()
        for _ in range(1000):
            assert error_name(await client.receive()) is None
        assert driver.answered == 1000


async def test_calls_without_a_reply_are_counted_as_well(path: Path, driver: FakeDriver) -> None:
    driver.gates[b"a"] = trio.Event()
    async with serving(path, driver, limits=Limits(in_flight=10)):
        client = await connect(path)
        await client.send(put(A, oneway=True) * 50 + call_bytes(VERSION))
        await wait_all_tasks_blocked()
        assert len(driver.proposals) == 10
        driver.gates[b"a"].set()
        assert error_name(await client.receive()) is None
        assert len(driver.proposals) == 50


async def test_calls_in_flight_are_bounded_in_bytes(path: Path, driver: FakeDriver) -> None:
    driver.gates[b"a"] = trio.Event()
    limits = Limits(message_bytes=10_000)
    async with serving(path, driver, limits=limits):
        client = await connect(path)
        await client.send(put(A, "AAAA" * 1000) * 9)
        await wait_all_tasks_blocked()
        assert len(driver.proposals) == 3
        driver.gates[b"a"].set()
        for _ in range(9):
            assert error_name(await client.receive()) is None


async def test_calls_may_come_in_any_pieces(path: Path, driver: FakeDriver) -> None:
    async with serving(path, driver):
        client = await connect(path)
        data = put(A) + call_bytes(VERSION) + put(B)
        for byte in data:
            await client.send(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            assert error_name(await client.receive()) is None


async def test_oneway_calls_are_done_and_not_answered(path: Path, driver: FakeDriver) -> None:
    async with serving(path, driver):
        client = await connect(path)
        await client.send(put(A, oneway=True) * 100)
        await client.send(call_bytes("io.raftd.KV.Nope", oneway=True))
        await client.send(call_bytes(READ_LOG, {"follow": True}, oneway=True, more=True))
        assert (await client.call(VERSION))["parameters"]["node"] == "node1"
        await wait_all_tasks_blocked()
        assert driver.answered == 100


async def test_a_client_that_hangs_up_does_not_undo_its_calls(
    path: Path, driver: FakeDriver
) -> None:
    driver.gates[b"a"] = trio.Event()
    async with serving(path, driver):
        client = await connect(path)
        await client.send(put(A, oneway=True) * 3 + put(A))
        await client.close()
        await wait_all_tasks_blocked()
        driver.gates[b"a"].set()
        await wait_all_tasks_blocked()
        assert driver.answered == 4


async def test_a_client_that_stops_sending_still_gets_its_replies(
    path: Path, driver: FakeDriver
) -> None:
    """As socat does at the end of its input."""
    async with serving(path, driver):
        client = await connect(path)
        await client.send(put(A) + put(B))
        await client.stream.send_eof()
        assert error_name(await client.receive()) is None
        assert error_name(await client.receive()) is None
        assert await client.receive() is None


async def test_upgrade_is_refused(path: Path, driver: FakeDriver) -> None:
    async with serving(path, driver):
        client = await connect(path)
        reply = await client.call(VERSION, upgrade=True)
        assert reply == {
            "error": protocol.METHOD_NOT_IMPLEMENTED,
            "parameters": {"method": VERSION},
        }
        assert error_name(await client.call(VERSION, upgrade=False)) is None


async def test_errors_of_calls_leave_the_connection_open(path: Path, driver: FakeDriver) -> None:
    async with serving(path, driver):
        client = await connect(path)
        assert error_name(await client.call("io.raftd.KV.Nope")) == "MethodNotFound"
        assert error_name(await client.call("org.example.Nope")) == "InterfaceNotFound"
        assert error_name(await client.call(PUT, {"key": 5})) == "InvalidParameter"
        assert error_name(await client.call(GET, {"key": A})) == "NotFound"
        assert error_name(await client.call(READ_LOG, {"follow": True})) == "ExpectedMore"
        await client.send(b'{"method":"%s","parameters":null,"more":null}\0' % VERSION.encode())
        assert error_name(await client.receive()) is None
