"""The key-value state machine in memory: raftd.state_machine.StateMachine, and fast.

It speaks the commands and queries of raftd.kv.commands. Its snapshot is the msgpack of everything,
so equal states have equal snapshots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

import msgspec

from raftd.kv.commands import (
    Changed,
    CompareAndSet,
    CompareFailed,
    Delete,
    Get,
    Item,
    Items,
    Put,
    Range,
    decode_command,
    decode_query,
    encode,
)
from raftd.state_machine import Committed
from raftd.storage.files import Files


class Image(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot: the state, sorted by key."""

    last_applied: int
    items: tuple[tuple[bytes, bytes, int], ...]
    context: bytes = b""


_decode_image = msgspec.msgpack.Decoder(Image).decode


class Machine:
    """`files` is where snapshots are written to and read from; it changes with every life."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.last_applied = 0
        self.context = b""
        self.items: dict[bytes, tuple[bytes, int]] = {}

    def apply(
        self,
        batch: Sequence[Committed],
        context: Callable[[Sequence[bytes]], bytes] | None = None,
    ) -> list[bytes]:
        results = []
        for entry in batch:
            assert entry.index == self.last_applied + 1, "entries are applied in order"
            results.append(b"" if entry.body is None else self._do(entry.index, entry.body))
            self.last_applied = entry.index
        if context is not None:
            self.context = context(results)
        return results

    def _do(self, index: int, body: bytes) -> bytes:
        command = decode_command(body)
        found = self.items.get(command.key)
        match command:
            case Put():
                self.items[command.key] = command.value, index
            case Delete():
                self.items.pop(command.key, None)
            case CompareAndSet():
                value, revision = found or (None, 0)
                if command.expected_revision is None:
                    fits = value == command.expected_value
                else:
                    fits = revision == command.expected_revision
                if not fits:
                    return encode(CompareFailed(revision, value))
                if command.value is None:
                    self.items.pop(command.key, None)
                else:
                    self.items[command.key] = command.value, index
            case _:
                assert_never(command)
        return encode(Changed(index, found is not None))

    def read(self, query: bytes) -> bytes:
        wanted = decode_query(query)
        match wanted:
            case Get():
                keys = [wanted.key] if wanted.key in self.items else []
            case Range():
                keys = sorted(key for key in self.items if key.startswith(wanted.prefix))
            case _:
                assert_never(wanted)
        items = tuple(Item(key, *self.items[key]) for key in keys)
        return encode(Items(items, more=False, applied_index=self.last_applied))

    def image(self) -> bytes:
        items = tuple((key, *self.items[key]) for key in sorted(self.items))
        return msgspec.msgpack.encode(Image(self.last_applied, items, self.context))

    def snapshot(self, path: Path) -> int:
        handle = self.files.create(path)
        try:
            self.files.write_all(handle, self.image(), 0)
        finally:
            self.files.close(handle)
        return self.last_applied

    def verify(self, path: Path) -> int:
        return self._read(path).last_applied

    def restore(self, path: Path) -> None:
        image = self._read(path)
        self.last_applied = image.last_applied
        self.context = image.context
        self.items = {key: (value, revision) for key, value, revision in image.items}

    def _read(self, path: Path) -> Image:
        handle = self.files.open(path)
        try:
            data = self.files.read_all(handle, self.files.size(path) or 0, 0)
        finally:
            self.files.close(handle)
        try:
            return _decode_image(data)
        except msgspec.DecodeError as error:
            raise ValueError(f"{path} is no snapshot") from error

    def is_quick(self, query: bytes) -> bool:
        del query
        return True

    def read_now(self, query: bytes) -> bytes:
        return self.read(query)

    def scratch(self, directory: Path) -> Machine:
        del directory
        return Machine(self.files)

    def describe(self, body: bytes) -> str:
        return repr(decode_command(body))

    def close(self) -> None:
        """Nothing to release."""
