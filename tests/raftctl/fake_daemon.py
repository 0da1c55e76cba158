"""A daemon that answers Varlink calls from a table: a thread with a Unix socket.

`answers` maps a method's name without its interface to what comes back; `calls` lists what was
asked. A call it has no answer for is answered MethodNotFound, as a real one would.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

Parameters = dict[str, Any]


class Error(NamedTuple):
    """A Varlink error."""

    name: str
    parameters: Mapping[str, Any] = MappingProxyType({})


class Stream(NamedTuple):
    """Replies that continue; a threading.Event among them is waited for. Then it stays open, as a
    log does in which nothing happens, or, with `ends`, the connection is closed."""

    replies: Iterable[Parameters | threading.Event]
    ends: bool = False


class Raw(NamedTuple):
    """These bytes, and then the connection ends."""

    data: bytes


SILENCE = object()
"""No answer at all."""

Answer = Any
"""Parameters of a reply, one of the above, or a function from the call's parameters to one."""


class FakeDaemon:
    def __init__(self, path: Path, answers: dict[str, Answer]) -> None:
        self.path = path
        self.answers = answers
        self.calls: list[tuple[str, Parameters]] = []
        self._closing = threading.Event()
        self._connections: list[socket.socket] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        for each in (self._listener, *self._connections):
            with suppress(OSError):  # it has ended already
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def asked(self, method: str) -> list[Parameters]:
        """The parameters of each call of `method`."""
        return [parameters for name, parameters in self.calls if name.endswith("." + method)]

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while message := _read(stream.read):
                    call = json.loads(message)
                    self.calls.append((call["method"], call["parameters"]))
                    if not self._answer(connection, call):
                        return
        except OSError:
            return

    def _answer(self, connection: socket.socket, call: Parameters) -> bool:
        """False: the connection ends."""
        answer = self.answers.get(call["method"].rpartition(".")[2])
        if callable(answer):
            answer = answer(call["parameters"])
        if answer is SILENCE:
            self._closing.wait()
            return False
        match answer:
            case Raw(data):
                connection.sendall(data)
                return False
            case Error(name, parameters):
                _send(connection, {"error": name, "parameters": dict(parameters)})
            case Stream(replies, ends):
                return self._stream(connection, replies, ends)
            case None:
                parameters = {"method": call["method"]}
                error = "org.varlink.service.MethodNotFound"
                _send(connection, {"error": error, "parameters": parameters})
            case _:
                _send(connection, {"parameters": answer})
        return True

    def _stream(
        self,
        connection: socket.socket,
        replies: Iterable[Parameters | threading.Event],
        ends: bool,
    ) -> bool:
        for reply in replies:
            if isinstance(reply, threading.Event):
                assert reply.wait(20), "the test never let the stream go on"
            else:
                _send(connection, {"parameters": reply, "continues": True})
        if not ends:
            self._closing.wait()
        return False


def _send(connection: socket.socket, message: Parameters) -> None:
    connection.sendall(json.dumps(message).encode() + b"\0")


def _read(read: Callable[[int], bytes]) -> bytes:
    """One message without its NUL; empty at the end."""
    message = bytearray()
    while (byte := read(1)) not in {b"", b"\0"}:
        message += byte
    return bytes(message)
