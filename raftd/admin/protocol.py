"""The Varlink socket as a client sees it: `Connection` in, replies or `CallError` out.

A message is one JSON object followed by a NUL byte (https://varlink.org/Method-Call):

    call   {"method": "io.raftd.KV.Get", "parameters": {...}, "more": true, "oneway": true}
    reply  {"parameters": {...}, "continues": true}   or   {"error": "io.raftd.KV.NotFound", ...}

raftctl starts with this module, so it needs little of the standard library and nothing else. The
names and limits here are those of the server, too.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

SERVICE = "org.varlink.service"
NODE = "io.raftd.Node"
KV = "io.raftd.KV"
SNAPSHOTS = "io.raftd.Snapshots"
INTERFACES = (SERVICE, NODE, KV, SNAPSHOTS)

INTERFACE_NOT_FOUND = f"{SERVICE}.InterfaceNotFound"
METHOD_NOT_FOUND = f"{SERVICE}.MethodNotFound"
METHOD_NOT_IMPLEMENTED = f"{SERVICE}.MethodNotImplemented"
INVALID_PARAMETER = f"{SERVICE}.InvalidParameter"
PERMISSION_DENIED = f"{SERVICE}.PermissionDenied"
EXPECTED_MORE = f"{SERVICE}.ExpectedMore"
PROTOCOL_ERROR = f"{NODE}.ProtocolError"
TOO_MANY_CONNECTIONS = f"{NODE}.TooManyConnections"
BUSY = f"{KV}.Busy"

MAX_PATH_BYTES = 107
"""unix(7): sun_path has 108 bytes, and a final NUL."""
MAX_MESSAGE_BYTES = 4 << 20
"""What a server takes as one call unless it is told otherwise; the NUL does not count."""
MAX_REPLY_BYTES = 128 << 20
"""What a client takes as one reply; the largest entry a log can hold fits, in base64."""
_RECEIVE_BYTES = 1 << 16
_OF_CONNECTION = -1.0


class AdminError(Exception):
    """A call came to no answer. The message is a sentence for the person who made it."""


class NoDaemon(AdminError):
    """Nobody serves the socket at `path`; `reason` says how that showed."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"no raftd at {path}: {reason}")
        self.path = path
        self.reason = reason


class Disconnected(NoDaemon):
    """The daemon ended the connection before its answer was complete: the call may have had an
    effect."""


class NotPermitted(AdminError):
    """The socket's mode, or that of a directory above it, keeps this user out."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"not permitted to connect to {path}: ask root, or join the socket's group"
        )
        self.path = path


class TimedOut(AdminError):
    """No complete answer within the call's time: the call may have had an effect."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__(f"no answer from {path} within {timeout:g} s")
        self.path = path
        self.timeout = timeout


class ProtocolViolation(AdminError):
    """What came back is no Varlink reply."""


