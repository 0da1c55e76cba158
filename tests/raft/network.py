"""A deterministic network of `Raft`s in memory: nothing moves unless a test says so.

Messages wait on `wire` until they are delivered, lost or doubled; what a node wants to save can be
held back (`Node.held`), and a crash loses it. Every step ends with the properties of the paper's
Figure 3 (`Invariants`), and every message that leaves is checked against the disk of its sender.

A request is answered at most once. Its sender learns how it ended: by the response, or, when the
last copy of either is gone, by `Raft.unanswered`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import TypeVar

import msgspec

from raftd.raft.changes import Change
from raftd.raft.configuration import Configuration
from raftd.raft.invariants import Invariants
from raftd.raft.log import Entry
from raftd.raft.messages import AppendEntriesRequest, InstallSnapshotRequest, Message
from raftd.raft.state import HardState, Role, Settings
from raftd.raft.update import Note, Outgoing
from tests.raft.durability_law import is_request
from tests.raft.durable import Durable
from tests.raft.node import Node
from tests.raft.packet import Call, Packet

M = TypeVar("M", bound=Message)

LIFE = 10**9
"""What separates the request ids of two lives of one node, where its peers see them."""


class Network:
    """`members`: the names of the voters, or a whole configuration.

    `logs`: what a node finds on its disk when it first starts, as entries or as terms of commands;
    its current term is then that of the last of them, or what `terms` says.
    """

    def __init__(
        self,
        members: Iterable[str] | Configuration,
        *,
        settings: Settings | None = None,
        seed: int = 0,
        logs: Mapping[str, Sequence[int | Entry]] | None = None,
        terms: Mapping[str, int] | None = None,
    ) -> None:
        configuration = (
            members if isinstance(members, Configuration) else Configuration(tuple(members))
        )
        self.settings = settings or Settings(snapshot_chunk_bytes=100)
        self.seed = seed
        self.now = 0.0
        self.wire: list[Packet] = []
        self.blocked: set[tuple[str, str]] = set()
        self.copies: dict[Call, int] = {}
        """of each request that has not ended: how many copies, of it or its response, are left"""
        self.leading: dict[int, str] = {}
        """term -> the one server that may send entries and snapshots in it"""
        self.invariants = Invariants()
        self.checking = True
        """False where a test breaks what must never break, a disk for instance."""
        self.on_note: Callable[[Note], None] = lambda note: None
        self.nodes = {
            name: Node(name, Durable(configuration), self._post, self._hear)
            for name in configuration.members
        }
        for name, log in (logs or {}).items():
            self[name].durable.fill(log)
        for name, term in (terms or {}).items():
            self[name].durable.hard_state = HardState(term)
        for name in self.nodes:
            self.start(name)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    @property
    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.raft is not None]

    @property
    def leaders(self) -> list[str]:
        return [node.name for node in self.up if node.server.role is Role.LEADER]

    # ---- lives

    def start(self, name: str, *, keep_state: bool = True, tail_bytes: int = 1 << 30) -> None:
        """A new life; see Node.start. `tail_bytes`: what of the log its memory takes."""
        node = self[name]
        random = Random(f"{self.seed} {name} {node.life}")
        node.start(self.now, self.settings, random, keep_state=keep_state, tail_bytes=tail_bytes)
        self.settle(node.name)

    def crash(self, name: str) -> None:
        """What waits to be saved is lost, and with it the answers that wait for it."""
        node = self[name]
        lost = [Call(sender, name, number) for sender, number in node.owed.elements()]
        node.crash()
        for call in [call for call in self.copies if call.sender == name]:
            del self.copies[call]
        for call in lost:
            self._gone(call)

    def join(self, name: str, membership_index: int) -> None:
        """A new node, which knows nothing but its name and the entry that admitted it. If the name
        was somebody's before, that one is gone for good."""
        old = self.nodes.get(name)
        if old is not None:
            self.crash(name)
            self.lose_all(only=lambda packet: name in {packet.sender, packet.to})
        node = Node(name, Durable(Configuration(())), self._post, self._hear)
        node.membership_index = membership_index
        node.life = old.life if old is not None else 0
        self.nodes[name] = node
        self.start(name)

    def restart(self, name: str, *, keep_state: bool = True) -> None:
        self.crash(name)
        self.start(name, keep_state=keep_state)

    # ---- calls on one node

    def tick(self, name: str) -> None:
        """Its deadline passes."""
        node = self[name]
        self.now = max(self.now, node.deadline)
        node.running.timed_out(self.now)
        self.settle(node.name)
        late = "update" in node.held
        assert late or node.deadline > self.now, f"{name} would be called for ever"

    def propose(self, name: str, *payloads: bytes) -> tuple[int, int]:
        where = self[name].running.propose(self.now, payloads)
        self.settle(name)
        return where

    def read(self, name: str) -> int:
        ticket = self[name].running.read_index(self.now)
        self.settle(name)
        return ticket

    def transfer(self, name: str, target: str | None = None, *, resign: bool = False) -> str:
        chosen = self[name].running.transfer_leadership(self.now, target, resign=resign)
        self.settle(name)
        return chosen

    def change(self, name: str, change: Change) -> tuple[int, int]:
        where = self[name].running.change_membership(self.now, change)
        self.settle(name)
        return where

    def take_snapshot(self, name: str, *, trailing: int = 0) -> None:
        self[name].take_snapshot(self.now, trailing)
        self._checked()

    def save(self, name: str) -> None:
        """One held save is done."""
        self[name].save(self.now)
        self._checked()

    def release(self, name: str) -> None:
        """Nothing is held any more."""
        self[name].held.clear()
        self.settle(name)

    def settle(self, name: str) -> None:
        """Let its updates be worked off, as far as nothing is held."""
        self[name].settle(self.now)
        self._checked()

    # ---- the wire

    def deliver(self, packet: Packet) -> None:
        """It arrives; where there is no way, or nobody, it is lost."""
        self.wire.remove(packet)
        node, call = self.nodes.get(packet.to), packet.call
        if (
            node is None
            or node.raft is None
            or (packet.sender, packet.to) in self.blocked
            or not self._admits(node, packet)
        ):
            self._gone(call)
        elif is_request(packet.message):
            node.owed[call.sender, call.id] += 1
            self._receive(packet, call.id)
        elif call.id // LIFE == node.life - 1:
            self.copies.pop(call, None)
            self._receive(packet, call.id % LIFE)

    def lose(self, packet: Packet) -> None:
        self.wire.remove(packet)
        self._gone(packet.call)

    def give_up(self, packet: Packet) -> None:
        """Its asker waits no longer; what is under way may still come, late."""
        if self.copies.pop(packet.call, None) is not None:
            self[packet.call.sender].running.unanswered(
                self.now, packet.call.to, packet.call.id % LIFE
            )
            self.settle(packet.call.sender)

    def double(self, packet: Packet) -> None:
        """Another copy of it will come later."""
        if packet.call in self.copies:
            self.copies[packet.call] += 1
        self.wire.append(Packet(packet.sender, packet.to, packet.message, packet.call))

    def inject(self, sender: str, to: str, message: Message) -> None:
        """A message arrives that no node of this network has sent; nobody waits for its answer."""
        self.invariants.checks_changes = False
        if is_request(message):
            self[to].owed[sender, message.request_id] += 1
        self[to].running.receive(self.now, sender, message)
        self.settle(to)

    def deliver_all(self, only: Callable[[Packet], bool] = lambda packet: True) -> None:
        """Until nothing that `only` lets through is under way."""
        for packet in self.packets(only):
            self.deliver(packet)

    def deliver_until(self, condition: Callable[[], bool]) -> None:
        """One by one; it has to come true before nothing is left."""
        for packet in self.packets():
            if condition():
                return
            self.deliver(packet)
        assert condition(), "nothing is under way any more, and it has not come true"

    def packets(self, only: Callable[[Packet], bool] = lambda packet: True) -> Iterator[Packet]:
        """The oldest that `only` lets through, again and again, until there is none."""
        for _ in range(5_000):
            packet = next(filter(only, self.wire), None)
            if packet is None:
                return
            yield packet
        raise AssertionError(f"the nodes do not stop talking: {self.wire[:4]}")

    def lose_all(self, only: Callable[[Packet], bool] = lambda packet: True) -> None:
        for packet in [packet for packet in self.wire if only(packet)]:
            self.lose(packet)

    def sent(self, kind: type[M], *, by: str | None = None, to: str | None = None) -> list[M]:
        """What is under way."""
        return [
            packet.message
            for packet in self.wire
            if isinstance(packet.message, kind)
            and by in {None, packet.sender}
            and to in {None, packet.to}
        ]

    def partition(self, *groups: Iterable[str]) -> None:
        """Messages arrive only within a group."""
        sides = {name: str(number) for number, group in enumerate(groups) for name in group}
        self.blocked = {
            (one, other)
            for one in self.nodes
            for other in self.nodes
            if one != other and sides.get(one, one) != sides.get(other, other)
        }

    def heal(self) -> None:
        self.blocked = set()

    def isolate(self, name: str) -> None:
        self.partition([name], [other for other in self.nodes if other != name])

    # ---- more than one step

    def sleep(self, seconds: float) -> None:
        """Time goes by, and nobody looks at the clock."""
        self.now += seconds

    def elect(self, name: str) -> None:
        """After a silence `name` stands for election; all that follows is delivered."""
        self.sleep(self.settings.election_timeout[1])
        self.tick(name)
        self.deliver_all()
        assert name in self.leaders, f"{name} did not win"

    def heartbeat(self, name: str) -> None:
        """The leader's next heartbeat is due; all that follows is delivered."""
        self.sleep(self.settings.heartbeat_interval)
        self[name].running.timed_out(self.now)
        self.settle(name)
        self.deliver_all()

    def run(self, seconds: float, latency: float = 0.001) -> None:
        """Everything happens when it is due; a message takes `latency` seconds."""
        end = self.now + seconds
        while self.now < end:
            due = min((node.deadline for node in self.up), default=end)
            if self.wire and self.now + latency <= max(due, self.now):
                self.now += latency
                for packet in list(self.wire):
                    self.deliver(packet)
                continue
            self.now = max(self.now, min(due, end))
            for node in self.up:
                if node.deadline <= self.now:
                    self.tick(node.name)

    # ---- inside

    def _hear(self, note: Note) -> None:
        self.on_note(note)

    def _post(self, node: Node, out: Outgoing) -> None:
        """A node's message goes on the wire."""
        message = out.message
        if isinstance(message, AppendEntriesRequest | InstallSnapshotRequest):
            leader = self.leading.setdefault(message.term, node.name)
            assert leader == node.name, f"{node.name} leads term {message.term} of {leader}"
        if is_request(message):
            call = Call(node.name, out.to, message.request_id + (node.life - 1) * LIFE)
            assert call not in self.copies, f"{node.name} uses request id {call.id} twice"
            self.copies[call] = 1
        else:
            key = (out.to, message.request_id)
            assert node.owed[key], f"{node.name} answers what nobody asked: {out}"
            node.owed.subtract([key])
            call = Call(out.to, node.name, message.request_id)
        self.wire.append(Packet(node.name, out.to, message, call))

    def _admits(self, node: Node, packet: Packet) -> bool:
        """As raftd.driver.peers does it: who is removed is told so, and an answer counts only from
        the very member that was asked."""
        sender = self.nodes.get(packet.sender)
        if sender is None:
            return True
        since, server = sender.membership_index, node.server
        if not is_request(packet.message):
            return server.counts(sender.name, since)
        if not server.has_removed(sender.name, since) or server.leader == sender.name:
            return True
        sender.told_removed = True
        if sender.raft is not None:
            sender.raft.removed(self.now)
            self.settle(sender.name)
        return False

    def _receive(self, packet: Packet, request_id: int) -> None:
        message = packet.message
        if message.request_id != request_id:
            message = msgspec.structs.replace(message, request_id=request_id)
        self[packet.to].running.receive(self.now, packet.sender, message)
        self.settle(packet.to)

    def _checked(self) -> None:
        if self.checking:
            self.invariants.after_step([node.server for node in self.up])

    def _gone(self, call: Call) -> None:
        """One copy is lost; with the last one the request has ended without an answer."""
        if call not in self.copies:
            return
        self.copies[call] -= 1
        if not self.copies[call]:
            del self.copies[call]
            self[call.sender].running.unanswered(self.now, call.to, call.id % LIFE)
            self.settle(call.sender)
