"""A snapshot on its way into a state machine: `check` before anything counts on it, then `restore`.

A state machine knows OSError and ValueError; here stands what they mean for the node.
"""

from __future__ import annotations

from errno import EDQUOT, EIO, ENOSPC
from pathlib import Path

from raftd.state_machine import StateMachine
from raftd.storage.disk import DirectoryDamaged, DiskFull, SnapshotRejected, StorageFailed

FULL = (ENOSPC, EDQUOT)


def check(machine: StateMachine, path: Path, index: int) -> None:
    """Raises SnapshotRejected if the file is not the state up to `index`; OSError if it cannot be
    read."""
    try:
        found = machine.verify(path)
    except ValueError as error:
        raise SnapshotRejected(str(error)) from error
    if found != index:
        raise SnapshotRejected(f"it is the state up to entry {found}, not {index}")


def restore(machine: StateMachine, path: Path, index: int) -> None:
    """Replace the state by the node's own snapshot, up to `index`, at `path`.

    Raises DiskFull, DirectoryDamaged, StorageFailed.
    """
    try:
        machine.restore(path)
    except ValueError as error:
        raise DirectoryDamaged(path.parent, str(error)) from error
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull("copy the snapshot", path, error.errno) from error
        raise StorageFailed("copy the snapshot", path, error.errno or EIO) from error
    if machine.last_applied < index:
        raise DirectoryDamaged(path, f"it is the state up to entry {machine.last_applied} only")
