"""The log for people: entries decoded, and followed as they are committed and applied."""

from __future__ import annotations

import msgspec
import trio

from raftd import record, state_hash
from raftd.driver.applier import Applier
from raftd.driver.errors import NoSuchEntry
from raftd.driver.offload import Offload
from raftd.driver.reports import LogEntry, LogInfo, SegmentInfo
from raftd.driver.waiting import Signal
from raftd.raft.log import Entry, EntryType
from raftd.raft.membership import describe
from raftd.raft.raft import Raft
from raftd.state_machine import Command, StateMachine, decode_command
from raftd.storage.disk import Disk

MAX_ENTRIES = 1000
READ_BYTES = 4 << 20
_KINDS = {
    EntryType.NO_OP: "no-op",
    EntryType.COMMAND: "command",
    EntryType.CONFIGURATION: "configuration",
    EntryType.FEATURES: "features",
    EntryType.CHECK: "check",
}


class LogView:
    """Reads the log from memory where it is there, else from disk."""

    def __init__(
        self,
        raft: Raft,
        disk: Disk,
        state_machine: StateMachine,
        applier: Applier,
        offload: Offload,
    ) -> None:
        self._raft = raft
        self._disk = disk
        self._state_machine = state_machine
        self._applier = applier
        self._offload = offload
        self.changed = Signal()
        """Fires when entries came, went, or were committed or applied."""

    def info(self) -> LogInfo:
        server = self._raft.server
        segments = tuple(
            msgspec.convert(segment, SegmentInfo, from_attributes=True)
            for segment in self._disk.segments()
        )
        return LogInfo(
            server.log.first_index,
            server.log.last_index,
            server.log.last_term,
            server.commit_index,
            self._applier.applied_index,
            server.snapshot.last_included_index,
            server.snapshot.last_included_term,
            sum(segment.used_bytes for segment in segments),
            sum(segment.size_bytes for segment in segments),
            segments,
        )

    async def entry(self, index: int) -> tuple[LogEntry, bytes]:
        """One entry and its payload. Raises NoSuchEntry."""
        log = self._raft.server.log
        found = await self._read(index, 1) if log.first_index <= index <= log.last_index else []
        if not found:
            raise NoSuchEntry(index, log.first_index, log.last_index)
        return self.describe(found[0]), record.payload(found[0])

    async def entries(self, first: int | None, count: int) -> list[LogEntry]:
        """At most `count` entries from `first` on, or the newest ones."""
        log = self._raft.server.log
        count = max(0, min(count, MAX_ENTRIES))
        if first is None:
            first = log.last_index - count + 1
        first = max(first, log.first_index)
        last = min(first + count - 1, log.last_index)
        found: list[Entry] = []
        while first <= last:
            part = await self._read(first, last - first + 1)
            if not part:
                break
            found += part
            first = part[-1].index + 1
        return [self.describe(entry) for entry in found]

    async def _read(self, first: int, count: int) -> list[Entry]:
        entries = self._raft.server.log.slice(first, READ_BYTES)
        if entries is None:
            last = min(first + count - 1, self._raft.server.persisted_index)
            return await self._offload(self._disk.read, first, last, READ_BYTES)
        return list(entries[:count])

    def state(self, index: int) -> str:
        if index <= self._applier.applied_index:
            return "applied"
        return "committed" if index <= self._raft.server.commit_index else "uncommitted"

    def describe(self, entry: Entry) -> LogEntry:
        uid, node, what = None, None, ""
        if entry.type is EntryType.COMMAND:
            try:
                command: Command = decode_command(record.payload(entry))
            except msgspec.DecodeError:
                what = "(not a command this version knows)"
            else:
                uid, node = command.uid, command.node
                what = self._state_machine.describe(command.body)
        elif entry.configuration is not None:
            what = f"voters {describe(entry.configuration)}"
        elif entry.type is EntryType.NO_OP:
            what = "a new leader begins its term"
        else:
            what = state_hash.describe(entry)
        return LogEntry(
            entry.index,
            entry.term,
            record.time_ms(entry),
            _KINDS[entry.type],
            uid,
            node,
            what,
            len(entry.record),
            self.state(entry.index),
        )

    def term(self, index: int) -> int | None:
        return self._raft.server.log.term(index)


class LogFollower:
    """Pulls what is new: entries, their changes of state, and entries that were truncated.

    Nothing queues up: who asks rarely gets more at once, at most MAX_ENTRIES at a time.
    """

    def __init__(self, view: LogView, first: int | None, count: int) -> None:
        self._view = view
        self._first = first
        self._count = count
        self._begun = False
        self._next = 0
        self._open: dict[int, LogEntry] = {}
        """Entries told about that are not applied yet."""

    async def next(self) -> list[LogEntry]:
        """At least one entry, new or with a new state; waits until there is one."""
        if not self._begun:
            self._begun = True
            entries = await self._view.entries(self._first, self._count)
            self._next = entries[-1].index + 1 if entries else await self._start()
            self._remember(entries)
            if entries:
                return entries
        while True:
            changed = self._view.changed.next
            entries = self._changes()
            if not entries:
                entries = await self._view.entries(self._next, MAX_ENTRIES)
                self._remember(entries)
                if entries:
                    self._next = entries[-1].index + 1
            if entries:
                return entries
            await changed.wait()
            await trio.sleep(0.02)

    async def _start(self) -> int:
        newest = await self._view.entries(None, 1)
        following = newest[-1].index + 1 if newest else self._view.info().last_index + 1
        return max(self._first or 0, following)

    def _remember(self, entries: list[LogEntry]) -> None:
        for entry in entries:
            if entry.state != "applied":
                self._open[entry.index] = entry

    def _changes(self) -> list[LogEntry]:
        changes: list[LogEntry] = []
        for index, entry in list(self._open.items()):
            term = self._view.term(index)
            truncated = term is not None and term != entry.term
            gone = term is None and index > self._view.info().last_index
            state = "truncated" if truncated or gone else self._view.state(index)
            if state == entry.state:
                continue
            changed = msgspec.structs.replace(entry, state=state)
            changes.append(changed)
            if state in {"applied", "truncated"}:
                del self._open[index]
            else:
                self._open[index] = changed
            if state == "truncated":
                self._next = min(self._next, index)
        return changes
