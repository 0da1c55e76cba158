"""Clients that work on few keys through random nodes, and write down what they did and saw.

Every value is written once, so that a read says which write it saw.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.history import Kind, Operation, Recorder
from tests.linearizability import check
from tests.system.client import Client, NoConnection
from tests.system.cluster import Cluster
from tests.system.node import Node
from tests.system.waiting import wait_until

OPERATION_TIMEOUT_MS = 1_000
ANSWER_TIMEOUT_S = 1.0
"""Beyond the call's own timeout; a stopped process costs a client this long."""
MIXED: Sequence[Kind] = ("get", "get", "get", "put", "put", "put", "cas", "cas", "delete")
WRITES: Sequence[Kind] = ("put",)


class Load:
    """`clients` threads that work from `with` to the end of the block."""

    def __init__(
        self,
        nodes: Sequence[Node],
        *,
        clients: int = 10,
        keys: int = 4,
        kinds: Sequence[Kind] = MIXED,
        pause_s: float = 0.02,
        recorder: Recorder | None = None,
        seed: int = 0,
        prefix: str = "",
    ) -> None:
        """`nodes` may change meanwhile: where clients go, at least one at any time.
        `keys`: how many, shared by all; 0: every operation has a key of its own.

        `pause_s`: a client's longest rest between two operations, so that daemons get time.
        """
        self.recorder = recorder or Recorder()
        self._nodes = nodes
        self._prefix = prefix
        self._keys = [f"{prefix}key{number}" for number in range(keys)]
        self._kinds = kinds
        self._pause_s = pause_s
        self._seed = seed
        self._done = threading.Event()
        self._errors: list[Exception] = []
        self._acknowledged = 0
        self._threads = [
            threading.Thread(target=self._run, args=(seed * 1000 + number,), name=f"client{number}")
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        if error is None and self._errors:
            raise self._errors[0]

    def wait_for_acknowledged(self, more: int) -> None:
        """Until `more` further operations were done, so that faults hit a working cluster."""
        goal = self._acknowledged + more

        def reached() -> bool:
            if self._errors:
                raise self._errors[0]
            return self._acknowledged >= goal

        wait_until(reached, f"{more} more operations are done")

    def _run(self, process: int) -> None:
        dice = random.Random(process)
        connections: dict[str, Client] = {}
        believed: dict[str, str | None] = {}
        try:
            number = 0
            while not self._done.wait(dice.random() * self._pause_s):
                number += 1
                own = f"{self._prefix}{process}.{number}"
                key = dice.choice(self._keys) if self._keys else own
                plan = self._plan(process, number, key, believed.get(key), dice)
                node = dice.choice(self._nodes)
                client = _connected(connections, node)
                if client is None:
                    continue
                finished = client.perform(plan, OPERATION_TIMEOUT_MS)
                self.recorder.add(finished)
                if finished.outcome in {"ok", "mismatch"}:
                    self._acknowledged += 1
                    seen = finished.operation == "get" or finished.outcome == "mismatch"
                    believed[key] = finished.result if seen else finished.value
                else:
                    connections.pop(node.name).close()
        except Exception as error:  # the test's own thread raises it
            self._errors.append(error)
        finally:
            for client in connections.values():
                client.close()

    def _plan(
        self, process: int, number: int, key: str, believed: str | None, dice: random.Random
    ) -> Operation:
        kind = dice.choice(self._kinds)
        value = f"{process}.{number}" if kind in {"put", "cas"} else None
        expected = believed if kind == "cas" else None
        return Operation(process, 0, 0, kind, key, value, expected)


def _connected(connections: dict[str, Client], node: Node) -> Client | None:
    """The connection to `node`, an old or a new one; None if there is none to be had."""
    if node.name not in connections:
        try:
            connections[node.name] = node.client(ANSWER_TIMEOUT_S)
        except NoConnection:
            return None
    return connections[node.name]


def assert_linearizable(operations: Sequence[Operation]) -> None:
    """Fails with the story of the first thing that cannot be."""
    illegal = check(operations)
    assert illegal is None, illegal.explanation if illegal else ""


def read_back(node: Node, keys: Sequence[str], recorder: Recorder) -> dict[str, str | None]:
    """Linearizable reads at `node` as further operations of the history, one per key."""
    values = {}
    for key in keys:

        def done(key: str = key) -> Operation | None:
            try:
                with node.client() as client:
                    operation = client.perform(Operation(-1, 0, 0, "get", key), 2000)
            except NoConnection:
                return None
            return operation if operation.outcome == "ok" else None

        operation = wait_until(done, f"{node.name} reads {key}")
        assert operation is not None
        recorder.add(operation)
        values[key] = operation.result
    return values


def assert_all_there(cluster: Cluster, operations: Sequence[Operation]) -> None:
    """For puts that had a key each: what was acknowledged is on every node, what failed on none.

    And all nodes have the same, down to the revisions. Waits until they have converged.
    """
    cluster.wait_until_converged()
    states = {}
    for node in cluster:
        with node.client() as client:
            states[node.name] = client.items(stale=True)
    first = states[next(iter(states))]
    for name, state in states.items():
        assert state == first, f"{name} has another state than {next(iter(states))}"
    for each in operations:
        value = first.get(each.key, (None, 0))[0]
        if each.outcome == "ok":
            assert value == each.value, f"lost: {each}"
        elif each.outcome == "failed":
            assert value is None, f"said to have failed, but was done: {each}"


def assert_same_state(cluster: Cluster) -> None:
    """Every node has the same keys, values and revisions."""
    assert_all_there(cluster, [])


def summary(operations: Sequence[Operation]) -> str:
    """How many operations came to which end, on one line."""
    counted = Counter(each.outcome for each in operations)
    return f"{len(operations)} operations: " + ", ".join(
        f"{number} {outcome}" for outcome, number in counted.most_common()
    )
