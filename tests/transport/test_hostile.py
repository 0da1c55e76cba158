"""What strangers may send to the port of a node: it goes on serving its peers."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from raftd.transport import server as answering
from raftd.transport.transport import Transport, Unreachable
from tests.transport.wire import MAX_BYTES, REQ_HELLO, caller, eventually, frame, port_of, transport

pytestmark = pytest.mark.system


async def echo(request: bytes) -> bytes:
    return request


@asynccontextmanager
async def served(connections: int = 64) -> AsyncIterator[tuple[Transport, Transport, int]]:
    """A serving end, a calling end that is connected, and the port between them."""
    async with transport(echo, connections=connections, receivers=2) as server, caller() as client:
        client.set_peer("a", server.address)
        await eventually(lambda: client.call("a", b"x", 5))
        yield server, client, port_of(server)
        assert await eventually(lambda: client.call("a", b"still there", 5)) == b"still there"
        async with caller() as another:
            another.set_peer("a", server.address)
            assert await eventually(lambda: another.call("a", b"new", 5)) == b"new"


async def connect(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


async def receive_exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        assert more, "closed"
        data += more
    return data


async def until_closed(stream: trio.SocketStream) -> None:
    try:
        while await stream.receive_some(65536):
            pass
    except trio.BrokenResourceError:
        pass


async def test_the_wire_protocol_is_the_one_these_tests_speak() -> None:
    async with served() as (_, _, port), await connect(port) as stream:
        await stream.send_all(REQ_HELLO + frame(b"hello", 7))
        assert await receive_exactly(stream, 8) == b"\0SP\0\0\x31\0\0"
        assert await receive_exactly(stream, 8 + 4 + 5) == frame(b"hello", 7)


HOSTILE = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": bytes(10_000),
    "half a hello": REQ_HELLO[:5],
    "another protocol": b"\0SP\0\0\x20\0\0",
    "another version": b"\0SP\1\0\x30\0\0",
    "no request id": REQ_HELLO + b"\0\0\0\0\0\0\0\3abc",
    "empty message": REQ_HELLO + bytes(8),
    "endless routing": REQ_HELLO + (4000).to_bytes(8, "big") + b"\0\0\0\1" * 1000,
    "too large": REQ_HELLO + (MAX_BYTES + 100).to_bytes(8, "big") + b"x" * 1000,
    "far too large": REQ_HELLO + b"\xff" * 8 + b"x" * 1000,
    "announced, not sent": REQ_HELLO + (MAX_BYTES).to_bytes(8, "big") + b"x",
    "half a request": REQ_HELLO + frame(b"x" * 100)[:50],
    "empty request": REQ_HELLO + frame(b""),
    "random": REQ_HELLO + random.Random(1).randbytes(5000),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_bytes(data: bytes) -> None:
    """pitfall 77"""
    async with served() as (_, client, port), AsyncExitStack() as stack:
        for _ in range(20):
            stream = await stack.enter_async_context(await connect(port))
            await stream.send_all(data)
        assert await client.call("a", b"x", 5) == b"x"


@pytest.mark.parametrize(
    "name", ["another protocol", "no request id", "too large", "far too large"]
)
async def test_who_breaks_the_protocol_is_disconnected(name: str) -> None:
    """pitfall 74"""
    with trio.fail_after(20):
        async with served() as (_, _, port), await connect(port) as stream:
            await stream.send_all(HOSTILE[name])
            await until_closed(stream)


async def test_requests_without_waiting_for_answers() -> None:
    async with served() as (_, client, port), await connect(port) as stream:
        await stream.send_all(
            REQ_HELLO + b"".join(frame(b"%d" % number, number) for number in range(500))
        )
        assert await client.call("a", b"x", 5) == b"x"
        await receive_exactly(stream, 8)
        for _ in range(500):
            header = await receive_exactly(stream, 8)
            await receive_exactly(stream, int.from_bytes(header, "big"))


async def test_who_never_reads_answers_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answering, "ANSWER_TIMEOUT", 0.05)
    with trio.fail_after(30):
        async with served() as (_, client, port), await connect(port) as stream:
            request = frame(bytes(1 << 20))
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(REQ_HELLO)
                while True:
                    await stream.send_all(request)
            assert "takes no answers" in caplog.text
            assert await client.call("a", b"x", 5) == b"x"


async def test_a_thousand_connections_that_say_nothing() -> None:
    async with served() as (_, client, port), AsyncExitStack() as stack:
        for _ in range(1000):
            await stack.enter_async_context(await connect(port))
        for _ in range(10):
            assert await client.call("a", b"x", 5) == b"x"


async def test_the_longest_silent_connection_goes_when_there_are_too_many(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with trio.fail_after(60):
        async with served(connections=10) as (_, client, port), AsyncExitStack() as stack:
            idle = []
            for number in range(300):
                stream = await stack.enter_async_context(await connect(port))
                await stream.send_all(REQ_HELLO + frame(b"", number))
                await receive_exactly(stream, 8 + 8 + 4)
                idle.append(stream)
                # Never refused, because it is in use.
                assert await client.call("a", b"x", 5) == b"x"
            for stream in idle[:290]:
                await until_closed(stream)
            await idle[-1].send_all(frame(b"", 5))
            await receive_exactly(idle[-1], 12)
    assert caplog.text.count("more than 10 connections") == 9


async def test_connections_that_come_and_go_leave_nothing_behind() -> None:
    async with transport(echo) as server:
        for _ in range(300):
            async with await connect(port_of(server)) as stream:
                await stream.send_all(REQ_HELLO + frame(b"x"))
        assert server._server is not None
        held = server._server.connections._pipes
        known = server._server._socket._pipes
        async with caller() as client:
            client.set_peer("a", server.address)
            await eventually(lambda: client.call("a", b"x", 5))
            with trio.fail_after(20):
                while len(held) > 1 or len(known) > 1:  # noqa: ASYNC110 - nng's own threads
                    await trio.sleep(0.001)


async def test_a_peer_that_answers_garbage() -> None:
    """pitfall 77"""

    async def garbage(stream: trio.SocketStream) -> None:
        await stream.send_all(b"\0SP\0\0\x31\0\0" + b"\xff" * 100)
        await trio.sleep_forever()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with caller() as client, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, garbage, listeners)
        client.set_peer("a", f"tcp://127.0.0.1:{port}")
        for _ in range(20):
            with pytest.raises(Unreachable):
                await client.call("a", b"x", 0.05)
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