class CallError(Exception):
    """A Varlink error: the answer to a call that was not done. `name` is qualified."""

    def __init__(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.parameters = dict(parameters or {})

    def __str__(self) -> str:
        details = ", ".join(f"{key} {value}" for key, value in self.parameters.items())
        return f"{self.name} ({details})" if details else self.name


class Connection:
    """One connection to a daemon's socket, for one call at a time.

    `timeout` (seconds; None: no bound) holds for connecting and, anew, for each whole call. After
    any exception but `CallError` the connection is closed, since it is unknown where it stands.
    Raises NoDaemon, NotPermitted, TimedOut.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float | None = 5.0) -> None:
        self.path = os.fspath(path)
        self.timeout = timeout
        self._buffer = bytearray()
        self._socket = _connect(self.path, timeout)

    def call(
        self,
        method: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = _OF_CONNECTION,
    ) -> dict[str, Any]:
        """The reply's parameters. `timeout`: when it is not to be the connection's.

        Raises CallError, Disconnected, TimedOut, ProtocolViolation.
        """
        deadline = _Deadline(self.path, self.timeout if timeout == _OF_CONNECTION else timeout)
        with _ClosedOnFailure(self):
            self._send({"method": method, "parameters": dict(parameters or {})}, deadline)
            reply, continues = self._reply(deadline)
            if continues:
                raise ProtocolViolation(f"{method} was answered with more replies than asked for")
        return reply

    def stream(
        self,
        method: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        reply_timeout: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The parameters of each reply to a call with "more"; seconds to wait for each, if bounded.

        A stream that is left before its end closes the connection. Raises as `call` does.
        """
        message = {"method": method, "parameters": dict(parameters or {}), "more": True}
        with _ClosedOnFailure(self):
            self._send(message, _Deadline(self.path, self.timeout))
            continues = True
            while continues:
                reply, continues = self._reply(_Deadline(self.path, reply_timeout))
                yield reply

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, message: Mapping[str, object], deadline: _Deadline) -> None:
        if self._socket.fileno() < 0:
            raise Disconnected(self.path, "this connection has been closed")
        unsent = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\0")
        while unsent:
            self._socket.settimeout(deadline.left())
            try:
                unsent = unsent[self._socket.send(unsent) :]
            except TimeoutError:
                raise deadline.passed() from None
            except OSError:
                return  # the daemon may have said why before it hung up: read that

    def _reply(self, deadline: _Deadline) -> tuple[dict[str, Any], bool]:
        reply = _parse(self._receive(deadline))
        error, parameters = reply.get("error"), reply.get("parameters")
        continues = reply.get("continues")
        if parameters is None:
            parameters = {}
        if not isinstance(parameters, dict) or not isinstance(error, str | None):
            raise ProtocolViolation(
                "a reply has parameters that are no object, or a nameless error"
            )
        if error is not None:
            raise CallError(error, parameters)
        return parameters, continues is True

    def _receive(self, deadline: _Deadline) -> bytes:
        """One message, without its NUL byte."""
        searched = 0
        while (end := self._buffer.find(b"\0", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_REPLY_BYTES:
                raise ProtocolViolation(f"a reply is longer than {MAX_REPLY_BYTES} bytes")
            self._socket.settimeout(deadline.left())
            try:
                chunk = self._socket.recv(_RECEIVE_BYTES)
            except TimeoutError:
                raise deadline.passed() from None
            except OSError:
                chunk = b""
            if not chunk:
                reason = "it ended the connection before it had answered"
                raise Disconnected(self.path, reason)
            self._buffer += chunk
        message = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return message


class _Deadline:
    """When a call must be over; `timeout` in seconds, None for never."""

    def __init__(self, path: str, timeout: float | None) -> None:
        self._path = path
        self._timeout = timeout
        self._at = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Seconds that are left, more than 0. Raises TimedOut."""
        if self._at is None:
            return None
        left = self._at - time.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> TimedOut:
        return TimedOut(self._path, self._timeout or 0.0)


class _ClosedOnFailure:
    """A connection on which a call broke off half-way is of no use any more."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, CallError):
            self._connection.close()


def interface_text(name: str) -> str:
    """The description of one of `INTERFACES`, in the Varlink interface definition language."""
    from importlib import resources  # noqa: PLC0415 - costs more than all the rest of this module

    file = resources.files("raftd.admin").joinpath("interfaces").joinpath(f"{name}.varlink")
    return file.read_text("utf-8")


def _connect(path: str, timeout: float | None) -> socket.socket:
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise NoDaemon(path, f"a socket's path has at most {MAX_PATH_BYTES} bytes")
    deadline = _Deadline(path, timeout)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        while True:
            connection.settimeout(deadline.left())
            try:
                connection.connect(path)
            except BlockingIOError:
                time.sleep(0.01)  # the daemon's queue of new connections is full
            else:
                return connection
    except BaseException as error:
        connection.close()
        if isinstance(error, TimeoutError):
            raise deadline.passed() from None
        if isinstance(error, OSError | ValueError):
            raise _why_not_connected(path, error) from None
        raise


def _why_not_connected(path: str, error: OSError | ValueError) -> AdminError:
    match getattr(error, "errno", None):
        case errno.EACCES | errno.EPERM:
            return NotPermitted(path)
        case errno.ENOENT | errno.ENOTDIR:
            return NoDaemon(path, "there is no such socket")
        case errno.ECONNREFUSED:
            return NoDaemon(path, "nobody listens there any more; is the daemon running?")
        case _:
            return NoDaemon(path, getattr(error, "strerror", None) or str(error))


def _parse(message: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(message)
    except (ValueError, RecursionError):
        raise ProtocolViolation(f"a reply is no JSON: {message[:60]!r}") from None
    if not isinstance(reply, dict):
        raise ProtocolViolation(f"a reply is no JSON object: {message[:60]!r}")
    return reply
