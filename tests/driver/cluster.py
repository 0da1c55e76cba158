"""Whole drivers in one event loop under virtual time: real disks, a network in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from raftd.driver.driver import Driver, DriverSettings
from raftd.kv import commands
from raftd.kv.store import KeyValueStore
from raftd.promise import Promise, in_task
from raftd.raft.configuration import Configuration
from raftd.raft.state import Role, Settings
from raftd.storage.disk import Disk, RealFiles
from raftd.transport.transport import Unreachable

LATENCY = 0.001
MAX_MESSAGE_BYTES = (1 << 20) + (64 << 10)
CLUSTER_ID = b"cluster-of-tests"

Handler = Callable[[bytes, str | None], Promise[bytes | None]]


class Weather:
    """How long messages and work take, and what becomes of them. Here nothing is wrong."""

    async def hop(self, source: str, target: str) -> None:
        """A message, either way; one that is lost never ends."""
        del source, target
        await trio.sleep(LATENCY)

    def doubles(self, request: bytes) -> bool:
        """Does it arrive a second time?"""
        del request
        return False

    async def work(self, what: str) -> None:
        """Before the function of that name is done where it does not block the event loop."""
        del what
        await trio.lowlevel.checkpoint()


class Network:
    """`cut` holds (from, to) pairs whose messages are lost, requests and answers alike."""

    def __init__(self, nursery: trio.Nursery, weather: Weather) -> None:
        self.nursery = nursery
        self.weather = weather
        self.handlers: dict[str, Handler] = {}
        self.cut: set[tuple[str, str]] = set()
        self.addresses: dict[str, str] = {}
        """where a name's messages go, if not to itself"""
        self.dialled: dict[tuple[str, str], str] = {}
        """(who, whom) -> the address it was told last"""

    def isolate(self, name: str, others: list[str]) -> None:
        for other in others:
            if other != name:
                self.cut |= {(name, other), (other, name)}

    def heal(self) -> None:
        self.cut.clear()


class Port:
    """One node's end of the network: what raftd.transport.Transport offers."""

    def __init__(self, network: Network, name: str) -> None:
        self._network = network
        self._name = name

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        self._network.handlers[self._name] = handler
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            del self._network.handlers[self._name]

    def set_peer(self, name: str, address: str) -> None:
        self._network.dialled[self._name, name] = address

    def trouble_with(self, name: str) -> str | None:
        del name
        return None

    def remove_peer(self, name: str) -> None:
        self._network.dialled.pop((self._name, name), None)

    def call(
        self, peer: str, request: bytes, timeout: float, *, bulk: bool = False
    ) -> Promise[bytes]:
        del bulk
        return in_task(
            self._network.nursery, self._call, peer, request, timeout, failures=(Unreachable,)
        )

    async def _call(self, peer: str, request: bytes, timeout: float) -> bytes:
        if self._network.weather.doubles(request):
            self._network.nursery.start_soon(self._deliver, peer, request)
        with trio.move_on_after(timeout):
            answer = await self._deliver(peer, request)
            if answer is None or len(answer) > MAX_MESSAGE_BYTES:
                await trio.sleep_forever()
            assert answer is not None
            await self._hop(peer, self._name)
            return answer
        raise Unreachable(f"{peer} does not answer")

    async def _deliver(self, peer: str, request: bytes) -> bytes | None:
        """What the peer answers."""
        await self._hop(self._name, peer)
        handler = self._network.handlers.get(self._network.addresses.get(peer, peer))
        return None if handler is None else await handler(request, None)

    async def _hop(self, source: str, target: str) -> None:
        await self._network.weather.hop(source, target)
        if (source, target) in self._network.cut:
            await trio.sleep_forever()


class WithoutSync(RealFiles):
    """Here only processes crash, never the machine."""

    def fsync(self, handle: int) -> None:
        del handle

    def fdatasync(self, handle: int) -> None:
        del handle


