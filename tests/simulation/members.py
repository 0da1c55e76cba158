"""Members that come and go: a careful operator, the hosts of new members, and what must be true.

The operator asks any node that leads, as `raftctl members` does, and never for what would leave a
majority of voters that nobody can start again. A new host starts when the entry that admits it is
committed; it has a name of its own (names that are used again: tests/raft/simulation.py).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from raftd.raft import invariants_membership as properties
from raftd.raft.changes import (
    AddMember,
    Change,
    ChangeRefused,
    DemoteMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
    SetAddress,
    target,
)
from raftd.raft.configuration import Configuration
from raftd.raft.history import InvariantViolated
from raftd.raft.raft import Busy, NotLeader
from raftd.raft.state import Role
from tests.simulation.node import Node
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

MOST = 9
"""Nodes that a run has at most, with those that were removed."""
POLL = 0.05


class Members:
    """One of a world; idle unless the plan asks for changes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self._pending: list[tuple[int, int, str]] = []
        """(index, term, name) of entries that admit somebody"""
        self._born = len(world.plan.names)
        self._addresses = 1

    # ---- the operator

    def change(self) -> None:
        """Some change that makes sense."""
        leader = self._leader()
        if leader is None:
            return
        members = leader.raft.server.configuration
        if not members.is_joint:
            self._ask(leader, self._choose(members))

    def move(self) -> None:
        """One member, or more, at another address."""
        leader = self._leader()
        if leader is not None:
            self._addresses += 1
            members = leader.raft.server.configuration.members
            name = self._random.choice(members)
            self._ask(leader, SetAddress(name, f"tcp://{name}:{self._addresses}"))

    def _leader(self) -> Process | None:
        """Any that takes itself for it."""
        leaders = [
            node.process
            for node in self._world.nodes.values()
            if node.process is not None
            and not node.process.paused
            and node.process.raft.server.role is Role.LEADER
        ]
        return self._random.choice(leaders) if leaders else None

    def _choose(self, members: Configuration) -> Change:
        name = self._random.choice(members.members)
        kinds = ["promote", "demote", "remove"]
        if self._born < MOST:
            kinds += ["add", "add", "learner", "replace", "replace"]
        newcomer = f"n{self._born + 1}"
        address = f"tcp://{newcomer}:1"
        match self._random.choice(kinds):
            case "add":
                return AddMember(newcomer, address)
            case "learner":
                return AddMember(newcomer, address, voter=False)
            case "replace":
                return ReplaceMember(name, newcomer, address)
            case "promote":
                return PromoteMember(name)
            case "demote":
                return DemoteMember(name)
        return RemoveMember(name)

    def _ask(self, leader: Process, change: Change) -> None:
        def ask() -> None:
            server = leader.raft.server
            if server.configuration.is_joint:
                return
            try:
                new = target(server.configuration, change, server.log.last_index + 1)
                if not self._can_go_on(new):
                    return
                index, term = leader.raft.change_membership(leader.now(), change)
            except (Busy, ChangeRefused, NotLeader):
                return
            moves = isinstance(change, SetAddress)
            self._world.count("reconfiguration" if moves else "membership")
            if isinstance(change, AddMember | ReplaceMember):
                self._born += 1
                name = change.by if isinstance(change, ReplaceMember) else change.name
                self._pending.append((index, term, name))
                self._world.events.after(POLL, self._look)
            leader.kick()

        leader.enter(ask)

    def _can_go_on(self, new: Configuration) -> bool:
        """A majority is left that is not lost for ever."""
        nodes = self._world.nodes
        lost = [name for name in new.voters if name in nodes and nodes[name].excluded]
        return 2 * (len(new.voters) - len(lost)) > len(new.voters) and len(new.voters) <= 5

    # ---- hosts of new members

    def _look(self) -> None:
        """Is it committed? Then the operator has its file, and starts the host."""
        committed = self._world.checker.committed
        for pending in list(self._pending):
            index, term, name = pending
            if index > len(committed):
                continue
            self._pending.remove(pending)
            if committed[index - 1] == term:
                self._start(name, index)
        if self._pending:
            self._world.events.after(POLL, self._look)

    def _start(self, name: str, index: int) -> None:
        world = self._world
        node = Node(name, str(world.plan.seed), Configuration(()))
        node.membership_index = index
        node.disk_faults.short = world.plan.short_operations
        world.nodes[name] = node
        world.checker.meets(node)
        world.say(f"{name} is a new host, admitted by entry {index}")
        delay = 0.0 if world.healed else self._random.expovariate(1.0)
        world.events.after(delay, world.lives.start, node)

    # ---- in the end

    def of_the_leader(self) -> Configuration | None:
        """The members by the one leader of the newest term; None while there is none."""
        leading = [
            (node.process.raft.server.current_term, node.name)
            for node in self._world.nodes.values()
            if node.process is not None and node.process.raft.server.role is Role.LEADER
        ]
        if not leading:
            return None
        process = self._world.nodes[max(leading)[1]].process
        assert process is not None
        return process.raft.server.configuration

    def insiders(self) -> list[Node]:
        """Whoever belongs to the cluster, as far as anybody knows."""
        members = self.of_the_leader() or self._world.initial
        return [node for node in self._world.nodes.values() if node.name in members.members]


class _Known:
    """What raftd.raft.invariants_membership wants to know of the past."""

    def __init__(self, commit_index: int) -> None:
        self.commit_index = commit_index


def check_changed(process: Process, old: int, commit_index: int) -> None:
    """The configurations in its log behind index `old` are new: did they come about in order?"""
    server = process.raft.server
    try:
        for (_, before), (index, after) in pairwise(server.configurations):
            if index > old:
                properties.orderly_change(server, before, index, after)
        properties.one_change_at_a_time(server, _Known(commit_index))  # type: ignore[arg-type]
    except InvariantViolated as violated:
        raise Violation(violated.name, violated.text) from violated


def check_standing(process: Process) -> None:
    """Who must not lead does not try to."""
    try:
        properties.voters_only_campaign(process.raft.server)
        properties.a_leader_that_must_go(process.raft.server)
    except InvariantViolated as violated:
        raise Violation(violated.name, violated.text) from violated
