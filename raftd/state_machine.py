"""What raftd replicates: a state machine's interface, and the command that carries an action to it.

A state machine is deterministic: the same entries in the same order give the same state and the
same results on every node. It is a view of snapshot and log and may be thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec


class Command(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The payload of a COMMAND entry: who asked (a uid, on a node), and what (`body`)."""

    uid: int
    node: str
    body: bytes


class Committed(msgspec.Struct, frozen=True, gc=False):
    """One committed entry as a state machine sees it; `body` None: there is nothing to do."""

    index: int
    term: int
    time_ms: int
    body: bytes | None


class StateMachine(Protocol):
    """Called from any thread: `apply`, `read_now`, `snapshot` and `restore` never at the same time
    as each other except that `snapshot` may run beside the first two; `read` and `verify` beside
    anything. A short `apply` and `read_now` are called in the event loop, which stands still
    meanwhile."""

    @property
    def last_applied(self) -> int:
        """The index of the last entry applied; 0 for none. Kept together with the state."""
        ...

    @property
    def context(self) -> bytes:
        """What the last `apply` with a context has left beside the state; empty if none has."""
        ...

    def apply(
        self,
        batch: Sequence[Committed],
        context: Callable[[Sequence[bytes]], bytes] | None = None,
    ) -> list[bytes]:
        """Apply the first of the entries, in order and in one step, and return one result for each
        that was applied: all, or fewer, if their results would take too much memory.

        `context` is given the results, and what it returns is stored in the same step, in snapshots
        too: bytes that mean nothing to a state machine.

        Indexes are contiguous and start at last_applied + 1. A body that makes no sense is the
        client's mistake: its result says so, nothing is raised. Raises OSError, whose text is for
        people, with nothing done, when the disk is full (ENOSPC, EDQUOT) or someone else has the
        state locked (EBUSY): it is called again; when the disk fails (anything else): final.
        """
        ...

    def read(self, query: bytes) -> bytes:
        """Answer a query from the state as it is now; sees a whole number of batches."""
        ...

    def is_quick(self, query: bytes) -> bool:
        """Is the answer one look-up away, so that it would cost more to have a thread find it?"""
        ...

    def read_now(self, query: bytes) -> bytes:
        """Answer a quick query; cheaper than `read`, which has to get along with an `apply`."""
        ...

    def snapshot(self, path: Path) -> int:
        """Write a consistent copy of the state to `path` and return the index it stands for.

        `path` does not exist yet; the caller makes it durable."""
        ...

    def verify(self, path: Path) -> int:
        """The index that the snapshot at `path` stands for. Raises ValueError if it is none."""
        ...

    def restore(self, path: Path) -> None:
        """Replace the state by the snapshot at `path`. Raises ValueError if it is none;
        OSError, with nothing done, when the disk is full (ENOSPC, EDQUOT) or fails."""
        ...

    def scratch(self, directory: Path) -> StateMachine:
        """Another one of this kind, empty, with its files in `directory`."""
        ...

    def describe(self, body: bytes) -> str:
        """One command in a few words for people: what would it do?"""
        ...

    def close(self) -> None:
        """Release everything. The state may be opened again."""
        ...


decode_command = msgspec.msgpack.Decoder(Command).decode
"""Raises msgspec.DecodeError if the bytes are no command."""


def encode_command(command: Command) -> bytes:
    return msgspec.msgpack.encode(command)
