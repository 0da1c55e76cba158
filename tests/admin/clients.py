"""Ways to reach a server from a test: in the same event loop byte by byte, or from a thread."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from raftd.admin import protocol
from raftd.admin.handlers import Handlers
from raftd.admin.handlers.driver_api import Driver
from raftd.admin.server import Limits, peer_uid, serve
from tests.admin.fake_driver import FakeDriver

Message = dict[str, Any]

VERSION = f"{protocol.NODE}.GetVersion"
READ_LOG = f"{protocol.NODE}.ReadLog"
PUT = f"{protocol.KV}.Put"
GET = f"{protocol.KV}.Get"
A, B = "YQ==", "Yg=="


def call_bytes(method: str, parameters: Message | None = None, **flags: bool) -> bytes:
    message: Message = {"method": method, **flags}
    if parameters is not None:
        message["parameters"] = parameters
    return json.dumps(message).encode() + b"\0"


def put(key: str = A, value: str = "", **flags: bool) -> bytes:
    return call_bytes(PUT, {"key": key, "value": value}, **flags)


def error_name(message: Message | None) -> str | None:
    """The last part of an error's name."""
    return None if message is None else message.get("error", "").rpartition(".")[2] or None


class RawClient:
    """Bytes out, messages in, in the event loop of the server."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive(self) -> Message | None:
        """The next message; None when the server has ended the connection."""
        while b"\0" not in self._buffer:
            try:
                chunk = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:  # it ended it with something of ours unread
                return None
            if not chunk:
                assert self._buffer == b"", "a reply was cut"
                return None
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        decoded = json.loads(message)
        assert isinstance(decoded, dict)
        return decoded

    async def call(self, method: str, parameters: Message | None = None, **flags: bool) -> Message:
        await self.send(call_bytes(method, parameters, **flags))
        reply = await self.receive()
        assert reply is not None
        return reply

    async def close(self) -> None:
        await self.stream.aclose()


_opened: list[trio.socket.SocketType] = []


def close_all() -> None:
    """What a test has connected."""
    while _opened:
        _opened.pop().close()


async def connect(path: Path) -> RawClient:
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    _opened.append(sock)
    await sock.connect(str(path))
    return RawClient(trio.SocketStream(sock))


@contextmanager
def served(path: Path, driver: FakeDriver) -> Iterator[None]:
    """A server in a thread of its own, for clients that block."""
    started = threading.Event()
    stop: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []

    async def run() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                handlers = Handlers(driver, reload=lambda: None)
                await nursery.start(serve, path, handlers)
                stop.append((trio.lowlevel.current_trio_token(), scope))
                started.set()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    assert started.wait(10)
    token, scope = stop[0]
    try:
        yield
    finally:
        trio.from_thread.run_sync(scope.cancel, trio_token=token)
        thread.join(10)
        assert not thread.is_alive()


@asynccontextmanager
async def serving(
    path: Path,
    driver: Driver,
    *,
    limits: Limits | None = None,
    uid_of: Callable[[socket.socket], int] = peer_uid,
    reload: Callable[[], None] = lambda: None,
) -> AsyncIterator[trio.CancelScope]:
    """A server in this event loop; it stops when the scope is cancelled, or at the end."""
    handlers = Handlers(driver, reload=reload)
    run = partial(serve, path, handlers, limits=limits, uid_of=uid_of)
    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield nursery.cancel_scope
        nursery.cancel_scope.cancel()
