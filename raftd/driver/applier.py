"""Carries committed entries to the state machine, in order, and answers who waits for them."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Sequence
from errno import EBUSY, EIO
from pathlib import Path

import trio

from raftd import features, journal
from raftd.driver import restoring
from raftd.driver.errors import NoQuorum, OutcomeUnknown
from raftd.driver.offload import Offload
from raftd.driver.proposal import Applied, Proposal
from raftd.driver.restoring import FULL
from raftd.driver.waiting import Signal
from raftd.promise import Promise
from raftd.raft.log import Entry
from raftd.raft.raft import Raft
from raftd.replay import apply_entries
from raftd.state_hash import Diverged
from raftd.state_machine import StateMachine
from raftd.storage.disk import DirectoryMismatch, Disk, NotInLog, StorageFailed

log = logging.getLogger("raftd.driver")

BATCH_BYTES = 256 << 10
MAX_IN_PLACE = 256
"""Entries that are applied without a thread, a millisecond or two."""
RETRY_INTERVAL = 1.0
"""Seconds between two tries while the disk is full."""
PASSING = (*FULL, EBUSY)
"""What a state machine may fail with and be asked again."""


class Applier:
    """The only one who touches the state machine's `apply` and `restore`."""

    def __init__(
        self,
        raft: Raft,
        disk: Disk,
        state_machine: StateMachine,
        offload: Offload,
        disk_changed: Callable[[], None],
        disk_is_quick: Callable[[], bool],
    ) -> None:
        """`disk_changed` is told when `problem` comes or goes. While `disk_is_quick`, short batches
        are applied in the event loop: they take less time than a thread takes to begin."""
        self._raft = raft
        self._disk = disk
        self._state_machine = state_machine
        self._offload = offload
        self._disk_changed = disk_changed
        self._disk_is_quick = disk_is_quick
        self._target = self.applied_index = state_machine.last_applied
        self._wake = Signal()
        self._busy = trio.Lock()
        self._snapshot_index = 0
        """A snapshot up to here takes the place of the state; until then nothing is applied."""
        self._commands: dict[int, Proposal] = {}
        self._readers: list[tuple[int, int, Promise[None]]] = []
        self._reader_count = 0
        self.problem: str | None = None
        """Why the state machine takes no entries now; None: it does."""
        self.diverged: str | None = None
        """Why the state is not to be believed; nothing is applied then, and nothing read."""
        self.changed = Signal()
        """Fires whenever `applied_index` has grown."""
        self.watchers: list[Callable[[Sequence[Entry], list[bytes]], None]] = []
        """Are told of entries that have been applied, and of their results."""

    def advance(self, commit_index: int) -> None:
        """Entries up to here are committed and saved."""
        if commit_index > self._target:
            self._target = commit_index
            if not self._apply_at_once():
                self._wake.fire()

    def _apply_at_once(self) -> bool:
        """If that is little work, and none is under way. False: `run` has to do it."""
        if self.diverged is not None or self._installing:
            return False
        count = self._target - self.applied_index
        if count > MAX_IN_PLACE or self._busy.locked() or not self.may_work_in_place():
            return False
        entries = self._raft.server.log.slice(self.applied_index + 1, BATCH_BYTES)
        if entries is None or len(entries) < count:
            return False
        try:
            results = apply_entries(self._state_machine, entries[:count])
        except (OSError, Diverged, features.NotSupported):
            return False  # it is tried again, by who knows what to do about it
        self._applied(entries[: len(results)], results)
        return len(results) == count

    def expect(self, first: int, term: int, proposals: Iterable[Proposal]) -> None:
        """They became the entries from `first` on, of `term`; answer them."""
        commands = self._commands
        for index, proposal in enumerate(proposals, first):
            proposal.term = term
            replaced = commands.get(index)
            commands[index] = proposal
            if replaced is not None:
                replaced.fail(OutcomeUnknown("leadership was lost before it was committed"))

    @property
    def is_waiting(self) -> bool:
        """Is there anything that `expire` could end?"""
        return bool(self._commands)

    def expire(self, now: float) -> None:
        """Answer those whose time is over."""
        late = [index for index, proposal in self._commands.items() if proposal.deadline <= now]
        for index in late:
            self._commands.pop(index).fail(
                OutcomeUnknown(
                    f"entry {index} was not committed in time: no majority, or a slow one."
                    " It may still be done"
                )
            )

    async def wait_applied(self, index: int) -> None:
        if index <= self.applied_index:
            return
        promise: Promise[None] = Promise()
        self._reader_count += 1
        heapq.heappush(self._readers, (index, self._reader_count, promise))
        await promise.wait()

    def may_read_in_place(self) -> bool:
        """May the state machine be asked in the event loop now?"""
        return not self._busy.locked() and self.may_work_in_place()

    def may_work_in_place(self) -> bool:
        """May the state machine be used in the event loop now?"""
        return not self._installing and self.problem is None and self._disk_is_quick()

    @property
    def _installing(self) -> bool:
        return self.applied_index < self._snapshot_index

    def expect_snapshot(self, index: int) -> None:
        """A snapshot up to `index` is about to replace the state: apply nothing until `restore`."""
        self._snapshot_index = index

    async def restore(self, path: Path, index: int) -> None:
        """Replace the state by the snapshot at `path`. DiskFull: it is as before.

        Raises DiskFull, DirectoryDamaged, StorageFailed.
        """
        async with self._busy:
            await self._offload(restoring.restore, self._state_machine, path, index)
            if self._state_machine.context:
                await self._offload(self._disk.raise_format)
            self.applied_index = max(index, self._state_machine.last_applied)
            self._target = max(self._target, self.applied_index)
            self.diverged = None
        self._disk_changed()
        for replaced in [each for each in self._commands if each <= index]:
            self._commands.pop(replaced).fail(
                OutcomeUnknown("a snapshot took the place of the log this command was in")
            )
        self._answer_readers()
        self._wake.fire()

    async def run(self) -> None:
        while True:
            while self._installing or self.diverged or self.applied_index >= self._target:
                await self._wake.wait()
            async with self._busy:
                if not self._installing and self.applied_index < self._target:
                    await self._apply_some()

    async def _apply_some(self) -> None:
        try:
            entries = await self._read()
        except NotInLog:
            if self._installing:
                return  # a snapshot took the place of the log meanwhile
            raise
        try:
            results = await self._apply(entries)
        except Diverged as error:
            self.distrust(f"{error}; `raftctl reseed` gives it the leader's")
            return
        self._applied(entries[: len(results)], results)

    def distrust(self, reason: str) -> None:
        """The state is not to be believed any more."""
        self.diverged = reason
        log.critical("this node serves no reads and takes no writes: %s", self.diverged)
        self._disk_changed()

    def _applied(self, entries: Sequence[Entry], results: list[bytes]) -> None:
        self.applied_index = entries[-1].index
        for watcher in self.watchers:
            watcher(entries, results)
        if self._commands:
            self._answer(entries, results)
        self._answer_readers()
        self.changed.fire()

    def _answer(self, entries: Sequence[Entry], results: list[bytes]) -> None:
        """Those whose commands these entries are."""
        for entry, result in zip(entries, results, strict=True):
            proposal = self._commands.pop(entry.index, None)
            if proposal is None:
                continue
            if proposal.term == entry.term:
                proposal.set(Applied(entry.index, entry.term, result))
            else:
                proposal.fail(NoQuorum("leadership was lost and another entry took its place"))

    async def _apply(self, entries: list[Entry]) -> list[bytes]:
        """Of the first entries, as many as go in one step. A full disk, and who has the state
        locked, is waited for; any other failure is final."""
        while True:
            try:
                if len(entries) <= MAX_IN_PLACE and self.may_work_in_place():
                    results = apply_entries(self._state_machine, entries)
                else:
                    results = await self._offload(apply_entries, self._state_machine, entries)
            except features.NotSupported as error:
                raise DirectoryMismatch(self._disk.scratch_path().parent, str(error)) from error
            except OSError as error:
                if error.errno not in PASSING:
                    where = Path(str(error.filename))
                    raise StorageFailed("write to", where, error.errno or EIO) from error
                self._set_problem(str(error), "disk-full" if error.errno in FULL else "")
                await trio.sleep(RETRY_INTERVAL)
            else:
                self._set_problem(None)
                return results

    def _set_problem(self, problem: str | None, event: str = "") -> None:
        if problem != self.problem:
            if problem is not None:
                log.warning("%s", problem, extra=journal.fields(event))
            self.problem = problem
            self._disk_changed()

    async def _read(self) -> list[Entry]:
        first = self.applied_index + 1
        entries = self._raft.server.log.slice(first, BATCH_BYTES)
        if entries is None:
            return await self._offload(self._disk.read, first, self._target, BATCH_BYTES)
        return list(entries[: self._target - self.applied_index])

    def _answer_readers(self) -> None:
        while self._readers and self._readers[0][0] <= self.applied_index:
            heapq.heappop(self._readers)[2].set(None)
