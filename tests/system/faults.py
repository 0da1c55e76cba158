"""What can happen to a cluster, one fault at a time, each with its end: used by the soak."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

from raftd.exit_status import ExitStatus
from tests.system.client import CallError, NoAnswer, NoConnection
from tests.system.clock import WallClock
from tests.system.cluster import Cluster
from tests.system.network import Network
from tests.system.node import Node
from tests.system.small_disk import fill
from tests.system.tracing import Trace

LONGEST_S = 4.0
"""How long a fault lasts at most: some end before anybody notices, some long after."""


class Faults:
    """`happen` does one at random. Whatever the machine cannot do is left out."""

    def __init__(
        self,
        cluster: Cluster,
        dice: random.Random,
        *,
        network: Network | None,
        clocks: Mapping[str, WallClock],
        small_disks: bool,
        can_trace: bool,
    ) -> None:
        self._cluster = cluster
        self._dice = dice
        self._network = network
        self._clocks = clocks
        self._all: list[Callable[[], str]] = [
            self._kill_leader,
            self._kill_somebody,
            self._kill_a_majority,
            self._kill_all,
            self._pause_leader,
            self._pause_somebody,
            self._terminate_somebody,
            self._restart_all_one_by_one,
            self._transfer,
        ]
        if network is not None:
            self._all += [self._isolate_leader, self._isolate_somebody, self._cut_one_way]
            self._all += [self._cut_some, self._lose_packets]
        if can_trace:
            self._all.append(self._fail_sync)
        if clocks:
            self._all.append(self._jump)
        if small_disks:
            self._all.append(self._fill_disk)

    def happen(self) -> str:
        """One fault from its beginning to its end; says what it was. All nodes run afterwards."""
        return self._dice.choice(self._all)()

    def _last(self) -> None:
        time.sleep(self._dice.random() ** 2 * LONGEST_S)

    def _somebody(self) -> Node:
        return self._dice.choice(list(self._cluster))

    def _leader(self) -> Node:
        """The leader as somebody sees it just now, or somebody."""
        status = self._somebody().status()
        leader = status["leader"] if status else None
        return self._cluster[leader] if leader else self._somebody()

    def _restart(self, *nodes: Node) -> None:
        for node in nodes:
            node.start()

    def _kill(self, *nodes: Node) -> str:
        for node in nodes:
            node.kill()
        self._last()
        self._restart(*nodes)
        return "killed " + " ".join(node.name for node in nodes)

    def _kill_leader(self) -> str:
        return self._kill(self._leader())

    def _kill_somebody(self) -> str:
        return self._kill(self._somebody())

    def _kill_a_majority(self) -> str:
        nodes = list(self._cluster)
        return self._kill(*self._dice.sample(nodes, len(nodes) // 2 + 1))

    def _kill_all(self) -> str:
        return self._kill(*self._cluster)

    def _pause(self, node: Node) -> str:
        node.pause()
        try:
            self._last()
        finally:
            node.resume()
        return f"paused {node.name}"

    def _pause_leader(self) -> str:
        return self._pause(self._leader())

    def _pause_somebody(self) -> str:
        return self._pause(self._somebody())

    def _terminate_somebody(self) -> str:
        node = self._somebody()
        node.wait_until_up()
        node.stop()
        self._last()
        node.start()
        return f"terminated {node.name}"

    def _restart_all_one_by_one(self) -> str:
        for node in self._cluster:
            node.wait_until_up()
            node.stop()
            node.start()
            node.wait_until_up()
        return "terminated all, one after the other"

    def _transfer(self) -> str:
        source, target = self._somebody(), self._somebody()
        try:
            with source.client() as client:
                answer = client.call(
                    "Node.TransferLeadership", 20.0, name=target.name, timeout_ms=3000
                )
        except (CallError, NoAnswer, NoConnection) as error:
            return f"no transfer to {target.name}: {error}"
        return f"transferred leadership to {answer['leader']}"

    def _cut(self, *wires: tuple[str, str]) -> str:
        assert self._network is not None
        for source, target in wires:
            self._network.cut(source, target)
        try:
            self._last()
        finally:
            self._network.heal()
        return "cut " + ", ".join(f"{source} to {target}" for source, target in wires)

    def _isolate(self, node: Node) -> str:
        others = [each.name for each in self._cluster.others(node)]
        self._cut(*((node.name, each) for each in others), *((each, node.name) for each in others))
        return f"isolated {node.name}"

    def _isolate_leader(self) -> str:
        return self._isolate(self._leader())

    def _isolate_somebody(self) -> str:
        return self._isolate(self._somebody())

    def _cut_one_way(self) -> str:
        source, target = self._dice.sample(list(self._cluster.nodes), 2)
        return self._cut((source, target))

    def _cut_some(self) -> str:
        names = list(self._cluster.nodes)
        wires = [(one, other) for one in names for other in names if one != other]
        return self._cut(*self._dice.sample(wires, self._dice.randint(2, len(wires) // 2)))

    def _lose_packets(self) -> str:
        assert self._network is not None
        percent = self._dice.choice([5, 20, 50])
        names = self._dice.sample(list(self._cluster.nodes), self._dice.randint(1, 2))
        for name in names:
            self._network.lose(name, percent)
        try:
            self._last()
        finally:
            self._network.heal()
        return f"lost {percent} % of the packets to {' and '.join(names)}"

    def _fail_sync(self) -> str:
        """The daemon must end by itself, and never try again what failed."""
        node = self._somebody()
        node.wait_until_up()
        with Trace(node, "fdatasync", "fdatasync:error=EIO:when=1"):
            node.wait_for_exit(ExitStatus.STORAGE_FAILED)
        assert "Input/output error" in node.log_of_this_life
        self._last()
        node.start()
        return f"failed a sync of {node.name}, which ended"

    def _jump(self) -> str:
        name = self._dice.choice(list(self._clocks))
        offset = self._dice.choice([-86_400, -10, 0, 10, 86_400, 10**8])
        self._clocks[name].set(offset)
        return f"set the clock of {name} to {offset:+d} s"

    def _fill_disk(self) -> str:
        node = self._somebody()
        node.wait_until_up()  # on a full disk it does not start, and says so
        filler = node.data / "filler"
        fill(filler)
        try:
            self._last()
        finally:
            filler.unlink()
        return f"filled the disk of {node.name}"
