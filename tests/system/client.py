"""A client of raftd's Unix socket that shares no code with raftd: Varlink over a plain socket.

Times out by itself, so that a daemon that does not answer fails a test instead of stopping it.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.history import Operation, Outcome

CALL_TIMEOUT_MS = 5_000
GRACE_S = 10.0
"""What the daemon may take beyond the timeout of a call before it counts as not answering."""
_NOT_DONE = {"NoQuorum", "Busy", "TooLarge", "Refused", "Invalid"}


class CallError(Exception):
    """The daemon answered with an error: `name` without its interface, and its parameters."""

    def __init__(self, error: str, parameters: dict[str, Any]) -> None:
        super().__init__(f"{error} {parameters}")
        self.name = error.rpartition(".")[2]
        self.parameters = parameters


class NoConnection(Exception):
    """The daemon cannot be reached: the call was never sent."""


class NoAnswer(Exception):
    """The call was sent and nothing came back: it may have been done or not."""


class Client:
    """One connection. Not for several threads at once."""

    def __init__(self, path: Path, node: str, timeout: float = GRACE_S) -> None:
        self.node = node
        self._timeout = timeout
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = b""
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise NoConnection(f"{path}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def call(self, method: str, timeout: float | None = None, **parameters: Any) -> dict[str, Any]:
        """One call, one answer. `timeout` (seconds) is how long the answer may take."""
        self._socket.settimeout(self._timeout if timeout is None else timeout)
        self.send(method, **parameters)
        return self.receive()

    def send(self, method: str, **parameters: Any) -> None:
        """Only the first half of `call`."""
        message = json.dumps({"method": f"io.raftd.{method}", "parameters": parameters})
        try:
            self._socket.sendall(message.encode() + b"\0")
        except OSError as error:  # the NUL at its end was not sent: no call arrived
            raise NoConnection(f"{self.node}: {error}") from error

    def receive(self) -> dict[str, Any]:
        """The answer to the oldest call that has none yet."""
        answer = json.loads(self._read_message())
        found: dict[str, Any] = answer.get("parameters", {})
        if "error" in answer:
            raise CallError(answer["error"], found)
        return found

    def _read_message(self) -> bytes:
        while b"\0" not in self._buffer:
            try:
                more = self._socket.recv(65536)
            except OSError as error:
                raise NoAnswer(f"{self.node}: {error or 'timed out'}") from error
            if not more:
                raise NoAnswer(f"{self.node} closed the connection")
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        return message

    # Single calls, with exceptions.

    def status(self, timeout_ms: int = 1000) -> dict[str, Any]:
        status: dict[str, Any] = self.call("Node.GetStatus", timeout_ms=timeout_ms)["status"]
        return status

    def put(self, key: str, value: str, timeout_ms: int = CALL_TIMEOUT_MS) -> int:
        """The revision."""
        answer = self._kv("Put", timeout_ms, key=encode(key), value=encode(value))
        return int(answer["revision"])

    def get(
        self, key: str, timeout_ms: int = CALL_TIMEOUT_MS, *, stale: bool = False
    ) -> str | None:
        """The value, None if there is none."""
        try:
            answer = self._kv("Get", timeout_ms, key=encode(key), stale=stale)
        except CallError as error:
            if error.name == "NotFound":
                return None
            raise
        return decode(answer["item"]["value"])

    def items(self, prefix: str = "", *, stale: bool = False) -> dict[str, tuple[str, int]]:
        """All keys that start with `prefix`, with value and revision; a page at a time."""
        found: dict[str, tuple[str, int]] = {}
        after: str | None = None
        while True:
            page = self._kv(
                "Range", CALL_TIMEOUT_MS, prefix=encode(prefix), after=after, stale=stale
            )
            for item in page["items"]:
                found[decode(item["key"])] = decode(item["value"]), int(item["revision"])
                after = item["key"]
            if not page["more"]:
                return found

    def _kv(self, method: str, timeout_ms: int, **parameters: Any) -> dict[str, Any]:
        return self.call(
            f"KV.{method}",
            timeout_ms / 1000 + self._timeout,
            timeout_ms=timeout_ms,
            **{name: value for name, value in parameters.items() if value is not None},
        )

    # Operations for a history: they never raise because of what a daemon did or did not do.

    def perform(self, operation: Operation, timeout_ms: int) -> Operation:
        """Do what `operation` describes; it comes back with times and outcome."""
        call = time.monotonic_ns()
        outcome: Outcome
        result, revision, detail = None, None, ""
        try:
            outcome = "ok"
            result, revision = self._do(operation, timeout_ms)
        except NoConnection as error:
            outcome, detail = "failed", str(error)
        except NoAnswer as error:
            outcome, detail = "unknown", str(error)
        except CallError as error:
            if error.name == "CompareFailed" and operation.operation == "cas":
                outcome = "mismatch"
                value = error.parameters.get("value")
                result = None if value is None else decode(value)
            elif error.name == "OutcomeUnknown":
                outcome, detail = "unknown", str(error)
            else:
                assert error.name in _NOT_DONE, f"{self.node} answered {error} to {operation}"
                outcome, detail = "failed", str(error)
        return Operation(
            operation.process,
            call,
            time.monotonic_ns(),
            operation.operation,
            operation.key,
            operation.value,
            operation.expected,
            outcome,
            result,
            self.node,
            revision,
            detail,
        )

    def _do(self, operation: Operation, timeout_ms: int) -> tuple[str | None, int | None]:
        """What a get found, and the revision."""
        key = encode(operation.key)
        value = None if operation.value is None else encode(operation.value)
        match operation.operation:
            case "get":
                try:
                    item = self._kv("Get", timeout_ms, key=key)["item"]
                except CallError as error:
                    if error.name == "NotFound":
                        return None, None
                    raise
                return decode(item["value"]), int(item["revision"])
            case "put":
                answer = self._kv("Put", timeout_ms, key=key, value=value)
            case "delete":
                answer = self._kv("Delete", timeout_ms, key=key)
            case "cas" if operation.expected is None:
                answer = self._kv("CompareAndSet", timeout_ms, key=key, absent=True, value=value)
            case "cas":
                expected = encode(operation.expected)
                answer = self._kv(
                    "CompareAndSet", timeout_ms, key=key, expected_value=expected, value=value
                )
        return None, int(answer["revision"])


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def decode(text: str) -> str:
    return base64.b64decode(text).decode()
