"""One node, running: its parts, and the calls on it.

Way in: `Driver`. raftd.driver.loop feeds the algorithm and does what its updates say; the other
modules here are the parts that do it.
"""

from __future__ import annotations

import functools
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec
import trio

from raftd import features, record
from raftd.client_messages import (
    ClientMessage,
    DrainRequest,
    FetchRequest,
    ForwardRequest,
    MembersRequest,
    ReadIndexRequest,
    ReportRequest,
    ReportResponse,
    TransferRequest,
)
from raftd.driver import errors
from raftd.driver.applier import Applier
from raftd.driver.checks import Checks
from raftd.driver.contacts import Contacts
from raftd.driver.exchange import Exchange
from raftd.driver.forwarding import Forwarding
from raftd.driver.history import History, State
from raftd.driver.leadership import Leadership
from raftd.driver.life import Life
from raftd.driver.log_view import LogFollower, LogView
from raftd.driver.loop import Loop
from raftd.driver.members import Members
from raftd.driver.offload import Offload, to_thread
from raftd.driver.peers import AnyMessage, Carrier, Peers
from raftd.driver.proposal import Applied
from raftd.driver.reads import Reads
from raftd.driver.reports import (
    ChangeReport,
    ClusterStatus,
    LogEntry,
    LogInfo,
    NodeReport,
    SnapshotInfo,
)
from raftd.driver.reseeding import Reseeding
from raftd.driver.saver import Saver, Write
from raftd.driver.snapshots import Snapshots
from raftd.driver.status import Status
from raftd.driver.transfers import Transfers
from raftd.driver.waiting import Signal
from raftd.driver.writes import Writes
from raftd.promise import Promise
from raftd.raft.changes import Change
from raftd.raft.log import EntryType
from raftd.raft.raft import Raft
from raftd.raft.state import Role, Settings
from raftd.state_machine import StateMachine
from raftd.state_trace.events import Sink
from raftd.state_trace.traced import TracedRaft
from raftd.storage.disk import Disk

log = logging.getLogger("raftd.raft")

FORGOTTEN = (
    "one side has forgotten what it had acknowledged, as an old copy of a data directory does:"
    " see OLD COPIES in raftd(8)"
)
EXPIRY_INTERVAL = 0.05
"""Seconds by which a call may end too late."""


