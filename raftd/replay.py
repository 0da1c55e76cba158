"""From log entries to a state machine's state, outside of a running node as well as in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from raftd import record, state_hash
from raftd.raft.log import Entry, EntryType
from raftd.state_machine import Committed, StateMachine, decode_command

log = logging.getLogger("raftd.driver")

BATCH_BYTES = 1 << 20
Read = Callable[[int, int, int], list[Entry]]
"""Entries from the first index, at most to the last, at most so many bytes, but at least one."""


def committed(entry: Entry) -> Committed:
    """The entry as a state machine sees it."""
    body = None
    if entry.type is EntryType.COMMAND:
        with suppress(msgspec.DecodeError):  # it does nothing
            body = decode_command(entry.record[record.HEADER_SIZE :]).body
    return Committed(entry.index, entry.term, record.time_ms(entry), body)


def apply_entries(machine: StateMachine, entries: Sequence[Entry]) -> list[bytes]:
    """Apply the first of the entries, as many as go in one step, and return their results.

    Diverged, features.NotSupported: nothing was done. Also raises what `StateMachine.apply` does.
    """
    count = state_hash.together(entries)
    if count < len(entries):
        entries = entries[:count]
    context = state_hash.follow(state_hash.context_of(machine), entries)
    batch = [committed(entry) for entry in entries]
    _tell_unknown(entries, batch)
    if not context.level:
        return machine.apply(batch)
    return machine.apply(
        batch,
        lambda results: state_hash.encode(
            state_hash.hashed(context, entries[: len(results)], results)
        ),
    )


def _tell_unknown(entries: Sequence[Entry], batch: Sequence[Committed]) -> None:
    """One line for all of them: a peer that has gone wrong may make thousands."""
    nothing = [index for index, each in enumerate(batch) if each.body is None]
    unknown = [index for index in nothing if entries[index].type is EntryType.COMMAND]
    if unknown:
        log.warning(
            "entry %d is no command this version knows, and does nothing; %d more like it follow",
            entries[unknown[0]].index,
            len(unknown) - 1,
        )


def replay(
    machine: StateMachine,
    read: Read,
    last: int,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Bring `machine` to index `last`, from where it stands; `progress` is told each index reached.

    Raises what `read` and `apply` do.
    """
    while machine.last_applied < last:
        apply_entries(machine, read(machine.last_applied + 1, last, BATCH_BYTES))
        progress(machine.last_applied)
