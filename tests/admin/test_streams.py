"""Streams: the log followed, by slow readers and by those who go away.

Server and client share one event loop and a virtual clock; the sockets are real.
"""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from raftd.admin import protocol
from raftd.admin.server import Limits
from tests.admin.clients import (
    READ_LOG,
    VERSION,
    A,
    B,
    Message,
    call_bytes,
    connect,
    error_name,
    put,
    serving,
)
from tests.admin.fake_driver import FakeDriver


def follow(first: int = 1) -> bytes:
    return call_bytes(READ_LOG, {"first": first, "follow": True}, more=True)


def indexes(message: Message | None) -> list[int]:
    assert message is not None
    return [entry["index"] for entry in message["parameters"]["entries"]]


async def test_a_stream_follows_the_log(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    driver.append()
    async with serving(path, driver):
        client = await connect(path)
        await client.send(follow())
        for index in range(1, 10):
            message = await client.receive()
            assert indexes(message) == [index]
            assert message is not None
            assert message["continues"] is True
            await trio.sleep(3600)
            driver.append()


async def test_a_slow_reader_slows_only_its_own_stream(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    """pitfall 95"""
    async with serving(path, driver):
        slow, quick = await connect(path), await connect(path)
        await slow.send(follow())
        for _ in range(60_000):
            driver.append()
        await wait_all_tasks_blocked()
        pulled = driver.pulls
        assert pulled < 10
        await trio.sleep(300)
        assert driver.pulls == pulled
        assert error_name(await quick.call(VERSION)) is None
        seen: list[int] = []
        while len(seen) < 60_000:
            seen += indexes(await slow.receive())
        assert seen == list(range(1, 60_001))


async def test_a_reader_of_a_stream_that_never_returns_is_cut_off(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    async with serving(path, driver, limits=Limits(connections=1, reserved=0)):
        client = await connect(path)
        await client.send(follow())
        for _ in range(60_000):
            driver.append()
        await trio.sleep(599)
        assert error_name(await (await connect(path)).receive()) == "TooManyConnections"
        await trio.sleep(2)
        assert error_name(await (await connect(path)).call(VERSION)) is None


async def test_a_stream_ends_when_its_client_hangs_up(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    async with serving(path, driver, limits=Limits(connections=1, reserved=0)):
        for behind in (b"", put(A), put(A) * 1000):
            client = await connect(path)
            await client.send(follow(10**6) + behind)
            await wait_all_tasks_blocked()
            await client.close()
            await trio.sleep(5.1)
            newcomer = await connect(path)
            assert error_name(await newcomer.call(VERSION)) is None
            await newcomer.close()
            await wait_all_tasks_blocked()


async def test_a_stream_goes_on_when_its_client_only_stops_sending(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    async with serving(path, driver):
        client = await connect(path)
        await client.send(follow())
        await client.stream.send_eof()
        await trio.sleep(60)
        driver.append()
        assert indexes(await client.receive()) == [1]


async def test_streams_and_calls_keep_their_order(path: Path, driver: FakeDriver) -> None:
    for _ in range(2500):
        driver.append()
    stream = call_bytes(READ_LOG, {"count": 2500}, more=True)
    driver.gates[b"a"] = trio.Event()
    async with serving(path, driver):
        client = await connect(path)
        await client.send(put(A) + stream + call_bytes(VERSION) + stream + put(B))
        await wait_all_tasks_blocked()
        driver.gates[b"a"].set()
        assert await client.receive() == {"parameters": {"revision": 2502, "existed": False}}
        for _ in range(2):
            parts = [await client.receive() for _ in range(3)]
            assert [index for part in parts for index in indexes(part)] == list(range(1, 2501))
            assert [part and part.get("continues") for part in parts] == [True, True, None]
            if _ == 0:
                reply = await client.receive()
                assert reply is not None
                assert "version" in reply["parameters"]
        assert await client.receive() == {"parameters": {"revision": 2501, "existed": False}}


async def test_garbage_behind_a_stream_ends_it(path: Path, driver: FakeDriver) -> None:
    async with serving(path, driver):
        client = await connect(path)
        await client.send(follow(10**6) + b"garbage\0")
        assert await client.receive() is None


async def test_more_for_a_method_with_one_reply(path: Path, driver: FakeDriver) -> None:
    async with serving(path, driver):
        client = await connect(path)
        for method in (VERSION, f"{protocol.NODE}.GetStatus"):
            reply = await client.call(method, more=True)
            assert "continues" not in reply
            assert "error" not in reply
        assert (
            error_name(await client.call(READ_LOG, {"count": -1}, more=True)) == "InvalidParameter"
        )
