"""The hash of everything a state machine has applied, and entries in the log that check it.

Every node carries a CRC-32 over the records of all entries it has applied and their results, in
their order: it does not depend on how they came in batches, costs one call for each, and can be
stored with the state and taken up again after a restart. A CHECK entry marks a place in the log:
each node notes its hash in front of it. The next CHECK says what that hash should have been, which
its leader has found out by asking all: what a majority of voters has. A node that has another
hash there has another state: it raises `Diverged` before it applies that CHECK, in this life and
every further one, until its state is replaced.

Payload of a CHECK: index of the CHECK that it speaks of, and the hash in front of that one, each
8 bytes little-endian; index 0: it only marks.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from zlib import crc32

import msgspec

from raftd import features, record
from raftd.raft.log import Entry, EntryType
from raftd.state_machine import StateMachine

_PAYLOAD = struct.Struct("<QQ")


class Diverged(Exception):
    """This node's state is not what the others have; the message says where that showed."""

    def __init__(self, index: int, ours: int, theirs: int) -> None:
        super().__init__(
            f"the state in front of entry {index} differs from the cluster's (hash {ours:08x}, a"
            f" majority has {theirs:08x})"
        )
        self.index = index


class Context(msgspec.Struct, frozen=True, array_like=True):
    """What is stored with the state. `level` 0: nothing is hashed yet.

    `check_index`: the last CHECK applied, 0 for none, with `check_hash` in front of it. `fresh`:
    commands were applied since; `unproven`: there were some between it and the one before.
    """

    level: int = 0
    hash: int = 0
    check_index: int = 0
    check_hash: int = 0
    fresh: bool = False
    unproven: bool = False

    @property
    def wants_check(self) -> bool:
        """There is something that no CHECK has proved."""
        return self.level >= features.CHECKS and (self.fresh or self.unproven)


_decoder = msgspec.msgpack.Decoder(Context)


def context_of(machine: StateMachine) -> Context:
    """What stands beside the state. Raises ValueError if it makes no sense."""
    return _decoder.decode(machine.context) if machine.context else Context()


def check_payload(index: int, value: int) -> bytes:
    return _PAYLOAD.pack(index, value)


def describe(entry: Entry) -> str:
    """A FEATURES or CHECK entry in a few words."""
    payload = record.payload(entry)
    if entry.type is EntryType.FEATURES:
        return f"all members can use feature level {payload[0] if payload else '?'}"
    if len(payload) != _PAYLOAD.size or not any(payload):
        return "a mark to compare states at"
    index, value = _PAYLOAD.unpack(payload)
    return f"in front of entry {index} the state has hash {value:08x}"


def together(entries: Sequence[Entry]) -> int:
    """How many of the entries, from the first on, may be applied in one step: an entry of the
    cluster's own, no command, stands first in a step."""
    command = EntryType.COMMAND  # looked at by itself: this is done for every entry
    for number, entry in enumerate(entries):
        if entry.type is not command and number and entry.type > EntryType.CONFIGURATION:
            return number
    return len(entries)


def follow(context: Context, entries: Sequence[Entry]) -> Context:
    """The context in front of the entries' own hashing: what their first one, if it is none of the
    clients', does to it. Raises Diverged, features.NotSupported."""
    first = entries[0]
    if first.type is EntryType.FEATURES:
        level = features.decode(record.payload(first))
        return msgspec.structs.replace(context, level=max(context.level, level))
    if first.type is not EntryType.CHECK or context.level < features.CHECKS:
        return context
    payload = record.payload(first)
    if len(payload) != _PAYLOAD.size:
        raise features.NotSupported(f"entry {first.index} is no check that this raftd knows")
    index, value = _PAYLOAD.unpack(payload)
    if index and index == context.check_index and value != context.check_hash:
        raise Diverged(index, context.check_hash, value)
    return Context(context.level, context.hash, first.index, context.hash, False, context.fresh)


def hashed(context: Context, entries: Sequence[Entry], results: Sequence[bytes]) -> Context:
    """The context behind the entries."""
    if context.level < features.CHECKS:
        return context
    assert len(entries) == len(results)
    parts = [b""] * (2 * len(entries))
    parts[::2] = [entry.record for entry in entries]
    parts[1::2] = results
    fresh = context.fresh or any(entry.type is EntryType.COMMAND for entry in entries)
    value = crc32(b"".join(parts), context.hash)
    return Context(
        context.level, value, context.check_index, context.check_hash, fresh, context.unproven
    )


encode = msgspec.msgpack.encode
