"""Messages between nodes: one request and its answer, as raftd.transport carries them, and all that
may happen to them on the way.

A request ends for its sender by the answer, or by being given up after some time. A life of a
process hears no answers to another life's requests: the connection is gone. Requests of an earlier
life may still arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raftd.raft.messages import InstallSnapshotRequest, Message, Request, Response

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

REFUSED_QUICKLY = 0.5
"""Share of requests to a node that is down whose sender learns of it at once."""


class Call:
    """One request under way."""

    __slots__ = ("done", "known_as", "message", "sender", "to")

    def __init__(self, sender: Process, to: str, message: Request) -> None:
        self.sender = sender
        self.to = to
        self.message = message
        self.known_as = sender.peers.id_of(to)
        self.done = False


class Network:
    """`cut`: (from, to) pairs where nothing gets through. `slow`: nodes whose links are slow."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._events = world.events
        self._random = world.random
        plan = world.plan
        self._latency = plan.latency
        self.drop = plan.rates.get("drop", 0.0)
        self.duplicate = plan.rates.get("duplicate", 0.0)
        self.delay = plan.rates.get("delay", 0.0)
        self._long_delays = plan.long_delays
        self._late_answers = plan.late_answers
        self._timeout = plan.settings.election_timeout[1]
        self.cut: set[tuple[str, str]] = set()
        self.slow: set[str] = set()
        self.messages = 0

    def heal(self) -> None:
        self.cut.clear()
        self.slow.clear()
        self.drop = self.duplicate = self.delay = 0.0

    # ---- the algorithm's messages

    def request(self, sender: Process, to: str, message: Request) -> None:
        call = Call(sender, to, message)
        timeout = self._timeout
        if isinstance(message, InstallSnapshotRequest):
            timeout *= 10
        self._events.after(timeout / sender.node.clock.rate, self._give_up, call)
        self.carry(sender.name, to, self._arrive, call)

    def answer(self, sender: Process, call: Call, message: Response) -> None:
        self.carry(sender.name, call.sender.name, self._answered, call, sender, message)

    def _arrive(self, call: Call) -> None:
        node = self._world.nodes.get(call.to)
        process = node.process if node is not None else None
        if process is None:
            if self._random.random() < REFUSED_QUICKLY:
                self.carry(call.to, call.sender.name, self._give_up, call)
            return
        process.enter(process.receive_request, call)

    def _answered(self, call: Call, sender: Process, message: Message) -> None:
        if not call.done or self._late_answers:
            call.sender.enter(call.sender.receive_answer, call, sender, message)

    def _give_up(self, call: Call) -> None:
        if not call.done:
            call.sender.enter(call.sender.give_up, call)

    # ---- anything

    def carry(
        self,
        source: str,
        target: str,
        action: Callable[..., object],
        *args: Any,
        once: bool = False,
    ) -> None:
        """Call `action` at the target's end, after a while, maybe never, maybe twice.

        With `once` not twice: a client's command has no protection of its own against that, and
        needs none, since the transport never sends twice."""
        random = self._random.random
        self.messages += 1
        if (source, target) in self.cut:
            return
        if self.drop and random() < self.drop:
            self._world.count("drop")
            return
        self._events.after(self._delay(source, target), self._land, source, target, action, args)
        if self.duplicate and not once and random() < self.duplicate:
            self._world.count("duplicate")
            self._events.after(
                self._delay(source, target), self._land, source, target, action, args
            )

    def _land(
        self, source: str, target: str, action: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        if (source, target) not in self.cut:
            action(*args)

    def _delay(self, source: str, target: str) -> float:
        random = self._random.random
        delay = self._latency * (1.0 + 2.0 * random())
        if self.delay and random() < self.delay:
            self._world.count("delay")
            delay += random() ** self._long_delays * 3 * self._timeout
        if self.slow and (source in self.slow or target in self.slow):
            delay += random() * 0.5 * self._timeout
        return delay