class Network(Carrier, Protocol):
    """`raftd.transport.Transport`, or a simulated one."""

    async def serve(
        self,
        handler: Callable[[bytes, str | None], Promise[bytes | None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None: ...


class DriverSettings(msgspec.Struct, frozen=True):
    """Sizes in bytes."""

    raft: Settings
    entry_bytes: int = 1 << 20
    snapshot_log_bytes: int = 256 << 20
    log_tail_bytes: int = 0
    check_interval: float = 10.0
    """Seconds between two checks of the state."""
    feature_level: int = features.SUPPORTED
    """What this node says it supports."""
    priority: int = 1
    """as a leader, against the others; 0: never"""


class Driver:
    """The calls on it may be made from any task; see raftd.driver.errors for what they raise."""

    def __init__(
        self,
        *,
        disk: Disk,
        state_machine: StateMachine,
        network: Network,
        settings: DriverSettings,
        dice: random.Random,
        addresses: Mapping[str, str] | None = None,
        offload: Offload = to_thread,
        offload_saves: Write | None = None,
        wall_clock: Callable[[], float] = time.time,
        state_trace: Sink | None = None,
    ) -> None:
        """`addresses` of members count until the members are changed for the first time.
        `offload_saves`: what blocks in `disk.save`, if that is to be elsewhere than the rest. What
        the algorithm does is told to `state_trace`, if there is one."""
        self.name = disk.identity.name
        self._network = network
        self._settings = settings
        self._disk = disk
        self._offload = offload

        def encode(index: int, term: int, entry_type: EntryType, payload: bytes) -> bytes:
            return record.encode(index, term, entry_type, payload, int(wall_clock() * 1000))

        make: Callable[..., Raft] = Raft
        if state_trace is not None:
            make = functools.partial(TracedRaft, state_trace)
        self.raft = raft = make(
            self.name,
            disk.recovered,
            settings.raft,
            dice,
            encode,
            now=trio.current_time(),
            commit_index=state_machine.last_applied,
            membership_index=disk.identity.membership_index,
            told_removed=disk.standing.removed_at > 0,
        )
        self._life = life = Life()
        self._loop = loop = Loop(raft, disk, life, offload, self._tell_changes)
        self._view: tuple[object, ...] = ()
        self._asked = Signal()
        self.changed = Signal()
        """Fires when role, leader or term have changed, or a transfer began or ended."""
        self.peers = Peers(network, disk, raft.server, life, offload, self._told_removed)
        round_timeout = settings.raft.election_timeout[0]
        self.contacts = Contacts(raft, self.peers, disk.initial, addresses or {}, round_timeout)
        self.applier = Applier(
            raft,
            disk,
            state_machine,
            offload,
            self._disk_changed,
            lambda: self.saver.is_quick,
        )
        self.snapshots = Snapshots(
            raft,
            disk,
            state_machine,
            self.applier,
            life,
            offload,
            settings.snapshot_log_bytes,
            settings.log_tail_bytes,
        )
        self.saver = Saver(
            disk,
            life,
            offload,
            offload_saves,
            loop.saved,
            self.snapshots.install,
            self._disk_changed,
            stall_limit=settings.raft.election_timeout[1],
        )
        self.writes = Writes(
            raft,
            self.applier,
            self.peers,
            loop.kick,
            self.changed,
            entry_bytes=settings.entry_bytes,
            forward_bytes=settings.raft.max_append_bytes,
            queue_bytes=settings.raft.max_uncommitted_bytes,
        )
        self.forwarding = Forwarding(
            raft,
            self.applier,
            loop.kick,
            entry_bytes=settings.entry_bytes,
            answer_bytes=max(settings.entry_bytes, settings.raft.max_append_bytes),
        )
        self.reads = Reads(
            raft,
            self.applier,
            self.peers,
            state_machine,
            life,
            offload,
            loop.kick,
            self.changed,
            round_timeout,
            self.applier.may_read_in_place,
        )
        self.transfers = Transfers(raft, self.peers, loop.kick, self.changed)
        self.leadership = Leadership(
            raft,
            disk,
            self.peers,
            self.transfers,
            offload,
            self._disk_changed,
            settings.priority,
        )
        self.members = Members(
            raft,
            self.peers,
            disk.identity.cluster_id,
            loop.kick,
            self.changed,
            lambda: self.log_view.changed,
        )
        self.log_view = LogView(raft, disk, state_machine, self.applier, offload)
        self.history = History(raft, disk, state_machine, self.applier, self.snapshots, offload)
        self.checks = Checks(
            raft, state_machine, self.peers, loop.kick, settings.check_interval, self.report
        )
        self.reseeding = Reseeding(
            raft, disk, self.applier, self.snapshots, self.history, self.peers, offload
        )
        self.status_view = Status(
            raft,
            disk,
            self.applier,
            self.peers,
            self.leadership,
            state_machine,
            settings.feature_level,
            lambda: self.problem or self.applier.diverged,
            wall_clock,
        )

        self._exchange = Exchange(
            raft,
            self.peers,
            self.snapshots,
            life,
            loop.kick,
            loop.look,
            self._answer_client,
            lambda: self.problem is None,
            settings.raft.election_timeout[1],
        )
        loop.connect(
            self._exchange, self.saver, self.applier, self.reads, self.snapshots, self.contacts
        )

    @property
    def problem(self) -> str | None:
        """What is wrong with this node's disk; None: nothing."""
        return self.saver.problem or self.applier.problem

    @property
    def makes_progress(self) -> bool:
        """Whether saves end, and whether the algorithm was called when it asked to be."""
        late = trio.current_time() - self._loop.deadline
        started = self._loop.deadline != -math.inf
        return not self.saver.is_stalled and not (started and late > self.saver.stall_limit)

    # ---- calls

    def propose(self, body: bytes, *, uid: int, timeout: float) -> Promise[Applied]:
        """Carry a command to the state machine of every node; its answer here."""
        if self.applier.diverged is not None:
            return Promise.failed(self._refusal())
        if (refused := self._outsider()) is not None:
            return Promise.failed(refused)
        self._asked.fire()
        return self.writes.propose(body, uid=uid, timeout=timeout)

    def read(self, query: bytes, *, stale: bool, timeout: float) -> Promise[bytes]:
        """Ask the state machine; linearizable unless `stale`."""
        if self.applier.diverged is not None:
            return Promise.failed(self._refusal())
        if not stale and (refused := self._outsider()) is not None:
            return Promise.failed(refused)
        self._asked.fire()
        return self.reads.read(query, stale=stale, timeout=timeout)

    def _refusal(self) -> errors.Refused:
        """The state here is not to be believed."""
        return errors.Refused(f"ask another node: here, {self.applier.diverged}")

    async def transfer_leadership(self, target: str | None, *, timeout: float) -> str:
        """Hand leadership over; the new leader's name."""
        return await self.leadership.transfer(target, timeout=timeout)

    async def change_members(
        self, change: Change, *, dry_run: bool, force: bool, timeout: float
    ) -> ChangeReport:
        """Change the members; what that means, and whether it was done."""
        if (refused := self._outsider()) is not None:
            raise refused
        return await self.members.change(change, dry_run=dry_run, force=force, timeout=timeout)

    async def drain(self, name: str | None, *, drained: bool, force: bool, timeout: float) -> str:
        """A member, by default this node, stays away from leadership, or does so no more."""
        return await self.leadership.drain(name, drained=drained, force=force, timeout=timeout)

    def shared_settings(self) -> dict[str, object]:
        """Settings that are not the default, and should be the same on all nodes."""
        own, usual = self._settings.raft, Settings()
        found: dict[str, object] = {}
        if own.election_timeout != usual.election_timeout:
            found["election_timeout_ms"] = [round(end * 1000) for end in own.election_timeout]
        if own.heartbeat_interval != usual.heartbeat_interval:
            found["heartbeat_interval_ms"] = round(own.heartbeat_interval * 1000)
        return found

    async def status(self, *, timeout: float) -> ClusterStatus:
        return await self.status_view.cluster(timeout=timeout)

    def report(self) -> NodeReport:
        return self.status_view.report()

    def log_info(self) -> LogInfo:
        return self.log_view.info()

    async def log_entry(self, index: int) -> tuple[LogEntry, bytes]:
        return await self.log_view.entry(index)

    async def log_entries(self, first: int | None, count: int) -> list[LogEntry]:
        return await self.log_view.entries(first, count)

    async def take_snapshot(self) -> SnapshotInfo:
        """Of all that this node has applied now."""
        return await self.history.take()

    async def reseed(self) -> SnapshotInfo:
        """Throw this node's state away and take over the leader's."""
        return await self.reseeding.reseed()

    def snapshot_list(self) -> list[SnapshotInfo]:
        return self.history.snapshots()

    def state(self, at: int | None) -> AbstractAsyncContextManager[State]:
        """The newest snapshot, or the state as it was behind entry `at`."""
        return self.history.state(at)

    def log_follower(self, first: int | None, count: int) -> LogFollower:
        return LogFollower(self.log_view, first, count)

    async def hand_over(self, timeout: float) -> None:
        """If this node leads, give leadership to somebody else before it stops."""
        if self.raft.server.role is not Role.LEADER:
            return
        try:
            await self.leadership.transfer(None, timeout=timeout)
        except errors.CallFailed as error:
            log.info("%s stops without handing leadership over: %s", self.name, error)

    def _outsider(self) -> errors.Refused | None:
        """Why nobody can be served here: this node is no member any more."""
        server = self.raft.server
        if server.role is Role.LEADER or not server.is_removed:
            return None
        return errors.Refused(f"{self.name} was removed from the cluster: ask another node")

    # ---- its life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Started once peers can be served."""
        self._disk_changed()
        self.contacts.update()
        async with trio.open_nursery() as nursery:
            self._life.begin(nursery)
            try:
                for part in (
                    self._exchange,
                    self.saver,
                    self.applier,
                    self.writes,
                    self.snapshots,
                    self.checks,
                ):
                    nursery.start_soon(part.run)
                nursery.start_soon(self._expire)
                await nursery.start(self._network.serve, self._exchange.handle)
                nursery.start_soon(self.contacts.run)
                nursery.start_soon(self.leadership.run)
                task_status.started()
                await self._loop.run()
            finally:
                self._life.end()

    async def _expire(self) -> None:
        """End the calls whose time is over; one look at all of them now and then costs less than a
        timer for each."""
        parts = (self.applier, self.writes, self.reads)
        while True:
            if not any(part.is_waiting for part in parts):
                await self._asked.wait()
            await trio.sleep(EXPIRY_INTERVAL)
            for part in parts:
                part.expire(trio.current_time())

    def _disk_changed(self) -> None:
        """Whether this node may lead is another question now."""
        sound = self.problem is None and self.applier.diverged is None
        may_lead = sound and self.leadership.rank > 0
        self.raft.set_may_lead(trio.current_time(), may_lead)
        self._loop.kick()

    def _told_removed(self) -> None:
        self.raft.removed(trio.current_time())
        self._loop.kick()

    def _tell_changes(self) -> None:
        server = self.raft.server
        if server.contradiction is not None and self.applier.diverged is None:
            self.applier.distrust(f"{server.contradiction}; {FORGOTTEN}")
        view = (
            server.role,
            server.leader,
            server.current_term,
            server.transfer is not None,
            server.log.last_index,
            server.commit_index,
            self.applier.applied_index,
        )
        if view == self._view:
            return
        if view[:4] != self._view[:4]:
            self.status_view.roles_changed()
            self.changed.fire()
        self._view = view
        self.log_view.changed.fire()

    async def _answer_client(self, message: ClientMessage) -> AnyMessage | None:
        """What another node asks for its own clients."""
        answer: AnyMessage | None = None
        match message:
            case ForwardRequest():
                self._asked.fire()
                answer = await self.forwarding.handle(message)
            case ReadIndexRequest():
                answer = await self.reads.handle_read_index(message)
            case ReportRequest():
                answer = ReportResponse(msgspec.msgpack.encode(self.report()))
            case FetchRequest():
                answer = await self.reseeding.handle_fetch(message)
            case TransferRequest():
                answer = await self.leadership.handle_transfer(message)
            case MembersRequest():
                answer = await self.members.handle(message)
            case DrainRequest():
                answer = await self.leadership.handle(message)
        return answer
