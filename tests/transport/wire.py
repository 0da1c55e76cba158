"""A TCP proxy that misbehaves on demand, and the first bytes of nng's wire protocol."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from raftd.credentials import Credentials
from raftd.promise import Promise, in_task
from raftd.transport.transport import Transport, Unreachable

MAX_BYTES = 2 << 20
REQ_HELLO = b"\0SP\0\0\x30\0\0"
"""What a Req0 socket says first (SP over TCP: RFC draft sp-tcp-mapping; 0x30 is REQ)."""


def frame(payload: bytes, request_id: int = 1) -> bytes:
    """A request as it stands on the wire: length, request id with its top bit set, payload."""
    return (
        (len(payload) + 4).to_bytes(8, "big")
        + (request_id | 0x80000000).to_bytes(4, "big")
        + payload
    )


@asynccontextmanager
async def transport(
    handler: Callable[[bytes], Awaitable[bytes | None]],
    listen: str = "tcp://127.0.0.1:0",
    *,
    receivers: int = 8,
    connections: int = 64,
    credentials: Credentials | None = None,
    senders: list[str | None] | None = None,
) -> AsyncIterator[Transport]:
    """A transport that serves. `senders` gets whose certificate each request came with."""
    opened = Transport(
        listen,
        max_message_bytes=MAX_BYTES,
        receivers=receivers,
        max_connections=connections,
        credentials=credentials,
    )
    async with trio.open_nursery() as nursery:

        def handle(request: bytes, certified: str | None) -> Promise[bytes | None]:
            if senders is not None:
                senders.append(certified)
            return in_task(nursery, handler, request, failures=(Exception,))

        await nursery.start(opened.serve, handle)
        yield opened
        nursery.cancel_scope.cancel()
    await opened.aclose()


@asynccontextmanager
async def caller() -> AsyncIterator[Transport]:
    """A transport that only calls."""
    async with transport(_silent) as opened:
        yield opened


async def _silent(request: bytes) -> None:
    del request


async def eventually(attempt: Callable[[], Awaitable[bytes]]) -> bytes:
    """The first answer; connections take a moment to come up."""
    with trio.fail_after(20):
        while True:
            try:
                return await attempt()
            except Unreachable:
                await trio.sleep(0.005)


class Proxy:
    """Forwards connections to `port`, until told otherwise."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.address = ""
        self.accepted = 0
        self.frozen: Callable[[int], bool] = lambda number: False
        """Does the connection of this number, from 1, swallow nothing and give nothing?"""
        self.rate = math.inf
        """Bytes a second, each way of each connection."""
        self._thawed = trio.Event()
        self._scopes: dict[int, trio.CancelScope] = {}

    def cut(self) -> None:
        """Close every connection."""
        for scope in self._scopes.values():
            scope.cancel()

    def thaw(self) -> None:
        self.frozen = lambda number: False
        self._thawed.set()
        self._thawed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.address = f"tcp://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        task_status.started()
        await trio.serve_listeners(self._connection, listeners)

    async def _connection(self, near: trio.SocketStream) -> None:
        self.accepted += 1
        number = self.accepted
        with trio.CancelScope() as scope:
            self._scopes[number] = scope
            try:
                far = await trio.open_tcp_stream("127.0.0.1", self.port)
                async with far, trio.open_nursery() as nursery:
                    nursery.start_soon(self._forward, number, near, far, scope)
                    nursery.start_soon(self._forward, number, far, near, scope)
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        del self._scopes[number]

    async def _forward(
        self,
        number: int,
        source: trio.SocketStream,
        target: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        while True:
            while self.frozen(number):
                await self._thawed.wait()
            data = await source.receive_some(8192)
            await trio.sleep(len(data) / self.rate)
            while self.frozen(number):
                await self._thawed.wait()
            if not data:
                scope.cancel()
                return
            await target.send_all(data)


@asynccontextmanager
async def proxy(port: int) -> AsyncIterator[Proxy]:
    opened = Proxy(port)
    async with trio.open_nursery() as nursery:
        await nursery.start(opened.run)
        yield opened
        nursery.cancel_scope.cancel()


def port_of(opened: Transport) -> int:
    return int(opened.address.rpartition(":")[2])
