"""One connection: order, overlap, streams, and what becomes of clients that misbehave.

Server and client share one event loop and a virtual clock; the sockets are real.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from raftd.admin import protocol
from raftd.admin.handlers.call import from_base64
from raftd.admin.server import Limits
from tests.admin.clients import Message, call_bytes, close_all, connect, error_name, serving
from tests.admin.fake_driver import FakeDriver

VERSION = f"{protocol.NODE}.GetVersion"
READ_LOG = f"{protocol.NODE}.ReadLog"
PUT = f"{protocol.KV}.Put"
GET = f"{protocol.KV}.Get"
A, B = "YQ==", "Yg=="


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    yield tmp_path / "raftd.sock"
    close_all()


def put(key: str = A, value: str = "", **flags: bool) -> bytes:
    return call_bytes(PUT, {"key": key, "value": value}, **flags)


# Calls and replies


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


async def test_only_so_many_calls_are_begun_at_once(path: Path, driver: FakeDriver) -> None:
    driver.gates[b"a"] = trio.Event()
    async with serving(path, driver):
        client = await connect(path)
        await client.send(put(A) * 1000)
        await wait_all_tasks_blocked()
        assert len(driver.proposals) == 64
        driver.gates[b"a"].set()
        for _ in range(1000):
            assert error_name(await client.receive()) is None
        assert driver.answered == 1000


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


# Bytes that are no calls

MALFORMED = {
    "nothing": b"",
    "no JSON": b"GET / HTTP/1.1\r\n",
    "array": b"[]",
    "number": b"5",
    "no method": b"{}",
    "method is a number": b'{"method":5}',
    "parameters are an array": b'{"method":"%s","parameters":[]}' % PUT.encode(),
    "parameters are text": b'{"method":"%s","parameters":"a"}' % PUT.encode(),
    "more is a number": b'{"method":"%s","more":1}' % VERSION.encode(),
    "oneway is text": b'{"method":"%s","oneway":"yes"}' % VERSION.encode(),
    "behind the end": b'{"method":"%s"} {}' % VERSION.encode(),
    "NaN": b'{"method":"%s","parameters":{"key":NaN}}' % PUT.encode(),
    "nested": b'{"method":"%s","parameters":' % PUT.encode() + b'{"key":' * 100_000,
    "nested and closed": b'{"method":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no UTF-8": b'{"method":"\xff\xfe"}',
    "no UTF-8 in parameters": b'{"method":"%s","parameters":{"key":"\xff"}}' % PUT.encode(),
    "half a surrogate": b'{"method":"\\ud800"}',
    "other half": b'{"method":"%s","parameters":{"key":"\\udc00"}}' % PUT.encode(),
    "byte order mark": b'\xef\xbb\xbf{"method":"%s"}' % VERSION.encode(),
    "UTF-16": json.dumps({"method": VERSION}).encode("utf-16"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_calls_end_the_connection(
    path: Path, driver: FakeDriver, data: bytes
) -> None:
    """pitfall 77"""
    async with serving(path, driver):
        client = await connect(path)
        await client.send(put(A) + data + b"\0" + call_bytes(VERSION))
        assert error_name(await client.receive()) is None
        reply = await client.receive()
        assert error_name(reply) == "ProtocolError"
        assert reply is not None
        assert 0 < len(reply["parameters"]["reason"]) < 300
        assert await client.receive() is None
        assert error_name(await (await connect(path)).call(VERSION)) is None


async def test_huge_numbers_are_wrong_parameters(path: Path, driver: FakeDriver) -> None:
    """pitfall 13"""
    async with serving(path, driver):
        client = await connect(path)
        for number in (b"1" + b"0" * 100_000, b"1e400", b"-1e400", b"1.5", b"18446744073709551616"):
            await client.send(
                b'{"method":"%s","parameters":{"first":%s}}\0' % (READ_LOG.encode(), number)
            )
            reply = await client.receive()
            assert reply == {
                "error": protocol.INVALID_PARAMETER,
                "parameters": {"parameter": "first"},
            }


@pytest.mark.parametrize("excess", [-1, 0, 1])
async def test_a_call_may_have_so_many_bytes(path: Path, driver: FakeDriver, excess: int) -> None:
    """pitfall 73"""
    limit = 300_000
    call = call_bytes(VERSION).removesuffix(b"\0").ljust(limit + excess)
    async with serving(path, driver, limits=Limits(message_bytes=limit)):
        client = await connect(path)
        await client.send(call + b"\0")
        reply = await client.receive()
        assert error_name(reply) == ("ProtocolError" if excess > 0 else None)
        if excess > 0:
            assert reply is not None
            assert reply["parameters"]["reason"] == "a call has more than 300000 bytes"
            assert await client.receive() is None


async def test_a_call_without_end_is_cut_off(path: Path, driver: FakeDriver) -> None:
    async with serving(path, driver):
        client = await connect(path)
        sent = 0
        with pytest.raises(trio.BrokenResourceError):
            while sent < 100 << 20:
                await client.send(b"x" * 65536)
                sent += 65536
        assert sent < 6 << 20
        assert error_name(await client.receive()) == "ProtocolError"
        assert await client.receive() is None


async def test_a_call_that_is_half_sent_times_out(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    async with serving(path, driver):
        client = await connect(path)
        start = trio.current_time()
        await client.send(call_bytes(VERSION) + b'{"method":')
        assert error_name(await client.receive()) is None
        assert error_name(await client.receive()) == "ProtocolError"
        assert trio.current_time() - start == pytest.approx(30, abs=0.1)
        assert await client.receive() is None


async def test_a_call_that_drips_times_out_as_well(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    async with serving(path, driver):
        client = await connect(path)
        start = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(100):
                await client.send(b" ")
                await trio.sleep(10)
        assert trio.current_time() - start <= 50
        assert error_name(await client.receive()) == "ProtocolError"


async def test_a_half_sent_call_at_the_end(path: Path, driver: FakeDriver) -> None:
    async with serving(path, driver):
        client = await connect(path)
        await client.send(call_bytes(VERSION).removesuffix(b"\0"))
        await client.stream.send_eof()
        assert error_name(await client.receive()) == "ProtocolError"
        assert await client.receive() is None


async def test_between_calls_a_client_may_be_silent(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    async with serving(path, driver):
        client = await connect(path)
        for _ in range(3):
            assert error_name(await client.call(VERSION)) is None
            await trio.sleep(86_400)


# Clients that do not read


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


# Streams


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
