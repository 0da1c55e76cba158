"""One whole run: `compare(plan, say)` gives the results. Bounded in time."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from tests.bench import events, generator
from tests.bench.etcd import Etcd
from tests.bench.processes import memory
from tests.bench.pysyncobj import PySyncObj, installed
from tests.bench.results import MemoryRow, Results, Row, describe_machine
from tests.bench.rounds import Rounds
from tests.bench.scenarios import LARGE, SCENARIOS, SIZES, SMALL, WINDOW, Scenario
from tests.bench.systems import NODES, Cluster, Raftd

RESTART_KEYS = 100_000
WHOLE_LOG = {"snapshot_log_bytes": 1 << 34}
"""No snapshot makes the log shorter: a restart finds every entry."""
MIN_RESTART_S = 20
STATUS_CALLS = 15
FAILOVERS = 5
PYSYNCOBJ_ROUNDS = 3
PYSYNCOBJ_SCENARIOS = ("put-1", "put-16", "put-100", "put-400")
EVENTS = ("pysyncobj", "failover", "status", "restart")


class Plan(msgspec.Struct, frozen=True):
    """`only`: names of scenarios and of EVENTS; none: all. Times in seconds."""

    only: Sequence[str] = ()
    quick: bool = False
    rounds: int = 5
    seconds: float = 2.0
    entries: int = 100_000
    limit: float = 600.0
    with_etcd: bool = True
    source: Path | None = None
    against: Path | None = None
    directory: Path = Path("/var/tmp")
    """On the disk that is to be measured."""
    build: Path = Path("build/bench")

    def wants(self, event: str) -> bool:
        return event in self.only if self.only else not self.quick

    @property
    def scenarios(self) -> list[Scenario]:
        if self.only:
            return [each for each in SCENARIOS if each.name in self.only]
        return [each for each in SCENARIOS if each.headline or not self.quick]


def compare(plan: Plan, say: Callable[[str], None]) -> Results:
    """Raises generator.Failed, or AssertionError if a cluster does not do as it should."""
    directory = Path(tempfile.mkdtemp(prefix="raftd-bench-", dir=plan.directory))
    try:
        run = _Run(plan, directory, say)
        if plan.scenarios:
            run.speeds()
        for event in EVENTS:
            if plan.wants(event):
                getattr(run, event)()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    run.found.seconds = time.monotonic() - run.begin
    return run.found


class _Run:
    def __init__(self, plan: Plan, directory: Path, say: Callable[[str], None]) -> None:
        self.begin = time.monotonic()
        self.found = Results(describe_machine(plan.directory))
        self._plan = plan
        self._directory = directory
        self._say = say
        self._clusters_made = 0
        self._commands = {"raftd": generator.command("raftd", plan.build)}
        if plan.against:
            self._commands["other"] = self._commands["raftd"]
        if plan.with_etcd:
            try:
                self._commands["etcd"] = generator.command("etcd", plan.build)
            except generator.Failed as error:
                self.found.left_out.append(f"etcd: {error}")

    def _make(self, system: str, **settings: Any) -> Cluster:
        """A new cluster, not started. `settings` are raftd's."""
        self._clusters_made += 1
        directory = self._directory / str(self._clusters_made)
        if system == "etcd":
            return Etcd(directory)
        source = self._plan.against if system == "other" else self._plan.source
        return Raftd(directory, name=system, source=source, **settings)

    def _deadline(self, share: float) -> float:
        """When `share` of the time is over."""
        return self.begin + share * self._plan.limit

    def speeds(self) -> None:
        plan = self._plan
        with ExitStack() as stack:
            clusters = [self._make(system) for system in self._commands]
            for cluster in clusters:
                stack.callback(cluster.close)
                cluster.start()
            rounds = Rounds(clusters, self._commands, self.found, self._deadline(0.75), self._say)
            rounds.idle()
            for size in (SMALL, LARGE):
                scenarios = [each for each in plan.scenarios if each.size == size]
                headline = [each for each in scenarios if each.headline or plan.only]
                rest = [each for each in scenarios if each not in headline]
                if not scenarios:
                    continue
                self._say(f"values of {SIZES[size]}")
                if any(each.operation == "get" for each in scenarios):
                    rounds.fill(size)
                if headline:
                    rounds.take(headline, plan.rounds, plan.seconds)
                if rest:
                    rounds.take(rest, min(3, plan.rounds), plan.seconds * 0.6)
                rounds.remember_memory(size)

    def pysyncobj(self) -> None:
        """Afterwards, and not in turns: what is never on a disk is no match for what is."""
        if not installed():
            self.found.left_out.append(
                "PySyncObj: not installed (packaging/requirements-bench.txt)"
            )
            return
        self._say("PySyncObj")
        scenarios = [each for each in SCENARIOS if each.name in PYSYNCOBJ_SCENARIOS]
        with PySyncObj(self._directory / "pysyncobj") as cluster:
            leader = cluster.leader()
            for number in range(PYSYNCOBJ_ROUNDS):
                for each in scenarios:
                    seconds = self._plan.seconds * 0.6
                    sample = cluster.load(leader, each.clients, each.size, seconds)
                    self.found.rows.append(Row(each.name, cluster.name, number, leader, sample))
            now = memory(cluster.pids()[leader])
            self.found.memory.append(
                MemoryRow(cluster.name, SIZES[SMALL], True, now.peak, now.anonymous)
            )

    def failover(self) -> None:
        for system in self._commands:
            self._say(f"failover of {system}")
            cluster = self._make(system)
            try:
                cluster.start()
                times = self.found.failover_s.setdefault(system, [])
                while len(times) < FAILOVERS and time.monotonic() < self._deadline(0.9):
                    times.append(events.failover(cluster, NODES))
            finally:
                cluster.close()

    def status(self) -> None:
        self._say("raftctl status")
        cluster = self._make("raftd")
        try:
            cluster.start()
            socket = Path(cluster.target(0))
            self.found.status_s, self.found.status_cpu_s = events.status_times(socket, STATUS_CALLS)
        finally:
            cluster.close()

    def restart(self) -> None:
        """Half of the time that is left goes into filling the logs."""
        for number, (system, command) in enumerate(self._commands.items()):
            left = (self._deadline(1.0) - time.monotonic()) / (len(self._commands) - number)
            if left < MIN_RESTART_S:
                self.found.left_out.append(f"restart of {system}: no time")
                continue
            self._say(f"restart of {system} with {self._plan.entries:,} entries")
            cluster = self._make(system, limits=WHOLE_LOG)
            try:
                cluster.start()
                entries = generator.run(
                    command,
                    cluster.target(cluster.leader()),
                    operation="put",
                    pipeline=WINDOW,
                    connections=1,
                    keys=RESTART_KEYS,
                    operations=self._plan.entries,
                    duration=f"{left / 2:.0f}s",
                ).operations
                for rebuild in (False, True):
                    done = events.restart(cluster, entries, rebuild=rebuild)
                    if done:
                        self.found.restarts.append(done)
            finally:
                cluster.close()
