"""What a node does for its clients, as raftd.driver.writes, reads and transfers: here if it leads,
else through the leader. A command is sent on once at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raftd.raft.raft import Busy, NotLeader, TransferRefused
from raftd.raft.state import Role
from raftd.raft.update import ReadReady
from raftd.state_machine import Command, encode_command
from tests.simulation.applying import Answer

if TYPE_CHECKING:
    from tests.simulation.process import Process

ReadAnswer = Callable[[bytes | None, int], None]
"""The state machine's answer, None if there was none, and the index of the state it is from."""


class Serving:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._raft = process.raft
        self._tickets: dict[int, Callable[[int | None], None]] = {}

    # ---- writes

    def write(self, body: bytes, answer: Answer) -> None:
        """A client of this node."""
        process, server = self._process, self._raft.server
        payload = encode_command(Command(0, process.name, body))
        if server.role is Role.LEADER and server.transfer is None:
            self._propose(payload, answer)
        elif server.leader is not None and server.leader != process.name:
            leader = server.leader
            here = self._here(answer)
            process.world.network.carry(
                process.name, leader, self._forward, leader, payload, here, once=True
            )
        else:
            answer("no-quorum", 0, b"")

    def _forward(self, leader: str, payload: bytes, answer: Answer) -> None:
        """At the leader's end of the wire."""
        node = self._process.world.nodes.get(leader)
        process = node.process if node is not None else None
        if process is not None:
            process.enter(process.serving.forwarded, self._process.name, payload, answer)

    def forwarded(self, source: str, payload: bytes, answer: Answer) -> None:
        process = self._process

        def back(outcome: str, index: int, result: bytes) -> None:
            process.world.network.carry(process.name, source, answer, outcome, index, result)

        server = self._raft.server
        if server.role is Role.LEADER and server.transfer is None:
            self._propose(payload, back)
        else:
            back("no-quorum", 0, b"")

    def _propose(self, payload: bytes, answer: Answer) -> None:
        process = self._process
        try:
            index, term = self._raft.propose(process.now(), [payload])
        except Busy:
            answer("busy", 0, b"")
            return
        process.applier.expect(index, term, answer)
        process.kick()

    def _here(self, answer: Answer) -> Answer:
        """Only this life hears it."""
        return lambda outcome, index, result: self._process.enter(answer, outcome, index, result)

    # ---- reads

    def read(self, query: bytes, answer: ReadAnswer) -> None:
        """A client of this node asks for a linearizable read."""
        process, server = self._process, self._raft.server

        def confirmed(index: int | None) -> None:
            if index is None:
                answer(None, 0)
            else:
                process.applier.when_applied(index, lambda: self._answer(query, answer))

        if server.role is Role.LEADER:
            self._read_index(confirmed)
        elif server.leader is not None and server.leader != process.name:
            leader = server.leader

            def here(index: int | None) -> None:
                process.enter(confirmed, index)

            process.world.network.carry(process.name, leader, self._ask, leader, here)
        else:
            answer(None, 0)

    def _ask(self, leader: str, confirmed: Callable[[int | None], None]) -> None:
        """At the leader's end of the wire."""
        node = self._process.world.nodes.get(leader)
        process = node.process if node is not None else None
        if process is not None:
            process.enter(process.serving.asked, self._process.name, confirmed)

    def asked(self, source: str, confirmed: Callable[[int | None], None]) -> None:
        process = self._process
        self._read_index(
            lambda index: process.world.network.carry(process.name, source, confirmed, index)
        )

    def _read_index(self, confirmed: Callable[[int | None], None]) -> None:
        try:
            ticket = self._raft.read_index(self._process.now())
        except NotLeader:
            confirmed(None)
            return
        self._tickets[ticket] = confirmed
        self._process.kick()

    def ready(self, read: ReadReady) -> None:
        confirmed = self._tickets.pop(read.ticket, None)
        if confirmed is not None:
            confirmed(read.index)

    def _answer(self, query: bytes, answer: ReadAnswer) -> None:
        answer(self._process.machine.read(query), self._process.applier.applied_index)

    # ---- operators

    def transfer(self, target: str | None) -> None:
        """Ask the node, if it leads, to hand leadership over."""
        try:
            self._raft.transfer_leadership(self._process.now(), target)
        except (NotLeader, Busy, TransferRefused):
            return
        self._process.world.count("leadership transfer")
        self._process.kick()
