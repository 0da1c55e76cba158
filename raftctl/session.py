"""One run of raftctl: which daemon it talks to, how long it waits, and how it prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raftctl import discovery, failure
from raftctl.printer import Printer
from raftd.admin.protocol import AdminError, CallError, Connection

DEFAULT_TIMEOUT = 5.0
_MARGIN = 0.5


class Session:
    """Filled by the global options, used by the commands.

    Everything that asks the daemon raises Failure, and nothing else.
    """

    def __init__(self) -> None:
        self.node: str | None = None
        self.socket: str | None = None
        self.output = "table"
        self.timeout: float | None = None
        """seconds, if the user has said so"""
        self.printer = Printer()
        self._connection: Connection | None = None

    @property
    def json(self) -> bool:
        return self.output == "json"

    @property
    def seconds(self) -> float:
        return DEFAULT_TIMEOUT if self.timeout is None else self.timeout

    @property
    def timeout_ms(self) -> int:
        """What the daemon may take: a little less than we wait, so that it says why it failed."""
        return max(1, round((self.seconds - min(_MARGIN, self.seconds / 5)) * 1000))

    def call(
        self, method: str, parameters: Mapping[str, Any] | None = None, *, changes: bool = False
    ) -> dict[str, Any]:
        """The reply to one call. `changes`: it matters whether a call without a reply was done."""
        connection = self._connected()
        try:
            return connection.call(method, parameters)
        except CallError as error:
            raise failure.of_call_error(error, method) from error
        except AdminError as error:
            raise failure.of_admin_error(error, changes=changes) from error

    def stream(
        self, method: str, parameters: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Reply after reply, however long it takes until there is one."""
        connection = self._connected()
        try:
            yield from connection.stream(method, parameters)
        except CallError as error:
            raise failure.of_call_error(error, method) from error
        except AdminError as error:
            raise failure.of_admin_error(error, changes=False) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            path = discovery.find(self.node, self.socket)
            try:
                self._connection = Connection(path, self.seconds)
            except AdminError as error:
                raise failure.of_admin_error(error, changes=False) from error
        return self._connection
