"""Taking turns: each scenario on one system after the other, round after round.

Both clusters are up all the time; the one whose turn it is not costs what an idle cluster costs,
which is measured too. So what else happens on the machine meets both within seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from tests.bench import generator
from tests.bench.generator import Sample
from tests.bench.processes import cpu_seconds, memory
from tests.bench.results import MemoryRow, Results, Row
from tests.bench.scenarios import KEYS, SIZES, WINDOW, Scenario
from tests.bench.systems import Cluster

IDLE_S = 3.0
FILL_S = 60
WARM_S = 0.3


class Rounds:
    """`say` gets a line about each round. Nothing begins that cannot end before `deadline`."""

    def __init__(
        self,
        clusters: Sequence[Cluster],
        commands: Mapping[str, Sequence[str]],
        results: Results,
        deadline: float,
        say: Callable[[str], None],
    ) -> None:
        """`commands`: the generator for each system; `deadline` on time.monotonic()'s clock."""
        self._clusters = clusters
        self._commands = commands
        self._results = results
        self._deadline = deadline
        self._say = say

    def idle(self) -> None:
        """What clusters cost that do nothing."""
        before = [sum(map(cpu_seconds, each.pids())) for each in self._clusters]
        time.sleep(IDLE_S)
        for each, was in zip(self._clusters, before, strict=True):
            now = sum(map(cpu_seconds, each.pids()))
            self._results.idle_cores[each.name] = (now - was) / IDLE_S

    def fill(self, size: int) -> None:
        """Give every key a value of `size` bytes."""
        for cluster in self._clusters:
            self._generate(
                cluster,
                cluster.leader(),
                operation="put",
                pipeline=WINDOW,
                size=size,
                keys=KEYS[size],
                operations=KEYS[size],
                duration=f"{FILL_S}s",
            )

    def take(self, scenarios: Sequence[Scenario], rounds: int, seconds: float) -> None:
        """Each sample takes `seconds`. Says so when there is time for fewer rounds only."""
        longest = 0.0
        for number in range(rounds):
            begin = time.monotonic()
            if begin + longest > self._deadline:
                self._results.left_out.append(
                    f"{rounds - number} of {rounds} rounds of {scenarios[0].name} to "
                    f"{scenarios[-1].name}: no time"
                )
                return
            for scenario in scenarios:
                for cluster in self._clusters:
                    if scenario.apart and cluster.name != "etcd":
                        continue
                    leader = cluster.leader()
                    sample = self._measure(cluster, leader, scenario, seconds)
                    row = Row(scenario.name, cluster.name, number, leader, sample)
                    self._results.rows.append(row)
            longest = max(longest, time.monotonic() - begin)
            self._say(f"round {number + 1} of {rounds}: {time.monotonic() - begin:.0f} s")

    def remember_memory(self, size: int) -> None:
        for cluster in self._clusters:
            leader = cluster.pids()[cluster.leader()]
            for pid in cluster.pids():
                now = memory(pid)
                self._results.memory.append(
                    MemoryRow(cluster.name, SIZES[size], pid == leader, now.peak, now.anonymous)
                )

    def _measure(self, cluster: Cluster, leader: int, scenario: Scenario, seconds: float) -> Sample:
        pids = cluster.pids()
        shape: dict[str, object] = (
            {"pipeline": WINDOW} if scenario.pipelined else {"clients": scenario.clients}
        )
        if not scenario.apart:
            shape["connections"] = 1
        return self._generate(
            cluster,
            (leader + 1) % len(pids) if scenario.forwarded else leader,
            operation=scenario.operation,
            size=scenario.size,
            keys=KEYS[scenario.size],
            warm=f"{WARM_S}s",
            duration=f"{seconds}s",
            pids=",".join(map(str, pids)),
            **shape,
        )

    def _generate(self, cluster: Cluster, node: int, **options: object) -> Sample:
        return generator.run(self._commands[cluster.name], cluster.target(node), **options)
