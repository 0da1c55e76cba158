"""One server of a test network, with its disk and with what its driver would hold.

What a driver does by itself happens at once, unless a test holds it (`held`) to do it by hand, or
to crash in front of it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from random import Random

import msgspec

from raftd import record
from raftd.raft.log import Entry, EntryType
from raftd.raft.messages import InstallSnapshotRequest
from raftd.raft.raft import Raft
from raftd.raft.server import Server
from raftd.raft.state import Role, Settings
from raftd.raft.update import EntriesWanted, Note, Outgoing, SnapshotChunk, Update
from tests.raft.durability_law import check_durable
from tests.raft.durable import Durable, checksum_of, encode, metadata_of, snapshot_of


class Node:
    """`raft` is None while it is down. `post` puts a message on the wire; `on_note` hears all."""

    def __init__(
        self,
        name: str,
        durable: Durable,
        post: Callable[[Node, Outgoing], None],
        on_note: Callable[[Note], None],
    ) -> None:
        self.name = name
        self.durable = durable
        self.post = post
        self.on_note = on_note
        self.raft: Raft | None = None
        self.life = 0
        self.membership_index = 0
        self.told_removed = False
        """durably"""
        self.applied: list[Entry] = []
        self._forget()

    def _forget(self) -> None:
        """What a crash loses."""
        self.held: set[str] = set()
        """What waits for the test: "update" (many calls, one update), "save", "read" (entries from
        disk), "write" (chunks)."""
        self.waiting: deque[Update] = deque()
        self.wanted: deque[EntriesWanted] = deque()
        self.chunks: deque[SnapshotChunk] = deque()
        self.partial: dict[tuple[int, str], bytes] = {}
        self.owed: Counter[tuple[str, int]] = Counter()
        """(who asked, request id) of requests that have no answer yet"""
        self.reads: dict[int, int | None] = {}
        self.notes: list[Note] = []
        self.updates: list[Update] = []
        self.commit_index = 0
        """the newest update's"""
        self.deadline = float("inf")

    @property
    def running(self) -> Raft:
        assert self.raft is not None, f"{self.name} is down"
        return self.raft

    @property
    def server(self) -> Server:
        return self.running.server

    @property
    def texts(self) -> list[str]:
        return [note.text for note in self.notes]

    @property
    def commands(self) -> list[bytes]:
        """The payloads of the commands that are applied."""
        return [
            payload
            for entry in self.applied
            if entry.type is EntryType.COMMAND and (payload := record.payload(entry))
        ]

    # ---- lives

    def start(
        self, now: float, settings: Settings, random: Random, *, keep_state: bool, tail_bytes: int
    ) -> None:
        """A new life from what is durable. The state machine is a view: without `keep_state` it is
        built again from the snapshot, and the node does not know what had been committed."""
        assert self.raft is None
        self.life += 1
        if not keep_state or len(self.applied) < self.durable.snapshot.last_included_index:
            self.applied = list(record.decode_all(self.durable.data))
        self.commit_index = len(self.applied)
        recovered = self.durable.recovered(tail_bytes)
        self.raft = Raft(
            self.name,
            recovered,
            settings,
            random,
            encode,
            now=now,
            commit_index=len(self.applied),
            membership_index=self.membership_index,
            told_removed=self.told_removed,
        )

    def crash(self) -> None:
        self.raft = None
        self._forget()

    # ---- the driver's part

    def settle(self, now: float) -> None:
        """Do what the updates ask for, as far as nothing is held."""
        self._take()
        while True:
            if self.waiting and "save" not in self.held:
                self.save(now)
            elif self.wanted and "read" not in self.held:
                self.answer_read(now)
            elif self.chunks and "write" not in self.held:
                self.write_chunk(now)
            else:
                return

    def save(self, now: float) -> None:
        """The oldest save that waits is done."""
        update = self.waiting.popleft()
        self.durable.save(update, self._snapshot_data(update))
        if update.snapshot_to_install is not None:
            self.applied = list(record.decode_all(self.durable.data))
        self._send(update.messages_after_save)
        if update.needs_save:
            self.running.persisted(now, update)
            self._take()

    def save_partly(self, entries: int) -> None:
        """Only the first entries of the oldest save reach the disk. To be crashed at once."""
        update = self.waiting[0]
        self.durable.save_partly(update, self._snapshot_data(update), entries)

    def answer_read(self, now: float) -> None:
        wanted = self.wanted.popleft()
        entries = self.durable.read(wanted.first_index, wanted.max_bytes)
        self.running.entries_read(now, wanted.peer, entries)
        self._take()

    def write_chunk(self, now: float) -> None:
        chunk = self.chunks.popleft()
        request = chunk.request
        key = (request.last_included_index, request.checksum)
        data = self.partial.get(key, b"")
        if request.offset <= len(data):
            data = data[: request.offset] + request.data
        next_offset = len(data)
        complete = request.done and next_offset == request.size
        if complete and checksum_of(data) != request.checksum:
            data, next_offset = b"", 0
        self.partial[key] = data
        self.running.chunk_written(now, chunk.sender, request, next_offset)
        self._take()

    def take_snapshot(self, now: float, trailing: int) -> None:
        """The state machine's snapshot becomes durable; all but `trailing` entries it has go."""
        if len(self.applied) <= self.durable.snapshot.last_included_index:
            return
        index, term = self.applied[-1].index, self.applied[-1].term
        members = self.durable.snapshot.configuration
        for entry in self.applied:
            members = entry.configuration or members
        data = snapshot_of(self.applied)
        metadata = metadata_of(data, index, term, members)
        compact_index = max(self.durable.base_index, index - trailing)
        self.durable.adopt(metadata, data)
        self.durable.compact(compact_index)
        self.running.snapshot_taken(now, metadata, compact_index)
        self.settle(now)

    def _take(self) -> None:
        if "update" in self.held:
            return
        update = self.running.take_update()
        self.updates.append(update)
        self.deadline = update.deadline
        for note in update.notes:
            self.notes.append(note)
            self.on_note(note)
        self._send(update.messages)
        self._apply(update.commit_index)
        self.reads.update((read.ticket, read.index) for read in update.reads)
        self.wanted += update.entries_wanted
        self.chunks += update.snapshot_chunks
        if update.needs_save or self.waiting:
            self.waiting.append(update)
        else:
            self._send(update.messages_after_save)

    def _apply(self, commit_index: int) -> None:
        assert commit_index >= self.commit_index, "what was committed stays committed"
        self.commit_index = commit_index
        for index in range(len(self.applied) + 1, commit_index + 1):
            entry = self.durable.entry(index)
            assert entry is not None, f"{self.name} is to apply {index}, which it has not saved"
            self.applied.append(entry)

    def _send(self, outgoing: tuple[Outgoing, ...]) -> None:
        for out in outgoing:
            campaigns = self.server.role is Role.CANDIDATE
            check_durable(self.name, out, self.durable, campaigns=campaigns)
            message = out.message
            if isinstance(message, InstallSnapshotRequest):
                end = message.offset + self.server.settings.snapshot_chunk_bytes
                data = self.durable.data[message.offset : end]
                message = msgspec.structs.replace(message, data=data)
            self.post(self, Outgoing(out.to, message))

    def _snapshot_data(self, update: Update) -> bytes:
        installed = update.snapshot_to_install
        if installed is None:
            return b""
        return self.partial.pop((installed.last_included_index, installed.checksum))
