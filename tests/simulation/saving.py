"""The saver of raftd.driver.saver in virtual time.

A call on the disk takes a while. What it does happens at the beginning of that time, or at its
end, as the dice say: so that a crash in between finds it done or not done, and a crash inside, by
`DiskFaults.crash_in`, finds it half done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from raftd.driver.saver import RETRY_INTERVAL, SPARE_RETRY_INTERVAL, _combine
from raftd.raft.log import Entry
from raftd.raft.state import HardState
from raftd.raft.update import Update
from raftd.storage.disk import DiskFull
from tests.simulation.shadow import Attempt

if TYPE_CHECKING:
    from tests.simulation.process import Process

Done = Callable[[], None]


class _Call:
    """One call on the disk. `function` is done at the beginning of its time, or at the end."""

    __slots__ = ("done", "error", "function")

    def __init__(self, function: Callable[[], None], done: Done) -> None:
        self.function = function
        self.done = done
        self.error: DiskFull | None = None

    def do(self) -> None:
        self.error = None
        try:
            self.function()
        except DiskFull as error:
            self.error = error


class Saver:
    """See raftd.driver.saver.Saver; the names are the same."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._disk = process.disk
        self._durable = process.node.durable
        self._stall_limit = process.settings.election_timeout[1]
        self._pending: list[Update] = []
        self._under_way: _Call | None = None
        self._saving: list[Update] = []
        self._making_spare = False
        self.is_idle = True
        self.problem: str | None = None

    def put(self, update: Update) -> None:
        self._pending.append(update)
        if self.is_idle:
            self.is_idle = False
            self._next()

    def is_saving(self, index: int) -> bool:
        """Is the entry there being saved, or waiting for it?"""
        return any(update.entries and update.entries[-1].index >= index for update in self._saving)

    def _with_space(self, function: Callable[[], None], done: Done) -> None:
        """Call `function`, as often as it takes until there is space for it, then `done`."""
        self._start(_Call(function, done))

    def _start(self, call: _Call) -> None:
        process = self._process
        random, node = process.random, process.node
        duration = process.world.plan.disk_latency * (0.3 + 1.4 * random.random())
        if node.slow_disk:
            duration += node.slow_disk * random.random()
        self._under_way = call
        if duration > self._stall_limit:
            process.later(self._stall_limit * 1.25, self._stalled, call)
        early = random.random() < 0.5
        if early:
            call.do()
        process.later(duration, self._finish, call, early)

    def _finish(self, call: _Call, early: bool) -> None:
        if not early:
            call.do()
        self._under_way = None
        if call.error is not None:
            self._set_problem(f"disk full: {call.error}")
            self._process.later(RETRY_INTERVAL, self._start, call)
            return
        self._set_problem(None)
        call.done()

    def _stalled(self, call: _Call) -> None:
        if self._under_way is call and self.problem is None:
            self._set_problem("disk stalled: a write does not end")

    def _next(self) -> None:
        if not self._pending:
            self._spare()
            return
        count = 1
        while count < len(self._pending) and self._pending[count].snapshot_to_install is None:
            count += 1
        updates, self._pending = self._pending[:count], self._pending[count:]
        self._saving = updates
        hard_state, entries = _combine(updates)
        snapshot = updates[0].snapshot_to_install
        if snapshot is None:
            self._write(hard_state, entries, lambda: self._saved(updates))
            return

        def installed() -> None:
            self._write(None, entries, lambda: self._saved(updates))

        def written() -> None:
            snapshots = self._process.snapshots
            self._with_space(
                lambda: snapshots.install(snapshot),
                lambda: snapshots.installed(snapshot, installed),
            )

        self._write(hard_state, [], written)

    def _write(self, hard_state: HardState | None, entries: Sequence[Entry], then: Done) -> None:
        if hard_state is None and not entries:
            then()
            return

        def save() -> None:
            attempt = Attempt(hard_state, entries)
            self._durable.begin(attempt)
            try:
                self._disk.save(hard_state, entries)
            except DiskFull:
                self._durable.full(attempt)
                raise
            self._durable.done(attempt)

        self._with_space(save, then)

    def _saved(self, updates: list[Update]) -> None:
        self._saving = []
        for update in updates:
            self._process.saved(update)
        self._next()

    def _spare(self) -> None:
        """Nothing waits. Make the next segment of the log ahead, if it is time, beside the rest."""
        self.is_idle = True
        if self._disk.spare_wanted and not self._making_spare:
            self._making_spare = True
            process = self._process
            process.later(process.world.plan.disk_latency, self._make_spare)

    def _make_spare(self) -> None:
        try:
            self._disk.prepare_spare()
        except DiskFull:
            self._process.later(SPARE_RETRY_INTERVAL, self._may_make_spare)
        else:
            self._may_make_spare()

    def _may_make_spare(self) -> None:
        self._making_spare = False

    def _set_problem(self, problem: str | None) -> None:
        if problem == self.problem:
            return
        process = self._process
        text = problem if problem is not None else "the disk takes writes again"
        process.world.trace.say(process.world.events.now, f"{process.name}: {text}")
        self.problem = problem
        process.disk_changed()
