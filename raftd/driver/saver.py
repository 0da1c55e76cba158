"""Makes updates durable, in their order, and lets out what had to wait for that.

While one save is under way the next updates gather, and one save takes them all: group commit. A
disk that is full is tried again until there is space; one that fails ends the process (an
fsync that failed is never repeated); one that stalls costs this node its leadership.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from raftd import journal
from raftd.driver.life import Life
from raftd.driver.offload import Offload
from raftd.promise import Promise
from raftd.raft.log import Entry
from raftd.raft.state import HardState, SnapshotMetadata
from raftd.raft.update import Update
from raftd.storage.disk import Disk, DiskFull

log = logging.getLogger("raftd.storage")

RETRY_INTERVAL = 1.0
"""Seconds between two tries while the disk is full."""
QUICK = 0.02
"""Seconds that a write to a disk takes that nothing is wrong with."""
SPARE_RETRY_INTERVAL = 30.0


Write = Callable[..., Promise[None]]
"""Have `function(*args)` done where it does not block the event loop."""


class Saver:
    """`saved` is called for each update once it is durable."""

    def __init__(
        self,
        disk: Disk,
        life: Life,
        offload: Offload,
        write: Write | None,
        saved: Callable[[Update], None],
        install: Callable[[SnapshotMetadata], Awaitable[None]],
        disk_changed: Callable[[], None],
        stall_limit: float,
    ) -> None:
        """`write` is where `disk.save` is to be done, if elsewhere than the rest. `install` puts a
        received snapshot in place; `disk_changed` is told when `problem` comes or goes; a save that
        takes more than `stall_limit` seconds is a problem."""
        self._disk = disk
        self._life = life
        self._offload = offload
        self._write = write or self._in_task
        self._saved = saved
        self._install = install
        self._disk_changed = disk_changed
        self.stall_limit = stall_limit
        self._pending: list[Update] = []
        self._started: float | None = None
        self._spare_wanted = trio.Event()
        self.is_idle = True
        self.problem: str | None = None
        """Why the disk takes no writes now; None: it does."""

    def put(self, update: Update) -> None:
        self._pending.append(update)
        if self.is_idle:
            self.is_idle = False
            self._save_next()

    @property
    def is_quick(self) -> bool:
        """No write has been under way for noticeably long."""
        return self._started is None or trio.current_time() - self._started < QUICK

    @property
    def is_stalled(self) -> bool:
        """A write has been under way for longer than a write should be."""
        started = self._started
        return started is not None and trio.current_time() - started > self.stall_limit

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(self._prepare_spares)

    def _in_task(self, *call: Any) -> Promise[None]:
        return self._life.call(self._offload, *call, failures=(Exception,))

    def _save_next(self) -> None:
        """Begin to save what has gathered."""
        updates = self._take()
        hard_state, entries = _combine(updates)
        if updates[0].snapshot_to_install is not None:
            self._life.start(self._save_slowly, updates)
        elif hard_state is None and not entries:
            self._finish(updates)
        else:
            self._started = trio.current_time()
            written = self._write(self._disk.save, hard_state, entries)
            written.when_done(functools.partial(self._written, updates))

    def _written(self, updates: list[Update], written: Promise[None]) -> None:
        self._started = None
        try:
            written.result()
        except DiskFull:
            self._life.start(self._save_slowly, updates)
        except Exception as error:
            self._life.fail(error)
        else:
            if self.problem is not None:
                self._set_problem(None)
            self._finish(updates)

    def _finish(self, updates: list[Update]) -> None:
        """All that is durable."""
        if self._life.is_over:
            return
        try:
            for update in updates:
                self._saved(update)
        except Exception as error:
            self._life.fail(error)
            return
        self.is_idle = not self._pending
        if self._pending:
            self._save_next()
        elif self._disk.spare_wanted:
            self._spare_wanted.set()

    def _take(self) -> list[Update]:
        """Updates that one save can take: a snapshot to install begins a save of its own."""
        count = 1
        while count < len(self._pending) and self._pending[count].snapshot_to_install is None:
            count += 1
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    async def _save_slowly(self, updates: list[Update]) -> None:
        """With a snapshot to install, or while there is no space."""
        hard_state, entries = _combine(updates)
        snapshot = updates[0].snapshot_to_install
        if snapshot is not None:
            if hard_state is not None:
                await self._with_space(self._timed_save, hard_state, [])
                hard_state = None
            await self._with_space(self._install, snapshot)
        if hard_state is not None or entries:
            await self._with_space(self._timed_save, hard_state, entries)
        self._finish(updates)

    async def _timed_save(self, hard_state: HardState | None, entries: list[Entry]) -> None:
        self._started = trio.current_time()
        try:
            await self._write(self._disk.save, hard_state, entries)
        finally:
            self._started = None

    async def _with_space(self, write: Callable[..., Awaitable[None]], *args: object) -> None:
        """Do it as soon as there is space for it."""
        while True:
            try:
                await write(*args)
            except DiskFull as error:
                self._set_problem(f"disk full: {error}", "disk-full")
                await trio.sleep(RETRY_INTERVAL)
            else:
                self._set_problem(None)
                return

    async def _prepare_spares(self) -> None:
        """The next segment, made beside the saves, so that none has to wait for it."""
        while True:
            await self._spare_wanted.wait()
            try:
                await self._offload(self._disk.prepare_spare)
            except DiskFull as error:
                log.warning("no space for the next segment of the log: %s", error)
                await trio.sleep(SPARE_RETRY_INTERVAL)
            self._spare_wanted = trio.Event()

    async def _watch(self) -> None:
        """Notice a save that does not end."""
        while True:
            await trio.sleep(self.stall_limit / 4)
            if self.problem is None and self.is_stalled:
                self._set_problem("disk stalled: a write does not end", "disk-slow")

    def _set_problem(self, problem: str | None, event: str = "disk-recovered") -> None:
        if problem == self.problem:
            return
        if problem is not None:
            log.warning("%s", problem, extra=journal.fields(event))
        else:
            log.info("the disk takes writes again", extra=journal.fields(event))
        self.problem = problem
        self._disk_changed()


def _combine(updates: list[Update]) -> tuple[HardState | None, list[Entry]]:
    """The last hard state, and all entries without those that later ones replace."""
    hard_state = None
    entries: list[Entry] = []
    for update in updates:
        if update.hard_state is not None:
            hard_state = update.hard_state
        if update.entries:
            first = update.entries[0].index
            while entries and entries[-1].index >= first:
                entries.pop()
            entries.extend(update.entries)
    return hard_state, entries
