"""The loop around the algorithm: calls it when it asks to be, and does what its updates say, in the
order of their fields. Below it nothing awaits, locks or calls back.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import trio

from raftd import journal
from raftd.doorbell import doorbell
from raftd.driver.applier import Applier
from raftd.driver.contacts import Contacts
from raftd.driver.exchange import Exchange
from raftd.driver.life import Life
from raftd.driver.offload import Offload
from raftd.driver.reads import Reads
from raftd.driver.saver import Saver
from raftd.driver.snapshots import Snapshots
from raftd.raft.raft import Raft
from raftd.raft.update import EntriesWanted, Note, SnapshotChunk, Update
from raftd.storage.disk import DirectoryDamaged, Disk

log = logging.getLogger("raftd.raft")

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class Loop:
    """`connect` gives it the parts that do the work; `stepped` is called after each update."""

    def __init__(
        self, raft: Raft, disk: Disk, life: Life, offload: Offload, stepped: Callable[[], None]
    ) -> None:
        self._raft = raft
        self._disk = disk
        self._life = life
        self._offload = offload
        self._stepped = stepped
        self._bell = doorbell()
        self._wake = trio.Event()
        self._is_kicked = False
        self._is_looking = False
        self._look_again = False
        self.deadline = -math.inf
        """When the algorithm wants to be called, in trio's seconds."""
        self._waits_until = -math.inf
        self._exchange: Exchange
        self._saver: Saver
        self._applier: Applier
        self._reads: Reads
        self._snapshots: Snapshots
        self._contacts: Contacts

    def connect(
        self,
        exchange: Exchange,
        saver: Saver,
        applier: Applier,
        reads: Reads,
        snapshots: Snapshots,
        contacts: Contacts,
    ) -> None:
        """With the parts that do the work, some of which need to know the loop first."""
        self._exchange = exchange
        self._saver = saver
        self._applier = applier
        self._reads = reads
        self._snapshots = snapshots
        self._contacts = contacts

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            self._waits_until = self.deadline
            with trio.move_on_at(self.deadline):
                await self._wake.wait()
            self._wake = trio.Event()
            now = trio.current_time()
            if now >= self.deadline:
                self._raft.timed_out(now)

    def kick(self) -> None:
        """The algorithm was told something: look at its update soon, behind all that has come
        together with it."""
        if not self._is_kicked:
            self._is_kicked = True
            self._bell.soon(self._kicked)

    def _kicked(self) -> None:
        self._is_kicked = False
        self.look()

    def look(self) -> None:
        """The same, now: where nothing is gained by waiting for more."""
        self._look_again = True
        if self._is_looking or self._life.is_over:
            return
        self._is_looking = True
        try:
            while self._look_again:
                self._look_again = False
                self._exchange.take_inbox()
                self._step()
        except Exception as error:
            self._life.fail(error)
        finally:
            self._is_looking = False
        if self.deadline < self._waits_until:
            self._wake.set()

    def saved(self, update: Update) -> None:
        """What it wanted durable is."""
        self._raft.persisted(trio.current_time(), update)
        for outgoing in update.messages_after_save:
            self._exchange.send(outgoing)
        self.look()

    def _step(self) -> None:
        self._raft.set_details(log.isEnabledFor(logging.DEBUG))
        update = self._raft.take_update()
        self._tell(update.notes)
        for outgoing in update.messages:
            self._exchange.send(outgoing)
        if update.snapshot_to_install is not None:
            self._applier.expect_snapshot(update.snapshot_to_install.last_included_index)
            self._snapshots.expect(update.snapshot_to_install)
        if update.needs_save or (update.messages_after_save and not self._saver.is_idle):
            self._saver.put(update)
        else:
            for outgoing in update.messages_after_save:
                self._exchange.send(outgoing)
        self._applier.advance(update.commit_index)
        for read in update.reads:
            self._reads.ready(read)
        for wanted in update.entries_wanted:
            self._life.start(self._read_entries, wanted)
        for chunk in update.snapshot_chunks:
            self._life.start(self._write_chunk, chunk)
        self.deadline = update.deadline
        self._contacts.update()
        self._stepped()

    def _tell(self, notes: Sequence[Note]) -> None:
        server = self._raft.server
        for note in notes:
            level = _LEVELS[note.level]
            if not log.isEnabledFor(level):
                continue
            about = journal.fields(
                note.event, term=server.current_term, index=server.commit_index, peer=note.peer
            )
            log.log(level, "%s", note.text, extra=about)

    async def _read_entries(self, wanted: EntriesWanted) -> None:
        last = self._raft.server.persisted_index
        try:
            entries = await self._offload(
                self._disk.read, wanted.first_index, last, wanted.max_bytes
            )
        except DirectoryDamaged as error:
            about = journal.fields("damage-found", index=wanted.first_index, peer=wanted.peer)
            log.error("cannot read the log for %s: %s", wanted.peer, error, extra=about)  # noqa: TRY400
            raise
        except LookupError:
            entries = []
        self._raft.entries_read(trio.current_time(), wanted.peer, entries)
        self.kick()

    async def _write_chunk(self, chunk: SnapshotChunk) -> None:
        if not chunk.request.size:
            # To hold nothing would be to hold all of it; the sender hears nothing, and tries again.
            log.warning("a received snapshot cannot be used: %s sent an empty one", chunk.sender)
            return
        held = await self._snapshots.write_chunk(chunk.request)
        self._raft.chunk_written(trio.current_time(), chunk.sender, chunk.request, held)
        self.kick()
        await self._snapshots.discard_others(self._raft.server.snapshot_to_install)
