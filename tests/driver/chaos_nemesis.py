"""What goes wrong in chaos.py, besides the weather: nodes, networks, and operators."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import trio

from raftd.driver.errors import CallFailed
from raftd.raft.changes import AddMember, Change, PromoteMember, RemoveMember
from raftd.raft.configuration import Configuration
from tests.driver.cluster import Cluster, Node

MOST = 7
"""Nodes that a run has at most, with those that were removed."""
FEWEST = 3
"""Voters."""

_KINDS: dict[type[Change], str] = {
    AddMember: "add",
    PromoteMember: "promote",
    RemoveMember: "remove",
}

log = logging.getLogger("tests.chaos")


class Nemesis:
    """`faults` counts what it did, `broken` says what went wrong with that."""

    def __init__(
        self, cluster: Cluster, nursery: trio.Nursery, dice: Random, *, changes_members: bool
    ) -> None:
        self._cluster = cluster
        self._nursery = nursery
        self._dice = dice
        self._born = len(cluster.names)
        self._acts: dict[str, list[trio.CancelScope]] = {}
        self.faults: Counter[str] = Counter()
        self.broken: list[str] = []
        self._kinds: dict[str, Callable[[Node], Awaitable[None]]] = {
            "crash": self.crash,
            "state wiped": self._wipe_state,
            "isolation": self._isolate,
            "isolation again": self._isolate,
            "one-way cut": self._cut_one_way,
            "healed": self._heal,
            "transfer": self._transfer,
            "snapshot": self._snapshot,
            "reseed": self._reseed,
        }
        if changes_members:
            for kind in ("members", "members again", "members once more"):
                self._kinds[kind] = self._change_members

    async def run(self) -> None:
        while True:
            await trio.sleep(self._dice.expovariate(1.0))
            for node in list(self._cluster.nodes.values()):
                if self._dice.random() < 0.5:
                    await self.start(node)
            kind = self._dice.choice(list(self._kinds))
            node = self._dice.choice(list(self._cluster.nodes.values()))
            log.info("%s: %s, which is %s", kind, node.name, "up" if node.is_up else "down")
            self.faults[kind] += 1
            await self._kinds[kind](node)

    # ---- nodes

    async def start(self, node: Node) -> None:
        """If it is down."""
        if node.is_up:
            return
        self._end_acts(node)
        await trio.testing.wait_all_tasks_blocked()
        try:
            await self._cluster.start(node.name)
        except Exception as error:
            self.broken.append(f"{node.name} does not start: {error!r}")

    async def crash(self, node: Node) -> None:
        self._end_acts(node)
        await self._cluster.crash(node.name)

    async def _wipe_state(self, node: Node) -> None:
        """It is a view: the log has it all."""
        await self.crash(node)
        shutil.rmtree(node.directory / "state", ignore_errors=True)

    # ---- the network

    async def _isolate(self, node: Node) -> None:
        self._cluster.network.heal()
        self._cluster.network.isolate(node.name, list(self._cluster.nodes))

    async def _cut_one_way(self, node: Node) -> None:
        others = [name for name in self._cluster.nodes if name != node.name]
        self._cluster.network.cut.update((node.name, other) for other in others)

    async def _heal(self, node: Node) -> None:
        del node
        self._cluster.network.heal()

    # ---- operators, who wait for an answer while other things happen

    async def _transfer(self, node: Node) -> None:
        target = self._dice.choice([*self._cluster.nodes, None])

        async def act() -> None:
            await node.driver.transfer_leadership(target, timeout=2)

        self._begin(node, act)

    async def _snapshot(self, node: Node) -> None:
        async def act() -> None:
            await node.driver.take_snapshot()

        self._begin(node, act)

    async def _reseed(self, node: Node) -> None:
        async def act() -> None:
            await node.driver.reseed()
            self.faults["state taken over"] += 1

        self._begin(node, act)

    async def _change_members(self, node: Node) -> None:
        if not node.is_up:
            return
        change = self._choose(node.driver.raft.server.configuration)

        async def act() -> None:
            report = await node.driver.change_members(change, dry_run=False, force=False, timeout=3)
            if report.index is None:
                return
            self.faults[_KINDS[type(change)]] += 1
            if isinstance(change, AddMember):
                self._nursery.start_soon(self._cluster.join, change.name, report.index)

        log.info("%s", change)
        self._begin(node, act)

    def _choose(self, members: Configuration) -> Change:
        """Something that makes sense, as far as one can see from there."""
        learners = [name for name in members.learners if name in self._cluster.nodes]
        if learners and self._dice.random() < 0.7:
            return PromoteMember(self._dice.choice(learners))
        removable = list(members.learners)
        if len(members.voters) > FEWEST:
            removable += members.voters
        if removable and (self._born == MOST or self._dice.random() < 0.5):
            return RemoveMember(self._dice.choice(removable))
        if self._born == MOST:
            return PromoteMember(self._dice.choice(members.members or ("nobody",)))
        self._born += 1
        name = f"n{self._born}"
        return AddMember(name, f"tcp://{name}.test:1", voter=self._dice.random() < 0.3)

    def _begin(self, node: Node, act: Callable[[], Awaitable[None]]) -> None:
        if node.is_up:
            self._nursery.start_soon(self._act, node, act)

    async def _act(self, node: Node, act: Callable[[], Awaitable[None]]) -> None:
        """It ends with the node, as its administrators' connections do."""
        with trio.CancelScope() as scope:
            self._acts.setdefault(node.name, []).append(scope)
            try:
                await act()
            except CallFailed as error:
                log.info("%s says: %s", node.name, error)
            except Exception as error:
                self.broken.append(f"{node.name} fails at an operator's call: {error!r}")

    def _end_acts(self, node: Node) -> None:
        for scope in self._acts.pop(node.name, []):
            scope.cancel()
