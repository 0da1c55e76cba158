"""What clients of a store did and saw, one operation after another: a history, kept as JSON lines.

One line is one operation, written when it has ended. Its fields:

    process    int      the client; each does one operation at a time
    call       int      monotonic ns, read just before the request was sent
    return     int      monotonic ns, read just after the answer came, or hope was given up
    operation  str      get, put, delete, cas
    key        str
    value      str|null put: what is written; cas: what is written, null to delete
    expected   str|null cas only: the value that must be there, null if the key must not exist
    outcome    str      ok        it was done
                        mismatch  cas only: not done, because another value was there
                        failed    not done, says the server; or the request never left
                        unknown   no answer: it took effect once between `call` and the end of
                                  time, or never
    result     str|null get: the value read, null if there was none; mismatch: the value found
    node       str      who was asked (for people)
    revision   int|null what the server said (for people)
    detail     str      the error, in words (for people)

Fields that are null, empty or 0 may be absent. All times come from one machine's CLOCK_MONOTONIC.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["get", "put", "delete", "cas"]
Outcome = Literal["ok", "mismatch", "failed", "unknown"]


class HistoryError(ValueError):
    """A line of a history file is no operation."""


class Operation(msgspec.Struct, frozen=True, omit_defaults=True, rename={"returned": "return"}):
    """One operation of one client; the fields are described at the top of this module."""

    process: int
    call: int
    returned: int
    operation: Kind
    key: str
    value: str | None = None
    expected: str | None = None
    outcome: Outcome = "ok"
    result: str | None = None
    node: str = ""
    revision: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        what = {
            "get": f"get {self.key}",
            "put": f"put {self.key} = {self.value}",
            "delete": f"delete {self.key}",
            "cas": f"cas {self.key}: {_shown(self.expected)} to {_shown(self.value)}",
        }[self.operation]
        outcome: str = self.outcome
        if outcome == "mismatch":
            outcome = f"not done, found {_shown(self.result)}"
        elif self.operation == "get" and outcome == "ok":
            outcome = _shown(self.result)
        times = f"{self.call / 1e6:.3f} to {self.returned / 1e6:.3f} ms"
        where = f" at {self.node}" if self.node else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"process {self.process}{where}, {times}: {what} -> {outcome}{detail}"


def _shown(value: str | None) -> str:
    return "nothing" if value is None else value


class Recorder:
    """Collects operations from several threads, in memory and, if asked to, in a file."""

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._operations: list[Operation] = []
        self._file = path.open("ab") if path else None

    def add(self, operation: Operation) -> None:
        with self._lock:
            self._operations.append(operation)
            if self._file:
                self._file.write(msgspec.json.encode(operation) + b"\n")

    def operations(self) -> list[Operation]:
        """What has been added so far."""
        with self._lock:
            return list(self._operations)

    def take(self) -> list[Operation]:
        """What has been added so far, and forget it (the file keeps it)."""
        with self._lock:
            taken, self._operations = self._operations, []
            return taken

    def close(self) -> None:
        with self._lock:
            if self._file:
                self._file.close()
                self._file = None


def write(path: Path, operations: list[Operation]) -> None:
    """Replace `path` by these operations."""
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in operations))


def read(path: Path) -> Iterator[Operation]:
    """The operations in `path`. Raises HistoryError, with the line number, where there is none."""
    decoder = msgspec.json.Decoder(Operation)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                raise HistoryError(f"{path}:{number}: no operation: {error}") from error
