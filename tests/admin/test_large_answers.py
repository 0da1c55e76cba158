"""A driver and its socket: answers are made as their clients take them, not before.

All share one event loop and a virtual clock; the sockets are real.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from raftd.admin.limits import Limits
from tests.admin.clients import GET, RawClient, call_bytes, connect, serving
from tests.driver.cluster import Node, running

KEY = base64.b64encode(b"large").decode()
VALUE = "v" * 100_000
COUNT = 300
LIMITS = Limits(message_bytes=1 << 20, memory_bytes=8 << 20)
FAR_FEWER = 60


class Reads:
    """Counts what the state machine of `node` is asked."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("read", "read_now"):
            monkeypatch.setattr(node.store, name, self._counted(getattr(node.store, name)))

    def _counted(self, read: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        def counted(query: bytes) -> bytes:
            self.count += 1
            return read(query)

        return counted


def get(**parameters: Any) -> bytes:
    return call_bytes(GET, {"key": KEY, **parameters})


async def receive(client: RawClient) -> None:
    """The large value."""
    reply = await client.receive()
    assert reply is not None
    assert base64.b64decode(reply["parameters"]["item"]["value"]).decode() == VALUE


async def test_a_client_gets_all_that_it_takes_at_its_own_pace(
    path: Path,
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(tmp_path, 1) as cluster:
        node = await cluster.leader()
        await node.put("large", VALUE)
        reads = Reads(node, monkeypatch)
        async with serving(path, node.driver, limits=LIMITS):
            client = await connect(path)
            await client.send(get(timeout_ms=1000) * COUNT)
            await trio.sleep(5)
            assert reads.count < FAR_FEWER
            assert not node.driver.reads.is_waiting
            for _ in range(COUNT):
                await receive(client)
        assert "cut off" not in caplog.text


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_what_nobody_takes_is_not_made(
    path: Path,
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    *,
    hangs_up: bool,
) -> None:
    limits = Limits(connections=1, reserved=0, message_bytes=1 << 20, memory_bytes=8 << 20)
    async with running(tmp_path, 1) as cluster:
        node = await cluster.leader()
        await node.put("large", VALUE)
        reads = Reads(node, monkeypatch)
        async with serving(path, node.driver, limits=limits):
            client = await connect(path)
            await client.send(get() * COUNT)
            await trio.sleep(1)
            if hangs_up:
                await client.close()
            await trio.sleep(limits.write_timeout + 1)
            assert reads.count < FAR_FEWER
            await client.close()
            other = await connect(path)  # there is room for one connection
            await other.send(get())
            await receive(other)


async def test_answers_that_overtake_others_do_not_block_them(
    path: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The first has to be sent before any other, and is the last that is made."""
    async with running(tmp_path, 1) as cluster:
        node = await cluster.leader()
        await node.put("large", VALUE)
        async with serving(path, node.driver, limits=LIMITS):
            client = await connect(path)
            await client.send(get() + get(stale=True) * 40)
            for _ in range(41):
                await receive(client)


async def test_many_clients_share_the_memory(
    path: Path, tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(message_bytes=1 << 20, memory_bytes=12 << 20)
    async with running(tmp_path, 1) as cluster:
        node = await cluster.leader()
        await node.put("large", VALUE)
        async with serving(path, node.driver, limits=limits):
            clients = [await connect(path) for _ in range(12)]
            for client in clients:
                await client.send(get() * 20)
            await trio.sleep(1)
            for client in clients:
                for _ in range(20):
                    await receive(client)
        assert "cut off" not in caplog.text
