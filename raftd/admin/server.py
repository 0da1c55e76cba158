"""The Varlink socket: `serve` listens, gives each client a `Connection`, and cleans up at the end.

A socket with too many connections, or a process with too many files, says so or waits; it goes on
serving those it has, and takes new ones as soon as it can. When it is cancelled it stops listening,
gives calls that are under way a short time to end, and removes the socket file.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import trio

from raftd.admin import message, protocol
from raftd.admin.connection import Connection
from raftd.admin.handlers import Handlers
from raftd.admin.handlers.call import Call
from raftd.admin.intake import Intake
from raftd.admin.limits import Limits, Memory
from raftd.admin.socket_file import SocketError, SocketFile, SocketInUse

__all__ = ["Limits", "SocketError", "SocketInUse", "peer_uid", "serve"]

logger = logging.getLogger("raftd.admin")

_CREDENTIALS = struct.Struct("iII")
_ROOT = 0
_RETRY_SECONDS = 0.1
_SAY_AGAIN_SECONDS = 60.0
_ACCEPTED_AT_ONCE = 16


def peer_uid(connection: socket.socket) -> int:
    """Who connected: unix(7), SO_PEERCRED."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    assert isinstance(uid, int)
    return uid


async def serve(
    socket_path: Path,
    handlers: Handlers,
    *,
    group: str | None = None,
    limits: Limits | None = None,
    uid_of: Callable[[socket.socket], int] = peer_uid,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; started when clients can connect. Raises SocketError, SocketInUse."""
    file = SocketFile(socket_path, group)
    server = _Server(handlers, limits or Limits(), uid_of)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.keep_connections)
            try:
                logger.info("serving %s", socket_path)
                task_status.started()
                await server.accept(file.socket)
            finally:
                file.close()
                server.stop()
    finally:
        file.close()
        server.close()


class _Server:
    def __init__(
        self, handlers: Handlers, limits: Limits, uid_of: Callable[[socket.socket], int]
    ) -> None:
        self._handlers = handlers
        self._limits = limits
        self._uid_of = uid_of
        self._memory = Memory(limits.memory_bytes)
        self._privileged = {_ROOT, os.geteuid()}
        self._open: set[Connection] = set()
        self._nursery: trio.Nursery
        self._stopped = trio.Event()
        self._intake = Intake()
        self._shelter = trio.CancelScope(shield=True)
        self._silent_until = -_SAY_AGAIN_SECONDS

    async def keep_connections(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Where connections live: sheltered from what ends `serve`, until their grace is over."""
        with self._shelter:
            async with trio.open_nursery() as readers:
                readers.start_soon(self._intake.run)
                async with trio.open_nursery() as self._nursery:
                    task_status.started()
                    await self._stopped.wait()
                readers.cancel_scope.cancel()

    def stop(self) -> None:
        self._shelter.deadline = trio.current_time() + self._limits.grace
        self._stopped.set()
        for connection in self._open:
            connection.stop()

    def close(self) -> None:
        """When all connections are gone."""
        self._intake.close()

    async def accept(self, listener: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                for _ in range(_ACCEPTED_AT_ONCE):
                    self._welcome(listener.accept()[0])
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:  # too many open files, mostly: that passes
                self._say(f"cannot take new connections now: {error.strerror}")
                await trio.sleep(_RETRY_SECONDS)

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        uid = self._uid_of(sock)
        reserved = self._limits.reserved if uid == _ROOT else 0
        if len(self._open) >= self._limits.connections + reserved:
            self._turn_away(sock)
            return
        caller = Call(uid, uid in self._privileged)
        connection = Connection(
            sock, self._handlers, caller, self._limits, self._memory, self._intake
        )
        self._open.add(connection)
        self._nursery.start_soon(self._run, connection)

    def _turn_away(self, sock: socket.socket) -> None:
        limit = self._limits.connections
        self._say(f"{limit} connections are open, which is the limit: new ones are refused")
        error = protocol.CallError(protocol.TOO_MANY_CONNECTIONS, {"limit": limit})
        with sock, suppress(OSError):  # gone already
            sock.send(message.encode_error(error))

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        except* AssertionError:
            raise  # what the daemon holds may be wrong, so it must stop
        except* Exception as failures:
            logger.exception("a client's connection ended unexpectedly", exc_info=failures)
        finally:
            self._open.discard(connection)

    def _say(self, sentence: str) -> None:
        """A warning, not again for a minute: clients that try again must not fill the log."""
        now = trio.current_time()
        if now >= self._silent_until:
            self._silent_until = now + _SAY_AGAIN_SECONDS
            logger.warning("%s", sentence)
