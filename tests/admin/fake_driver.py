"""A driver without a cluster: a dictionary and a list, and switches for all that may go wrong."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import trio

from raftd.driver import errors
from raftd.driver.proposal import Applied
from raftd.driver.reports import (
    ChangeReport,
    ClusterStatus,
    LogEntry,
    LogInfo,
    MemberStatus,
    QuorumReport,
    SegmentInfo,
    SnapshotInfo,
)
from raftd.kv import commands
from raftd.promise import Promise
from raftd.raft.changes import AddMember, Change, ChangeRefused, target
from raftd.raft.configuration import Configuration

T = TypeVar("T")


class Proposal(msgspec.Struct, frozen=True):
    command: commands.Command
    uid: int
    timeout: float


SNAPSHOT_BYTES = bytes(range(256)) * 3000
SNAPSHOT = SnapshotInfo(
    "ab" * 16,
    9,
    2,
    {"node1": "tcp://127.0.0.1:7001"},
    "node1",
    "0.1.0",
    1,
    len(SNAPSHOT_BYTES),
    hashlib.sha256(SNAPSHOT_BYTES).hexdigest(),
)


class FakeState:
    info = SNAPSHOT

    async def read(self, offset: int, size: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return SNAPSHOT_BYTES[offset : offset + size]


class FakeDriver:
    """`failure`: raised by every call. `gates`: what a proposal of that key waits for."""

    def __init__(self) -> None:
        self.name = "node1"
        self.items: dict[bytes, commands.Item] = {}
        self.log: list[LogEntry] = []
        self.failure: Exception | None = None
        self.gates: dict[bytes, trio.Event] = {}
        self.proposals: list[Proposal] = []
        self.answered = 0
        self.timeouts: list[float] = []
        self.stale: list[bool] = []
        self.targets: list[str | None] = []
        self.changes: list[tuple[Change, bool, bool]] = []
        self.scheme = "tcp"
        """of the members' addresses"""
        self.members: tuple[str, ...] = ()
        """if there are some, changes are judged by them, and refused"""
        self.drains: list[tuple[str | None, bool, bool]] = []
        self.problem: str | None = None
        self.pulls = 0
        self._changed = trio.Event()

    def propose(self, body: bytes, *, uid: int, timeout: float) -> Promise[Applied]:
        command = commands.decode_command(body)
        self.proposals.append(Proposal(command, uid, timeout))
        return _promise(self._propose, command, uid)

    async def _propose(self, command: commands.Command, uid: int) -> Applied:
        await self._checkpoint()
        if command.key in self.gates:
            await self.gates[command.key].wait()
        index = len(self.log) + 1
        result = self._apply(command, index)
        self.append("command", uid=uid)
        self.answered += 1
        return Applied(index, 1, commands.encode(result))

    def _apply(self, command: commands.Command, index: int) -> commands.Result:
        before = self.items.get(command.key)
        value: bytes | None = None
        match command:
            case commands.Put(key, put_value):
                if not key:
                    return commands.Invalid("a key has at least one byte")
                value = put_value
            case commands.CompareAndSet(_, expected_revision, expected_value, new):
                revision = before.revision if before else 0
                actual = before.value if before else None
                same = (
                    actual == expected_value
                    if expected_revision is None
                    else revision == expected_revision
                )
                if not same:
                    return commands.CompareFailed(revision, actual)
                value = new
        self.items.pop(command.key, None)
        if value is not None:
            self.items[command.key] = commands.Item(command.key, value, index)
        return commands.Changed(index, before is not None)

    def read(self, query: bytes, *, stale: bool, timeout: float) -> Promise[bytes]:
        self.timeouts.append(timeout)
        self.stale.append(stale)
        return _promise(self._read, query)

    async def _read(self, query: bytes) -> bytes:
        await self._checkpoint()
        found: list[commands.Item] = []
        more = False
        wanted = msgspec.msgpack.decode(query, type=commands.Query)
        if isinstance(wanted, commands.Get):
            found = [self.items[wanted.key]] if wanted.key in self.items else []
        else:
            after = wanted.after or b""
            keys = sorted(k for k in self.items if k.startswith(wanted.prefix) and k > after)
            more = len(keys) > wanted.limit
            found = [self.items[key] for key in keys[: wanted.limit]]
        return commands.encode(commands.Items(tuple(found), more, len(self.log)))

    async def transfer_leadership(self, target: str | None, *, timeout: float) -> str:
        self.timeouts.append(timeout)
        self.targets.append(target)
        await self._checkpoint()
        if target not in {None, "node1", "node2"}:
            raise errors.NoSuchMember(f"no member is called {target}")
        return target or "node2"

    async def change_members(
        self, change: Change, *, dry_run: bool, force: bool, timeout: float
    ) -> ChangeReport:
        self.timeouts.append(timeout)
        self.changes.append((change, dry_run, force))
        await self._checkpoint()
        one = QuorumReport(("node1",), (), 1, 0, ("node1",), 0)
        if self.members:
            refused = _why_refused(change, self.members)
            return ChangeReport(one, one, refused)
        if dry_run:
            return ChangeReport(one, one, "it would be unsafe", True, ("beware",))
        join = f"{'ab' * 16}:7" if isinstance(change, AddMember) else ""
        addresses = {
            "node1": f"{self.scheme}://127.0.0.1:7001",
            change.name: "tcp://192.0.2.1:7001",
        }
        return ChangeReport(one, one, index=7, join=join, addresses=addresses)

    async def drain(self, name: str | None, *, drained: bool, force: bool, timeout: float) -> str:
        self.timeouts.append(timeout)
        self.drains.append((name, drained, force))
        await self._checkpoint()
        if name not in {None, "node1", "node2"}:
            raise errors.NoSuchMember(f"no member is called {name}")
        return name or "node1"

    def shared_settings(self) -> dict[str, object]:
        return {"election_timeout_ms": [300, 600]}

    async def status(self, *, timeout: float) -> ClusterStatus:
        self.timeouts.append(timeout)
        await self._checkpoint()
        members = (
            MemberStatus(
                "node1", f"{self.scheme}://127.0.0.1:7001", True, "leader", True, 0, 9, 0, 3
            ),
            MemberStatus("node2", f"{self.scheme}://127.0.0.1:7002", True, "unknown", False),
        )
        must_stay = ("node1",)
        return ClusterStatus(
            "node1",
            "ab" * 16,
            "leader",
            3,
            "node1",
            1,
            True,
            self.problem,
            2,
            2,
            0,
            must_stay,
            members,
        )

    def log_info(self) -> LogInfo:
        if self.failure:
            raise self.failure
        segment = SegmentInfo("wal/1.seg", 1, len(self.log), 1, 1, 100, 1000)
        return LogInfo(1, len(self.log), 1, len(self.log), 0, 0, 0, 100, 1000, (segment,))

    async def log_entry(self, index: int) -> tuple[LogEntry, bytes]:
        await self._checkpoint()
        if not 1 <= index <= len(self.log):
            raise errors.NoSuchEntry(index, 1, len(self.log))
        return self.log[index - 1], b"payload \xff"

    async def log_entries(self, first: int | None, count: int) -> list[LogEntry]:
        await self._checkpoint()
        count = min(count, 1000)
        start = max(0, len(self.log) - count) if first is None else max(first, 1) - 1
        return self.log[start : start + count]

    async def take_snapshot(self) -> SnapshotInfo:
        await self._checkpoint()
        return SNAPSHOT

    async def reseed(self) -> SnapshotInfo:
        await self._checkpoint()
        return SNAPSHOT

    def snapshot_list(self) -> list[SnapshotInfo]:
        if self.failure:
            raise self.failure
        return [SNAPSHOT]

    @asynccontextmanager
    async def state(self, at: int | None) -> AsyncIterator[FakeState]:
        await self._checkpoint()
        if at is not None and at > 9:
            raise errors.NoSuchState(at, 1, 9)
        yield FakeState()

    def log_follower(self, first: int | None, count: int) -> FakeFollower:
        start = max(0, len(self.log) - count) if first is None else first - 1
        return FakeFollower(self, start)

    def append(self, kind: str = "no-op", *, uid: int | None = None, what: str = "") -> None:
        index = len(self.log) + 1
        self.log.append(LogEntry(index, 1, 1, kind, uid, None, what, 33, "committed"))
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for_change(self) -> None:
        await self._changed.wait()

    async def _checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.failure:
            raise self.failure


def _why_refused(change: Change, members: tuple[str, ...]) -> str | None:
    """In the algorithm's own words."""
    try:
        target(Configuration(members), change, 1)
    except ChangeRefused as error:
        return str(error)
    return None


def _promise(function: Callable[..., Awaitable[T]], *args: Any) -> Promise[T]:
    """What a task of its own makes of it."""
    promise: Promise[T] = Promise()

    async def keep() -> None:
        try:
            promise.set(await function(*args))
        except Exception as error:
            promise.fail(error)

    trio.lowlevel.spawn_system_task(keep)
    return promise


class FakeFollower:
    def __init__(self, driver: FakeDriver, position: int) -> None:
        self._driver = driver
        self._position = position

    async def next(self) -> list[LogEntry]:
        while self._position >= len(self._driver.log):
            await self._driver.wait_for_change()
        self._driver.pulls += 1
        entries = self._driver.log[self._position : self._position + 1000]
        self._position += len(entries)
        return entries
