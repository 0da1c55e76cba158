"""Bytes that are no calls: too many, too few, or the wrong ones. Said, and the connection ends.

Server and client share one event loop and a virtual clock; the sockets are real.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from raftd.admin import protocol
from raftd.admin.server import Limits
from tests.admin.clients import (
    PUT,
    READ_LOG,
    VERSION,
    A,
    call_bytes,
    connect,
    error_name,
    put,
    serving,
)
from tests.admin.fake_driver import FakeDriver

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
        assert 30 <= trio.current_time() - start < 32
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
