"""One life of one node: does what raftd.driver.driver does with the algorithm's updates.

Everything comes in through `enter`, which knows whether the process still lives, and what its death
looks like.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from raftd import record
from raftd.raft.log import EntryType
from raftd.raft.messages import (
    AppendEntriesRequest,
    InstallSnapshotRequest,
    Message,
    RequestVoteRequest,
    TimeoutNowRequest,
)
from raftd.raft.raft import Raft
from raftd.raft.update import Outgoing, Update
from raftd.state_trace.traced import TracedRaft
from raftd.storage.disk import DirectoryDamaged, Disk, DiskFull, Standing, StorageFailed
from tests.simulation.applying import Applier
from tests.simulation.files import Crashed, SimulatedFiles
from tests.simulation.machine import Machine
from tests.simulation.network import Call
from tests.simulation.node import Node
from tests.simulation.peers import Peers
from tests.simulation.saving import Saver
from tests.simulation.serving import Serving
from tests.simulation.shadow import ShadowLog
from tests.simulation.snapshotting import Snapshots

if TYPE_CHECKING:
    from tests.simulation.world import World

MAX_CALLS = 64
_REQUESTS = (RequestVoteRequest, AppendEntriesRequest, InstallSnapshotRequest, TimeoutNowRequest)


class Process:
    """`log` is the algorithm's log as its updates tell it. `dead` never becomes false again."""

    def __init__(
        self, world: World, node: Node, disk: Disk, files: SimulatedFiles, machine: Machine
    ) -> None:
        self.world = world
        self.node = node
        self.name = node.name
        self.disk = disk
        self.files = files
        self.machine = machine
        self.dead = False
        self.paused = False
        self._postponed: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.random = world.random
        self.settings = world.plan.settings
        self._group = world.plan.group
        self._answers: dict[tuple[str, int], tuple[Call, float]] = {}
        """(sender, request id) -> the request that waits for its answer, and until when"""
        self._calls: defaultdict[str, int] = defaultdict(int)
        self._deadline = -math.inf
        self._timer_at = math.inf
        self._step_due = self._stepping = self._step_again = False
        self.log: ShadowLog = node.durable.log.copy()
        dice = Random(f"dice {world.plan.seed} {node.name} {node.lives}")
        make: Callable[..., Raft] = Raft
        if world.state_trace is not None:
            make = partial(TracedRaft, world.state_trace)
        self.raft = make(
            node.name,
            disk.recovered,
            self.settings,
            dice,
            self._encode,
            now=self.now(),
            commit_index=machine.last_applied,
            membership_index=disk.identity.membership_index,
            told_removed=disk.standing.removed_at > 0,
        )
        self.applier = Applier(self)
        self.snapshots = Snapshots(self)
        self.saver = Saver(self)
        self.serving = Serving(self)
        self.peers = Peers(self)

    def now(self) -> float:
        """By the node's own clock."""
        return self.node.clock.local(self.world.events.now)

    # ---- life

    def enter(self, action: Callable[..., object], *args: Any) -> None:
        """Do something in this process, unless it is dead or stopped."""
        if self.dead:
            return
        if self.paused:
            self._postponed.append((action, args))
            return
        try:
            action(*args)
        except Crashed as crash:
            self.world.lives.crashed(self, crash)
        except StorageFailed as error:
            self.world.lives.exited(self, str(error))
        except DirectoryDamaged as error:
            self.world.lives.damaged(self.node, str(error))

    def later(self, delay: float, action: Callable[..., object], *args: Any) -> None:
        self.world.events.after(delay, self.enter, action, *args)

    def begin(self) -> None:
        """As raftd.driver.driver.run."""
        self.peers.follow()
        self.kick()

    def end(self) -> None:
        """It is dead: nothing of it is left that could go on."""

    def resume(self) -> None:
        """Everything that came meanwhile is there at once."""
        self.paused = False
        postponed, self._postponed = self._postponed, []
        for action, args in postponed:
            self.enter(action, *args)

    def kick(self) -> None:
        """The algorithm was told something: look at its update soon."""
        if self._stepping:
            self._step_again = True
        elif not self._step_due:
            if self._group and self.random.random() < self._group:
                self._step_due = True
                self.later(self.random.random() * self.world.plan.latency, self._steps)
            else:
                self._steps()

    def _steps(self) -> None:
        self._step_due = False
        self._stepping = self._step_again = True
        while self._step_again:
            self._step_again = False
            self._step()
        self._stepping = False

    def _step(self) -> None:
        """Do what the update says, in the order of its fields (raftd.driver.loop)."""
        update = self.raft.take_update()
        world = self.world
        for note in update.notes:
            world.trace.say(world.events.now, note.text)
        world.checker.look(self, update)
        self.peers.follow()
        for outgoing in update.messages:
            self._send(outgoing)
        if update.snapshot_to_install is not None:
            self.applier.expect_snapshot()
        if update.needs_save or (update.messages_after_save and not self.saver.is_idle):
            self.saver.put(update)
        else:
            for outgoing in update.messages_after_save:
                self._send(outgoing)
        self.applier.advance(update.commit_index)
        for read in update.reads:
            self.serving.ready(read)
        for wanted in update.entries_wanted:
            self.snapshots.read_entries(wanted)
        for chunk in update.snapshot_chunks:
            self.snapshots.take_chunk(chunk)
        self._arm(update.deadline)

    def saved(self, update: Update) -> None:
        self.raft.persisted(self.now(), update)
        for outgoing in update.messages_after_save:
            self._send(outgoing)
        self.kick()

    def told_removed(self) -> None:
        """A member says so (raftd.driver.peers)."""
        try:
            self.disk.note_standing(Standing(removed_at=1))
        except DiskFull:
            return
        self.raft.removed(self.now())
        self.kick()

    def disk_changed(self) -> None:
        self.raft.set_may_lead(self.now(), self.saver.problem is None)
        self.kick()

    # ---- time

    def clock_changed(self) -> None:
        self._timer_at = math.inf
        self._arm(self._deadline)

    def _arm(self, deadline: float) -> None:
        self._deadline = deadline
        when = self.node.clock.virtual(deadline)
        if when < self._timer_at:
            self._timer_at = when
            self.world.events.at(when, self._timer, when)

    def _timer(self, when: float) -> None:
        if when == self._timer_at:
            self._timer_at = math.inf
            self.enter(self._look_at_clock)

    def _look_at_clock(self) -> None:
        now = self.now()
        if now >= self._deadline:
            self.raft.timed_out(now)
            self.kick()
        else:
            self._arm(self._deadline)

    # ---- requests to peers

    def _send(self, outgoing: Outgoing) -> None:
        message = outgoing.message
        self.world.law.check(self, outgoing.to, message)
        if not isinstance(message, _REQUESTS):
            waiting = self._answers.pop((outgoing.to, message.request_id), None)
            if waiting is not None:
                self.world.network.answer(self, waiting[0], message)
            return
        filled = message
        if isinstance(message, InstallSnapshotRequest):
            chunk = self.snapshots.fill(message)
            if chunk is None:
                self.later(0.0, self._unanswered, outgoing.to, message.request_id)
                return
            filled = chunk
        if self._calls[outgoing.to] >= MAX_CALLS:
            self.raft.unanswered(self.now(), outgoing.to, message.request_id)
        else:
            self._calls[outgoing.to] += 1
            self.world.network.request(self, outgoing.to, filled)

    def receive_answer(self, call: Call, responder: Process, message: Message) -> None:
        if not self.peers.admits(responder, self.peers.node_id):
            return
        if not self.raft.server.counts(responder.name, responder.node.membership_index):
            return
        if not call.done:
            call.done = True
            self._calls[call.to] -= 1
        elif not self.world.plan.late_answers:
            return
        self.raft.receive(self.now(), call.to, message)
        self.kick()

    def give_up(self, call: Call) -> None:
        if not call.done:
            call.done = True
            self._calls[call.to] -= 1
            self._unanswered(call.to, call.message.request_id)

    def _unanswered(self, peer: str, request_id: int) -> None:
        self.raft.unanswered(self.now(), peer, request_id)
        self.kick()

    # ---- requests from peers

    def receive_request(self, call: Call) -> None:
        """As raftd.driver.exchange."""
        if self.peers.refuses(call.sender) or not self.peers.admits(call.sender, call.known_as):
            return
        message = call.message
        key = (call.sender.name, message.request_id)
        busy = self.saver.problem is not None and (
            isinstance(message, InstallSnapshotRequest) or bool(getattr(message, "entries", ()))
        )
        now = self.world.events.now
        if busy or (key in self._answers and now < self._answers[key][1]):
            return
        self._answers[key] = call, now + 10 * self.settings.election_timeout[1]
        self.raft.receive(self.now(), call.sender.name, message)
        self.kick()

    def _encode(self, index: int, term: int, entry_type: EntryType, payload: bytes) -> bytes:
        return record.encode(index, term, entry_type, payload, int(self.world.events.now * 1000))
