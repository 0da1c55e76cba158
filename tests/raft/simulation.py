"""A cluster that everything happens to, decided by one seed: the same seed, the same run.

    python -m tests.raft.simulation FIRST LAST [STEPS]     runs those seeds, prints what fails

Faults: messages lost, doubled, reordered, given up and late; one-way cuts and partitions; crashes
that lose what was not saved, or half of it; state machines built again; slow disks. What clients
do: proposals, reads, transfers; snapshots at any time. After every step the properties of Figure 3
hold; a read sees everything acknowledged before it was asked; and when the faults stop, the
cluster leads, and everybody has everything, within `LIVENESS` virtual seconds.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from random import Random

from raftd.raft.changes import (
    AddMember,
    Change,
    ChangeRefused,
    DemoteMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
    target,
)
from raftd.raft.configuration import Configuration
from raftd.raft.raft import Busy, NotLeader, TransferRefused
from raftd.raft.state import Settings
from tests.raft.network import Network
from tests.raft.node import Node

LIVENESS = 30.0
NAMES = ("n1", "n2", "n3", "n4", "n5", "n6", "n7")
SETTINGS = Settings(
    heartbeat_interval=0.2,
    max_append_bytes=200,
    max_in_flight=3,
    max_uncommitted_bytes=1000,
    tail_bytes=300,
    snapshot_chunk_bytes=150,
)


class Simulation:
    """`nodes`: how many; learners and joint configurations come in by `configuration`."""

    def __init__(self, seed: int, configuration: Configuration) -> None:
        self.random = Random(seed)
        self.network = Network(configuration, settings=SETTINGS, seed=seed)
        self.acknowledged: dict[int, bytes] = {}
        """index -> payload, of what a client was told is done"""
        self.proposed: dict[tuple[str, int, int, int], bytes] = {}
        """(node, its life, index, term) -> payload"""
        self.asked: dict[tuple[str, int, int], int] = {}
        """(node, its life, ticket) -> what the read must see"""
        self.reads_answered = 0
        self.joining: dict[tuple[int, int], str] = {}
        """(index, term) of the entry that admits -> who starts once that is committed"""
        self.lost: set[str] = set()
        """Members whose disk is gone for good."""
        self.changes = 0
        actions: list[tuple[float, Callable[[], None]]] = [
            (200, self.deliver),
            (3, self.lose),
            (4, self.double),
            (3, self.give_up),
            (25, self.pass_time),
            (12, self.propose),
            (8, self.read),
            (1, self.transfer),
            (5, self.change),
            (0.2, self.lose_a_disk),
            (3, self.take_snapshot),
            (2, self.crash),
            (8, self.restart),
            (1, self.cut),
            (3, self.heal),
            (3, self.hold),
            (6, self.release),
            (8, self.save_one),
        ]
        # some runs are calm and get far, in others hardly anybody stays up
        trouble = self.random.choice((1, 1, 4))
        faults = {self.lose, self.crash, self.cut, self.transfer}
        self.weights = [weight * (trouble if act in faults else 1) for weight, act in actions]
        self.actions = [action for _, action in actions]

    def run(self, steps: int) -> None:
        for action in self.random.choices(self.actions, self.weights, k=steps):
            action()
            self.look()
        self.recover()

    def look(self) -> None:
        """What clients have been told by now."""
        for node in self.network.up:
            for ticket, index in node.reads.items():
                floor = self.asked.pop((node.name, node.life, ticket))
                if index is not None:
                    self.reads_answered += 1
                    assert index >= floor, (
                        f"{node.name} reads at {index}; {floor} was done before it was asked"
                    )
            node.reads.clear()
        for (name, life, index, term), payload in list(self.proposed.items()):
            node = self.network[name]
            if node.raft is None or node.life != life:
                del self.proposed[name, life, index, term]
            elif index <= len(node.applied):
                if node.applied[index - 1].term == term:
                    self.acknowledged[index] = payload
                del self.proposed[name, life, index, term]

        for (index, term), name in list(self.joining.items()):
            for node in self.network.up:
                if index <= len(node.applied):
                    if node.applied[index - 1].term == term:
                        self.network.join(name, index)
                        self.lost.discard(name)
                    del self.joining[index, term]
                    break

    def recover(self) -> None:
        """The faults stop."""
        network = self.network
        network.heal()
        for node in list(network.nodes.values()):
            node.held.clear()
            if node.name in self.lost:
                continue
            if node.raft is None:
                network.start(node.name)
            else:
                network.release(node.name)
        end = network.now + LIVENESS
        while network.now < end and not self.is_whole():
            network.run(0.5)
            self.look()
        assert self.is_whole(), (
            f"after {LIVENESS} s: leaders {network.leaders},"
            f" applied {[len(node.applied) for node in network.up]},"
            f" {[str(node.server.role) for node in network.up]}, members {self.members}"
        )
        network.run(10)  # long enough for whoever is removed to ask, and to be told
        self.look()
        for node in network.up:
            if node not in self.insiders:
                assert not node.server.may_campaign, f"{node.name} may still disturb"
        first = self.insiders[0].applied
        for index, payload in self.acknowledged.items():
            assert first[index - 1].record.endswith(payload), f"{index} was acknowledged and lost"
        assert not any(+node.owed for node in network.up), "requests without an answer"

    def is_whole(self) -> bool:
        """One leads its own term, and every member has applied the same."""
        up = self.insiders
        return (
            len(self.network.leaders) == 1
            and not self.members.is_joint
            and len({node.server.current_term for node in up}) == 1
            and all(node.applied == up[0].applied for node in up)
            and all(len(node.applied) == node.server.log.last_index for node in up)
        )

    @property
    def members(self) -> Configuration:
        """What the leader, or else whoever has the longest log, takes for the members."""
        best = max(
            self.network.up,
            key=lambda node: (
                node.server.log.last_term,
                node.server.log.last_index,
                node.name in self.network.leaders,
            ),
        )
        return best.server.configuration

    @property
    def insiders(self) -> list[Node]:
        members = self.members
        return [n for n in self.network.up if members.is_member(n.name, n.membership_index)]

    # ---- what happens

    def a_node(self) -> Node | None:
        return self.random.choice(self.network.up) if self.network.up else None

    def deliver(self) -> None:
        wire = self.network.wire
        if wire:
            # mostly in order, at times anything
            reach = 3 if self.random.random() < 0.9 else len(wire)
            self.network.deliver(wire[self.random.randrange(min(reach, len(wire)))])

    def lose(self) -> None:
        if self.network.wire:
            self.network.lose(self.random.choice(self.network.wire))

    def double(self) -> None:
        if 0 < len(self.network.wire) < 50:
            self.network.double(self.random.choice(self.network.wire))

    def give_up(self) -> None:
        if self.network.wire:
            self.network.give_up(self.random.choice(self.network.wire))

    def pass_time(self) -> None:
        self.network.sleep(self.random.choice((0.001, 0.05, 0.1, 0.1, 0.5)))
        for node in self.network.up:
            if node.deadline <= self.network.now:
                self.network.tick(node.name)

    def propose(self) -> None:
        network = self.network
        for name in network.leaders:
            payloads = [
                b"%d" % self.random.randrange(10**6) for _ in range(self.random.randrange(1, 4))
            ]
            try:
                first, term = network[name].running.propose(network.now, payloads)
            except (NotLeader, Busy):
                continue
            for offset, payload in enumerate(payloads):
                self.proposed[name, network[name].life, first + offset, term] = payload
            network.settle(name)

    def read(self) -> None:
        network = self.network
        commits = network.invariants.history.commits
        for name in network.leaders:
            floor = max([commits[-1][0] if commits else 0, *self.acknowledged])
            ticket = network[name].running.read_index(network.now)
            self.asked[name, network[name].life, ticket] = floor
            network.settle(name)

    def transfer(self) -> None:
        for name in self.network.leaders:
            target = self.random.choice([None, *self.network.nodes])
            try:
                self.network.transfer(name, target, resign=self.random.random() < 0.3)
            except (Busy, TransferRefused):
                continue

    def change(self) -> None:
        """By a careful operator: enough of those who are not lost stay voters."""
        for name in self.network.leaders:
            server = self.network[name].server
            if server.configuration.is_joint:
                continue
            index = server.log.last_index + 1
            change = self.a_change(server.configuration)
            try:
                new = target(server.configuration, change, index)
                voters = set(new.voters)
                if 2 * len(voters - self.lost) <= len(voters):
                    continue
                where = self.network.change(name, change)
            except (Busy, ChangeRefused, NotLeader):
                continue
            self.changes += 1
            for admitted in set(new.members) - set(server.configurations[-2][1].members):
                self.joining[where] = admitted

    def a_change(self, members: Configuration) -> Change:
        name = self.random.choice(members.members)
        newcomer = self.random.choice(NAMES)
        if len(members.voters) > 4 and self.random.random() < 0.5:
            return RemoveMember(self.random.choice(members.voters))
        return self.random.choice(
            (
                AddMember(newcomer, newcomer),
                AddMember(newcomer, newcomer, voter=False),
                PromoteMember(name),
                DemoteMember(name),
                RemoveMember(name),
                ReplaceMember(name, newcomer, newcomer),
            )
        )

    def lose_a_disk(self) -> None:
        """For good: its name can come back only as another member."""
        node = self.a_node()
        if node is None or self.lost:
            return
        for other in self.network.nodes.values():
            for _, members in other.durable.recovered().configurations or ():
                if not _survives(members, node.name):
                    return
            if not _survives(other.durable.snapshot.configuration, node.name):
                return
            if other.raft and not all(
                _survives(members, node.name) for _, members in other.server.configurations
            ):
                return
        self.network.crash(node.name)
        self.lost.add(node.name)

    def take_snapshot(self) -> None:
        if node := self.a_node():
            self.network.take_snapshot(node.name, trailing=self.random.choice((0, 0, 3)))

    def crash(self) -> None:
        if node := self.a_node():
            if node.waiting:
                node.save_partly(self.random.randrange(len(node.waiting[0].entries) + 1))
            self.network.crash(node.name)

    def restart(self) -> None:
        down = [
            node
            for node in self.network.nodes.values()
            if node.raft is None and node.name not in self.lost
        ]
        if down:
            self.network.start(
                self.random.choice(down).name,
                keep_state=self.random.random() < 0.7,
                tail_bytes=self.random.choice((0, 100, SETTINGS.tail_bytes)),
            )

    def cut(self) -> None:
        names = list(self.network.nodes)
        self.random.shuffle(names)
        kind = self.random.choice(("halves", "one way", "the leader"))
        if kind == "the leader":
            names.sort(key=lambda name: name not in self.network.leaders)
            self.network.partition(names[:1], names[1:])
        elif kind == "halves":
            middle = self.random.randrange(1, len(names))
            self.network.partition(names[:middle], names[middle:])
        else:
            self.network.blocked = {(names[0], other) for other in names[1:]}

    def heal(self) -> None:
        self.network.heal()

    def hold(self) -> None:
        if node := self.a_node():
            node.held.add(self.random.choice(("save", "read", "write", "update")))

    def release(self) -> None:
        if node := self.a_node():
            self.network.release(node.name)

    def save_one(self) -> None:
        waiting = [node for node in self.network.up if node.waiting]
        if waiting:
            self.network.save(self.random.choice(waiting).name)


def _survives(members: Configuration, name: str) -> bool:
    """A majority of each half is left without that one."""
    halves = (members.voters, members.outgoing_voters)
    return all(2 * len(set(half) - {name}) > len(half) for half in halves if half)


def configuration_for(seed: int) -> Configuration:
    """Three voters, or five, and at times a learner or a joint configuration."""
    three, five = ("n1", "n2", "n3"), ("n1", "n2", "n3", "n4", "n5")
    return (
        Configuration(three),
        Configuration(five),
        Configuration(three, learners=("n4",)),
        Configuration(three, outgoing_voters=("n1", "n4", "n5")),
        Configuration(three),
        Configuration(five),
    )[seed % 6]


def run_seed(seed: int, steps: int = 500) -> Simulation:
    simulation = Simulation(seed, configuration_for(seed))
    simulation.run(steps)
    return simulation


def main(first: int, last: int, steps: int = 1000) -> None:
    failed, reads, done = [], 0, 0
    for seed in range(first, last):
        try:
            simulation = run_seed(seed, steps)
        except Exception:
            failed.append(seed)
            print(f"seed {seed}:", traceback.format_exc(limit=-3))
        else:
            reads += simulation.reads_answered
            done += len(simulation.acknowledged)
    print(f"{last - first} seeds, {done} writes, {reads} reads; failed: {failed}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
