"""The saver of raftd.driver.saver in virtual time, and the turns that calls on the disk take.

A call on the disk takes a while. What it does happens at the beginning of that time, or at its
end, as the dice say: so that a crash in between finds it done or not done, and a crash inside, by
`DiskFaults.crash_in`, finds it half done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from raftd.driver.saver import RETRY_INTERVAL, _combine
from raftd.raft.log import Entry
from raftd.raft.state import HardState
from raftd.raft.update import Update
from raftd.storage.disk import DiskFull
from tests.simulation.shadow import Attempt

if TYPE_CHECKING:
    from tests.simulation.process import Process

Done = Callable[[], None]


class _Turn:
    __slots__ = ("done", "error", "full", "function")

    def __init__(
        self, function: Callable[[], None], done: Done, full: Callable[[DiskFull], None]
    ) -> None:
        self.function = function
        self.done = done
        self.full = full
        self.error: DiskFull | None = None


class Turns:
    """raftd.driver's lock around the disk: one call at a time, in the order they were asked."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._waiting: deque[_Turn] = deque()

    def take(
        self, function: Callable[[], None], done: Done, full: Callable[[DiskFull], None]
    ) -> None:
        """Call `function`, then `done`; or `full` if it raises DiskFull."""
        self._waiting.append(_Turn(function, done, full))
        if len(self._waiting) == 1:
            self._start()

    def _start(self) -> None:
        turn, process = self._waiting[0], self._process
        random, node = process.random, process.node
        duration = process.world.plan.disk_latency * (0.3 + 1.4 * random.random())
        if node.slow_disk:
            duration += node.slow_disk * random.random()
        early = random.random() < 0.5
        if early:
            self._do(turn)
        process.saver.watch(turn, duration)
        process.later(duration, self._finish, turn, early)

    def _finish(self, turn: _Turn, early: bool) -> None:
        if not early:
            self._do(turn)
        if turn.error is None:
            turn.done()
        else:
            turn.full(turn.error)
        self._waiting.popleft()
        if self._waiting:
            self._start()

    def is_under_way(self, turn: object) -> bool:
        return bool(self._waiting) and self._waiting[0] is turn

    def _do(self, turn: _Turn) -> None:
        try:
            turn.function()
        except DiskFull as error:
            turn.error = error


class Saver:
    """See raftd.driver.saver.Saver; the names are the same."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._disk = process.disk
        self._durable = process.node.durable
        self._stall_limit = process.settings.election_timeout[1]
        self._pending: list[Update] = []
        self.is_idle = True
        self.problem: str | None = None

    def put(self, update: Update) -> None:
        self._pending.append(update)
        if self.is_idle:
            self.is_idle = False
            self._next()

    def watch(self, turn: object, duration: float) -> None:
        """Notice a call that does not end."""
        if duration > self._stall_limit:
            self._process.later(self._stall_limit * 1.25, self._stalled, turn)

    def _stalled(self, turn: object) -> None:
        if self._process.turns.is_under_way(turn) and self.problem is None:
            self._set_problem("disk stalled")

    def _next(self) -> None:
        if not self._pending:
            self._spare()
            return
        count = 1
        while count < len(self._pending) and self._pending[count].snapshot_to_install is None:
            count += 1
        updates, self._pending = self._pending[:count], self._pending[count:]
        hard_state, entries = _combine(updates)
        snapshot = updates[0].snapshot_to_install
        if snapshot is None:
            self._write(hard_state, entries, lambda: self._saved(updates))
            return

        def installed() -> None:
            self._write(None, entries, lambda: self._saved(updates))

        def written() -> None:
            self._process.snapshots.install(snapshot, installed)

        self._write(hard_state, [], written)

    def _write(
        self, hard_state: HardState | None, entries: Sequence[Entry], then: Done
    ) -> None:
        if hard_state is None and not entries:
            then()
            return
        attempt = Attempt(hard_state, entries)

        def save() -> None:
            self._durable.begin(attempt)
            try:
                self._disk.save(hard_state, entries)
            except DiskFull:
                self._durable.full(attempt)
                raise
            self._durable.done(attempt)

        def full(error: DiskFull) -> None:
            self._set_problem(f"disk full: {error}")
            self._process.later(RETRY_INTERVAL, self._write, hard_state, entries, then)

        def done() -> None:
            self._set_problem(None)
            then()

        self._process.turns.take(save, done, full)

    def _saved(self, updates: list[Update]) -> None:
        for update in updates:
            self._process.saved(update)
        self._next()

    def _spare(self) -> None:
        """Nothing waits: make the next segment of the log ahead, if it is time."""
        if not self._disk.spare_wanted:
            self.is_idle = True
            return
        self.is_idle = True
        process = self._process
        process.later(process.world.plan.disk_latency, self._make_spare)

    def _make_spare(self) -> None:
        try:
            self._disk.prepare_spare()
        except DiskFull:
            self._process.world.trace.say(
                self._process.world.events.now, f"{self._process.name} has no space for a segment"
            )

    def _set_problem(self, problem: str | None) -> None:
        if problem == self.problem:
            return
        process = self._process
        text = problem if problem is not None else "the disk takes writes again"
        process.world.trace.say(process.world.events.now, f"{process.name}: {text}")
        self.problem = problem
        process.disk_changed()
