"""Clients that do not read, and what all of them together may hold of the memory.

Server and client share one event loop and a virtual clock; the sockets are real.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from raftd.admin import protocol
from raftd.admin.server import Limits
from tests.admin.clients import (
    READ_LOG,
    VERSION,
    A,
    RawClient,
    call_bytes,
    connect,
    error_name,
    put,
    serving,
)
from tests.admin.fake_driver import FakeDriver


async def test_a_client_that_never_reads_is_cut_off(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    limits = Limits(connections=1, reserved=0)
    async with serving(path, driver, limits=limits):
        client = await connect(path)
        call = call_bytes(
            "org.varlink.service.GetInterfaceDescription", {"interface": protocol.NODE}
        )
        start = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.send(call * 100)
        assert trio.current_time() - start == pytest.approx(30, abs=1)
        await client.close()
        await wait_all_tasks_blocked()
        assert error_name(await (await connect(path)).call(VERSION)) is None


async def test_what_waits_for_a_client_is_bounded(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    """pitfall 95"""
    async with serving(path, driver):
        client = await connect(path)
        with trio.move_on_after(20):
            for _ in range(10_000):
                await client.send(call_bytes(READ_LOG, {"count": 10_000}) + put(A))
        # The socket holds a few hundred kilobytes of calls and of replies; the rest is not begun.
        assert driver.answered < 5000
        count = driver.answered
        await trio.sleep(5)
        assert driver.answered == count


async def test_calls_of_all_clients_share_a_bound(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    limits = Limits(message_bytes=1 << 20, memory_bytes=3 << 20)
    async with serving(path, driver, limits=limits):
        for _ in range(3):
            clients = [await connect(path) for _ in range(5)]
            for client in clients[:3]:
                await client.send(b'"' + b"x" * (900 << 10))
                await wait_all_tasks_blocked()
            for client in clients[3:]:
                with pytest.raises(trio.BrokenResourceError):
                    await client.send(b'"' + b"x" * (900 << 10))
                assert error_name(await client.receive()) == "Busy"
                assert await client.receive() is None
            for client in clients:
                await client.close()
            await wait_all_tasks_blocked()
        # All of it has been given back.
        clients = [await connect(path) for _ in range(3)]
        for client in clients:
            await client.send(put(A, "AAAA" * 200_000))
            assert error_name(await client.receive()) is None


async def test_replies_of_all_clients_share_a_bound(
    path: Path, driver: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10_000):
        driver.append()
    limits = Limits(memory_bytes=4 << 20)
    read = call_bytes(READ_LOG, {"count": 10_000})
    async with serving(path, driver, limits=limits):
        clients = [await connect(path) for _ in range(6)]
        for client in clients:
            await client.send(read)
            await wait_all_tasks_blocked()
        answered = [await client.receive() for client in clients if await has_reply(client.stream)]
        assert 1 <= len(answered) <= 5
        assert "a client was cut off" in caplog.text
        await wait_all_tasks_blocked()
        for _ in range(10):
            assert error_name(await (await connect(path)).call(READ_LOG, {"count": 10_000})) is None


async def has_reply(stream: trio.SocketStream) -> bool:
    """False if the server has just ended the connection."""
    return await stream.socket.recv(1, socket.MSG_PEEK) != b""


async def test_what_a_client_leaves_unsent_is_given_back(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    for _ in range(10_000):
        driver.append()
    follow = call_bytes(READ_LOG, {"first": 10**6, "follow": True}, more=True)
    read = call_bytes(READ_LOG, {"count": 10_000})
    async with serving(path, driver, limits=Limits(memory_bytes=4 << 20)):
        for _ in range(10):
            client = await connect(path)
            await client.send(follow + read)
            await wait_all_tasks_blocked()
            await client.close()
            await trio.sleep(6)
        assert error_name(await (await connect(path)).call(READ_LOG, {"count": 10_000})) is None


async def test_a_small_call_finds_no_memory(path: Path, driver: FakeDriver) -> None:
    limits = Limits(message_bytes=1 << 20, memory_bytes=1 << 20)
    async with serving(path, driver, limits=limits):
        large, small = await connect(path), await connect(path)
        await large.send(b"x" * ((1 << 20) - 1000))
        await wait_all_tasks_blocked()
        await small.send(put(value="AAAA" * 1000))
        assert error_name(await small.receive()) == "Busy"
        assert await small.receive() is None
        assert driver.proposals == []


async def test_calls_under_way_hold_memory(path: Path, driver: FakeDriver) -> None:
    driver.gates[b"a"] = trio.Event()
    large = put(A, "AAAA" * 25_000)
    async with serving(path, driver, limits=Limits(memory_bytes=8 * len(large))):
        busy, other = await connect(path), await connect(path)
        await busy.send(large * 7)
        await wait_all_tasks_blocked()
        assert len(driver.proposals) == 7
        await other.send(put(A, "AAAA" * 30_000))
        assert error_name(await other.receive()) == "Busy"
        driver.gates[b"a"].set()
        for _ in range(7):
            assert error_name(await busy.receive()) is None
        assert error_name(await (await connect(path)).call(VERSION)) is None


async def test_a_reply_that_was_cut_short_is_the_last(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    """The server stops while a client does not read: nothing may follow half a reply."""
    driver.gates[b"a"] = trio.Event()
    driver.name = "long name " * 2000
    limits = Limits(write_timeout=3600, grace=2)
    received = bytearray()

    async def read_later(client: RawClient) -> None:
        await trio.sleep(1)
        driver.gates[b"a"].set()
        await trio.sleep(2)
        async for chunk in client.stream:
            received.extend(chunk)

    async with trio.open_nursery() as nursery, serving(path, driver, limits=limits) as scope:
        client = await connect(path)
        await client.send(call_bytes(VERSION) * 62 + put())
        await wait_all_tasks_blocked()
        assert len(driver.proposals) == 1
        nursery.start_soon(read_later, client)
        scope.cancel()
    *replies, cut = received.split(b"\0")
    assert 3 < len(replies) < 62
    assert cut
    assert [set(json.loads(reply)) for reply in replies] == [{"parameters"}] * len(replies)
    assert b'"revision"' not in cut
