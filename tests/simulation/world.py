"""One run: the cluster, its time, and how it goes: first with faults, then without, then judged."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from random import Random

import msgspec

from raftd.raft.configuration import Configuration
from raftd.raft.state import Role
from raftd.storage.disk import Disk
from tests.history import Operation
from tests.linearizability import Undecided, check
from tests.simulation.checker import Checker
from tests.simulation.clients import Client
from tests.simulation.events import Events
from tests.simulation.files import DiskFaults, SimulatedFiles
from tests.simulation.law import Law
from tests.simulation.lives import Lives
from tests.simulation.machine import Machine
from tests.simulation.members import Members
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import Network
from tests.simulation.node import Node
from tests.simulation.outcomes import Outcomes
from tests.simulation.plan import Plan
from tests.simulation.process import Process
from tests.simulation.state_trace import StateTrace
from tests.simulation.trace import Trace
from tests.simulation.violation import Violation


class Result(msgspec.Struct):
    """How a run went. `property` and `text` are empty if all was well."""

    seed: int
    property: str = ""
    text: str = ""
    virtual_seconds: float = 0.0
    events: int = 0
    messages: int = 0
    operations: int = 0
    answered: int = 0
    committed: int = 0
    elections: int = 0
    digest: str = ""
    faults: dict[str, int] = {}


class World:
    """`nodes` by name. `history` is what the clients saw."""

    def __init__(
        self, plan: Plan, *, echo: bool = False, state_trace: StateTrace | None = None
    ) -> None:
        self.plan = plan
        self.events = Events()
        self.state_trace = state_trace
        if state_trace is not None:
            state_trace.events = self.events
        self.trace = Trace(echo=echo)
        self.random = Random(f"world {plan.seed}")
        addresses = {name: f"tcp://{name}:1" for name in plan.names}
        self.initial = Configuration(plan.names, addresses=addresses)
        self.nodes = {name: Node(name, str(plan.seed), self.initial) for name in plan.names}
        self.faults: Counter[str] = Counter()
        self.checker = Checker(dict(self.nodes), self.count)
        self.law = Law(self.checker)
        self.outcomes = Outcomes(self.checker)
        self.network = Network(self)
        self.history: list[Operation] = []
        self.clients = [Client(self, number) for number in range(plan.clients)]
        self.lives = Lives(self)
        self.members = Members(self)
        self.nemesis = Nemesis(self)
        self.healed = False

    def count(self, fault: str) -> None:
        self.faults[fault] += 1

    def say(self, text: str) -> None:
        self.trace.say(self.events.now, text)

    # ---- the run

    def run(self) -> Result:
        """Never raises for what the nodes do wrong; it stands in the result, and in the trace."""
        result = Result(self.plan.seed)
        try:
            self._run()
        except Exception as error:
            result.property, result.text = _explain(error)
            self.say(f"VIOLATION of {result.property}: {result.text}")
        result.virtual_seconds = self.events.now
        result.events = self.events.handled
        result.messages = self.network.messages
        result.operations = len(self.history)
        result.answered = sum(client.answered for client in self.clients)
        result.committed = len(self.checker.committed)
        result.elections = self.checker.elections
        result.faults = dict(self.faults)
        result.digest = self.trace.digest()
        return result

    def _run(self) -> None:
        for end in self._phases():
            self.events.run_until(end)
        self._judge()

    def _phases(self) -> Iterator[float]:
        """The whole run, but for time itself: yields the times until when to let it go on."""
        plan = self.plan
        for node in self.nodes.values():
            node.disk_faults.short = plan.short_operations
            self.events.after(self.random.uniform(0.0, 0.1), self.lives.start, node)
        for client in self.clients:
            client.start()
        self.nemesis.start()
        yield plan.duration
        self._heal()
        yield self.events.now + 3 * plan.settings.election_timeout[1]
        for client in self.clients:
            client.stopped = True
        yield from self._settle()

    def _heal(self) -> None:
        """No fault from here on; what they broke is repaired by whoever runs the cluster."""
        self.say("---- the faults stop")
        self.healed = True
        self.network.heal()
        for node in self.nodes.values():
            short = node.disk_faults.short
            node.disk_faults = faults = DiskFaults()
            faults.short = short
            node.slow_disk = 0.0
            node.clock.set_rate(self.events.now, 1.0)
            process = node.process
            if process is None:
                self.lives.start(node)
            else:
                process.files.faults = faults
                process.enter(process.clock_changed)
                if process.paused:
                    process.resume()

    def _settle(self) -> Iterator[float]:
        """Liveness: everybody catches up, writes and reads work, within the stated time."""
        end = self.events.now + self.plan.liveness
        probe = Client(self, len(self.clients))
        self.clients.append(probe)
        probe.start()
        while self.events.now < end and not (probe.answered >= 3 and probe.stopped):
            yield self.events.now + 0.5
            probe.stopped = probe.answered >= 3
        yield self.events.now + 0.1
        while self.events.now < end and self._unsettled():
            yield self.events.now + 0.25
        problem = self._unsettled()
        if not probe.stopped:
            problem = f"clients get no answers; {problem}"
        if problem:
            raise Violation(
                "liveness", f"{self.plan.liveness:.0f} s after the last fault: {problem}"
            )

    def _unsettled(self) -> str:
        """What is still missing; empty if nothing is."""
        members = self.members.of_the_leader()
        if members is not None and (members.is_joint or members.promotions):
            return f"the members are still being changed: {members}"
        live = [node for node in self.members.insiders() if not node.excluded]
        down = [node.name for node in live if node.process is None]
        if down:
            return f"{', '.join(down)} does not start"
        processes = [node.process for node in live if node.process is not None]
        leaders = [each for each in processes if each.raft.server.role is Role.LEADER]
        if len(leaders) != 1:
            return f"{len(leaders)} leaders; {', '.join(map(_describe, processes))}"
        leader = leaders[0].raft.server
        if leader.transfer is not None:
            return f"{leader.name} hands leadership over and never ends it"
        for each in processes:
            if (
                each.raft.server.current_term != leader.current_term
                or each.applier.applied_index != leader.log.last_index
                or each.raft.server.log.last_index != leader.log.last_index
            ):
                return ", ".join(map(_describe, processes))
        return ""

    def _judge(self) -> None:
        images = {
            node.process.machine.image()
            for node in self.members.insiders()
            if node.process is not None and not node.excluded
        }
        if len(images) != 1:
            raise Violation("state machine safety", "the nodes end in different states")
        for client in self.clients:
            client.end()
        try:
            illegal = check(self.history)
        except Undecided as error:
            self.say(f"linearizability was not decided: {error}")
            self.count("undecided history")
            return
        if illegal is not None:
            raise Violation("linearizability", f"key {illegal.key}: {illegal.explanation}")

    def make_process(
        self, node: Node, disk: Disk, files: SimulatedFiles, machine: Machine
    ) -> Process:
        """A new life of the node; `Process.begin` sets it going."""
        return Process(self, node, disk, files, machine)

    # ---- for clients

    def some_process(self, random: Random, last: str) -> Process | None:
        """One that runs, for a client: mostly the one it asked last, at times one that leads
        although another does."""
        up = [
            node.process
            for node in self.nodes.values()
            if node.process is not None and not node.excluded
        ]
        leaders = [each for each in up if each.raft.server.role is Role.LEADER]
        if len(leaders) > 1 and random.random() < 0.5:
            return min(leaders, key=lambda each: each.raft.server.current_term)
        if last and random.random() < 0.6:
            for process in up:
                if process.name == last:
                    return process
        return random.choice(up) if up else None


def _explain(error: Exception) -> tuple[str, str]:
    """Which property it breaks, and how."""
    if isinstance(error, Violation):
        return error.name, error.text
    if isinstance(error, AssertionError):
        where = "".join(traceback.format_tb(error.__traceback__, limit=-3))
        return "assertion in raftd", f"{error}\n{where}"
    where = "".join(traceback.format_tb(error.__traceback__, limit=-6))
    return "unexpected exception", f"{error!r}\n{where}"


def _describe(process: Process) -> str:
    server = process.raft.server
    return (
        f"{server.name} is {server.role.value} of term {server.current_term} with entries up to"
        f" {server.log.last_index}, applied up to {process.applier.applied_index}"
    )
