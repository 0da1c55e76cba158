"""What ends the daemon, in one line for the operator and one exit status for systemd."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from enum import IntEnum
from errno import EIO
from pathlib import Path

from raftd import journal
from raftd.admin.server import SocketError, SocketInUse
from raftd.config import ConfigError
from raftd.credentials import CredentialsError
from raftd.kv.errors import StateError
from raftd.process import WrongUser
from raftd.state_trace.file import CannotTrace
from raftd.storage.disk import (
    DirectoryDamaged,
    DirectoryLocked,
    DirectoryMismatch,
    DiskFull,
    StorageFailed,
)
from raftd.storage.errors import is_full
from raftd.transport.transport import AddressInUse, CannotListen

log = logging.getLogger("raftd.server")


class ExitStatus(IntEnum):
    """Of the process; `raftd --help` lists them."""

    OK = 0
    FAILED = 1
    CONFIGURATION = 2
    LOCKED = 3
    DAMAGED = 4
    STORAGE_FAILED = 5
    CANNOT_LISTEN = 6
    NO_SPACE = 7


_STATUSES: dict[type[Exception], ExitStatus] = {
    DirectoryLocked: ExitStatus.LOCKED,
    DirectoryDamaged: ExitStatus.DAMAGED,
    DirectoryMismatch: ExitStatus.DAMAGED,
    StorageFailed: ExitStatus.STORAGE_FAILED,
    DiskFull: ExitStatus.NO_SPACE,
    AddressInUse: ExitStatus.CANNOT_LISTEN,
    CannotListen: ExitStatus.CANNOT_LISTEN,
    SocketError: ExitStatus.CANNOT_LISTEN,
    SocketInUse: ExitStatus.CANNOT_LISTEN,
    CannotTrace: ExitStatus.CONFIGURATION,
    ConfigError: ExitStatus.CONFIGURATION,
    CredentialsError: ExitStatus.CONFIGURATION,
    WrongUser: ExitStatus.CONFIGURATION,
}
_EVENTS = {ExitStatus.DAMAGED: "damage-found", ExitStatus.STORAGE_FAILED: "disk-failed"}


def explain(error: Exception) -> int:
    """One line for what ended the daemon, and its exit status."""
    for cause in map(_of_storage, _leaves(error)):
        for kind, status in _STATUSES.items():
            if isinstance(cause, kind):
                log.critical("%s", cause, extra=journal.fields(_EVENTS.get(status, "")))
                return status
    log.critical("unexpected failure", exc_info=error)
    return ExitStatus.FAILED


def _of_storage(error: BaseException) -> BaseException:
    """What ends a node for the state's sake ends it as the log's trouble does."""
    if not isinstance(error, StateError):
        return error
    kind = DiskFull if is_full(error) else StorageFailed
    return kind("write to", Path(error.filename), error.errno or EIO)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