class Node:
    """One daemon without its socket. `disk` and `offload` can be made to misbehave."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.directory = cluster.directory / name
        self.scope = trio.CancelScope()
        self.error: BaseException | None = None
        self.stalled: trio.Event | None = None
        self.membership_index = 0

    async def offload(self, function: Callable[..., Any], *args: Any) -> Any:
        name = getattr(function, "__name__", "")
        await self.cluster.network.weather.work(name)
        if self.stalled is not None and name == "save":
            await self.stalled.wait()
        return function(*args)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._open()
        self.driver = Driver(
            disk=self.disk,
            state_machine=self.store,
            network=Port(self.cluster.network, self.name),
            settings=msgspec.structs.replace(
                self.cluster.settings, priority=self.cluster.priorities.get(self.name, 1)
            ),
            dice=random.Random(f"{self.name}{self.disk.identity.life}"),
            offload=self.offload,
        )
        self.cluster.prepare(self)
        self.scope = trio.CancelScope()
        try:
            with self.scope:
                await self.driver.run(task_status=task_status)
        except* Exception as group:
            self.error = group
        finally:
            self.store.close()
            self.disk.close(clean=False)

    def _open(self) -> None:
        """As the daemon does."""
        names = () if self.membership_index else tuple(self.cluster.names)
        stores: list[KeyValueStore] = []

        def last_applied(trusted: bool) -> int:
            stores.append(KeyValueStore(self.directory / "state", fresh=not trusted))
            return stores[0].last_applied

        try:
            self.disk = Disk.open(
                self.directory,
                name=self.name,
                cluster_id=self.cluster.cluster_id,
                initial=Configuration(names, addresses={name: f"memory:{name}" for name in names}),
                membership_index=self.membership_index,
                segment_bytes=self.cluster.segment_bytes,
                tail_bytes=self.cluster.settings.raft.tail_bytes,
                last_applied=last_applied,
                files=WithoutSync(),
            )
        except BaseException:
            for store in stores:
                store.close()
            raise
        self.store = stores[0]
        snapshot = self.disk.snapshot_file
        if snapshot and self.store.last_applied < self.disk.snapshot.last_included_index:
            self.store.restore(snapshot)

    @property
    def is_up(self) -> bool:
        return self.name in self.cluster.network.handlers

    @property
    def role(self) -> Role:
        return self.driver.raft.server.role

    async def put(self, key: str, value: str, timeout: float = 5.0) -> commands.Result:
        body = commands.encode(commands.Put(key.encode(), value.encode()))
        applied = await self.driver.propose(body, uid=0, timeout=timeout)
        result: commands.Result = commands.decode_result(applied.result)
        return result

    async def get(self, key: str, *, stale: bool = False, timeout: float = 5.0) -> str | None:
        query = commands.encode(commands.Get(key.encode()))
        answer = await self.driver.read(query, stale=stale, timeout=timeout)
        items = commands.decode_items(answer).items
        return items[0].value.decode() if items else None


class Held:
    """A node's offloaded calls of `function` stop, in front of it or behind it, until `release`."""

    def __init__(self, node: Node, function: str, *, behind: bool = False) -> None:
        self.reached = trio.Event()
        self._released = trio.Event()
        plain = node.offload

        async def offload(called: Callable[..., Any], *args: Any) -> Any:
            stops = getattr(called, "__name__", "") == function
            if stops and not behind:
                await self._stop()
            result = await plain(called, *args)
            if stops and behind:
                await self._stop()
            return result

        node.offload = offload  # type: ignore[method-assign, assignment]

    async def _stop(self) -> None:
        self.reached.set()
        await self._released.wait()

    def release(self) -> None:
        self._released.set()


class Cluster:
    def __init__(
        self,
        directory: Path,
        nursery: trio.Nursery,
        names: list[str],
        settings: DriverSettings,
        segment_bytes: int,
        weather: Weather,
        prepare: Callable[[Node], None],
    ) -> None:
        self.prepare = prepare
        self.directory = directory
        self.names = names
        self.settings = settings
        self.segment_bytes = segment_bytes
        self.cluster_id = CLUSTER_ID
        self.priorities: dict[str, int] = {}
        self.network = Network(nursery, weather)
        self._nursery = nursery
        self.nodes = {name: Node(self, name) for name in names}

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    async def start(self, *names: str) -> None:
        for name in names or self.names:
            await self._nursery.start(self.nodes[name].run)

    async def join(self, name: str, membership_index: int) -> None:
        """A new host, admitted by that entry."""
        self.nodes[name] = Node(self, name)
        self.nodes[name].membership_index = membership_index
        await self.start(name)

    async def crash(self, name: str) -> None:
        """Nothing is handed over, nothing closed cleanly."""
        self.nodes[name].scope.cancel()
        await trio.testing.wait_all_tasks_blocked()

    def leaders(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.is_up and node.role is Role.LEADER]

    async def leader(self, *, among: list[str] | None = None) -> Node:
        """The one leader of the newest term that can reach a majority."""
        while True:
            for node in self.leaders():
                if among is not None and node.name not in among:
                    continue
                if node.driver.raft.has_quorum(trio.current_time()) and (
                    node.driver.raft.server.commit_index >= node.driver.raft.server.term_start_index
                ):
                    return node
            await trio.sleep(0.01)

    async def followers(self) -> list[Node]:
        leader = await self.leader()
        return [node for node in self.nodes.values() if node is not leader]


@asynccontextmanager
async def running(
    directory: Path,
    count: int = 3,
    *,
    raft: Settings | None = None,
    segment_bytes: int = 64 << 10,
    snapshot_log_bytes: int = 1 << 30,
    entry_bytes: int = 1 << 20,
    log_tail_bytes: int = 0,
    priorities: dict[str, int] | None = None,
    started: tuple[str, ...] = (),
    weather: Weather | None = None,
    prepare: Callable[[Node], None] = lambda node: None,
) -> AsyncIterator[Cluster]:
    """`started`: who starts at once, if not all. `prepare` is called with each node that has got
    its driver and does not run yet."""
    names = [f"n{number}" for number in range(1, count + 1)]
    settings = DriverSettings(raft or Settings(), entry_bytes, snapshot_log_bytes, log_tail_bytes)
    async with trio.open_nursery() as nursery:
        cluster = Cluster(
            directory, nursery, names, settings, segment_bytes, weather or Weather(), prepare
        )
        cluster.priorities = priorities or {}
        await cluster.start(*started)
        yield cluster
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Wait, in virtual time, for a condition that must come true."""
    with trio.fail_after(120):
        while not condition():  # noqa: ASYNC110 - anything may make it true
            await trio.sleep(0.01)
