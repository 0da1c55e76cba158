"""Clients: each does one operation at a time, with a value of its own every time, and writes down
what it saw (tests.history). An operation without an answer is never repeated: what comes next is
a new one."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from raftd.kv.commands import (
    Changed,
    CompareAndSet,
    CompareFailed,
    Delete,
    Get,
    Put,
    decode_items,
    decode_result,
    encode,
)
from tests.history import Kind, Operation, Outcome
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World


class Client:
    """`stopped` ends it after the operation under way."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._number = number
        self._random = Random(f"client {world.plan.seed} {number}")
        self._count = 0
        self._waiting = 0
        self._call = 0.0
        self._floor = 0
        self._node = ""
        self._last_seen: dict[str, str | None] = {}
        self._operation: tuple[Kind, str, str | None, str | None] = ("get", "", None, None)
        self.stopped = False
        self.answered = 0

    def start(self) -> None:
        self._world.events.after(self._random.uniform(0.0, 1.0), self._next)

    def end(self) -> None:
        """The run is over; what is under way has no outcome."""
        self.stopped = True
        self._give_up(self._waiting)

    def _pause(self) -> None:
        if not self.stopped:
            delay = self._random.expovariate(1.0 / self._world.plan.think_time)
            self._world.events.after(delay, self._next)

    def _next(self) -> None:
        world, random = self._world, self._random
        self._count += 1
        self._waiting = self._count
        self._call = world.events.now
        self._floor = world.outcomes.read_floor
        process = self._a_process()
        if process is None:
            self._pause()
            return
        self._node = process.name
        key = f"k{random.randrange(world.plan.keys)}"
        kind: Kind = random.choice(("get", "get", "put", "put", "put", "cas", "cas", "delete"))
        if kind == "delete" and random.random() < 0.5:
            kind = "get"
        value = expected = None
        if kind in {"put", "cas"} and not (kind == "cas" and random.random() < 0.1):
            value = f"{self._number}.{self._count}".ljust(world.plan.value_bytes, "_")
        if kind == "cas":
            expected = self._last_seen.get(key)
        self._operation = kind, key, value, expected
        timeout = world.plan.settings.election_timeout[1] * random.choice((0.1, 0.3, 1.0, 4.0))
        world.events.after(timeout, self._give_up, self._count)
        number = self._count
        if kind == "get":
            process.enter(
                process.serving.read,
                encode(Get(key.encode())),
                lambda data, index: self._read(number, data, index),
            )
            return
        process.enter(
            process.serving.write,
            encode(_command(kind, key, value, expected)),
            lambda outcome, index, result: self._written(number, outcome, index, result),
        )

    def _a_process(self) -> Process | None:
        """Mostly one that is up; the same as last time, or another."""
        return self._world.some_process(self._random, self._node)

    # ---- answers

    def _read(self, number: int, data: bytes | None, index: int) -> None:
        if number != self._waiting:
            return
        if data is None:
            self._record("failed", None)
            return
        if index < self._floor:
            raise Violation(
                "no stale read",
                f"{self._node} answers a read from its state at {index}; a state at {self._floor}"
                " had been seen before the read was asked",
            )
        self._world.outcomes.seen(index)
        items = decode_items(data).items
        value = items[0].value.decode() if items else None
        self._last_seen[self._operation[1]] = value
        self._record("ok", value)

    def _written(self, number: int, outcome: str, index: int, result: bytes) -> None:
        if outcome == "applied":
            self._world.outcomes.acknowledged(index, result)
        if number != self._waiting:
            return
        kind, key, value, _ = self._operation
        if outcome == "unknown":
            self._record("unknown", None)
        elif outcome != "applied":
            self._record("failed", None)
        else:
            answer = decode_result(result)
            if isinstance(answer, CompareFailed):
                found = None if answer.value is None else answer.value.decode()
                self._last_seen[key] = found
                self._record("mismatch", found, answer.revision)
            else:
                assert isinstance(answer, Changed), f"{kind} of {key} was refused: {answer}"
                self._last_seen[key] = value
                self._record("ok", None, answer.revision)

    def _give_up(self, number: int) -> None:
        if number and number == self._waiting:
            self._record("failed" if self._operation[0] == "get" else "unknown", None)

    def _record(self, outcome: Outcome, result: str | None, revision: int | None = None) -> None:
        self._waiting = 0
        kind, key, value, expected = self._operation
        call, now = round(self._call * 1e9), round(self._world.events.now * 1e9)
        operation = Operation(
            self._number,
            call,
            now,
            kind,
            key,
            value,
            expected,
            outcome,
            result,
            self._node,
            revision,
        )
        self._world.history.append(operation)
        if outcome in {"ok", "mismatch"}:
            self.answered += 1
        self._pause()


def _command(
    kind: Kind, key: str, value: str | None, expected: str | None
) -> Put | Delete | CompareAndSet:
    body = None if value is None else value.encode()
    if kind == "put":
        assert body is not None
        return Put(key.encode(), body)
    if kind == "delete":
        return Delete(key.encode())
    wanted = None if expected is None else expected.encode()
    return CompareAndSet(key.encode(), None, wanted, body)
