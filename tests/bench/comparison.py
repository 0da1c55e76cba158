"""One whole run: `compare(plan, say)` gives the results. Bounded in time."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tests.bench import events, generator
from tests.bench.etcd import Etcd
from tests.bench.results import Results, describe_machine
from tests.bench.rounds import Rounds
from tests.bench.scenarios import LARGE, SCENARIOS, SIZES, SMALL, WINDOW, Scenario
from tests.bench.systems import NODES, Cluster, Raftd

RESTART_KEYS = 100_000
STATUS_CALLS = 15
EVENTS = ("failover", "restart", "status")


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

    def wants(self, name: str) -> bool:
        return name in self.only if self.only else not self.quick

    @property
    def scenarios(self) -> list[Scenario]:
        if self.only:
            return [each for each in SCENARIOS if each.name in self.only]
        return [each for each in SCENARIOS if each.headline or not self.quick]


Makers = dict[str, Callable[[], Cluster]]


def compare(plan: Plan, say: Callable[[str], None]) -> Results:
    """Raises generator.Failed, or AssertionError if a cluster does not do as it should."""
    begin = time.monotonic()
    found = Results(describe_machine(plan.directory))
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="raftd-bench-", dir=plan.directory))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        makers, commands = _systems(plan, directory, found)
        if plan.scenarios:
            _speeds(plan, makers, commands, found, begin, say)
        if plan.wants("failover") or plan.wants("status"):
            _failovers(plan, makers, found, say)
        if plan.wants("restart"):
            _restarts(plan, makers, commands, found, say)
    found.seconds = time.monotonic() - begin
    return found


def _systems(
    plan: Plan, directory: Path, found: Results
) -> tuple[Makers, dict[str, Sequence[str]]]:
    """How to make each cluster, and the generator for it."""
    numbers: Iterator[int] = iter(range(1000))

    def fresh() -> Path:
        return directory / str(next(numbers))

    makers: Makers = {"raftd": lambda: Raftd(fresh(), source=plan.source)}
    commands: dict[str, Sequence[str]] = {"raftd": generator.command("raftd", plan.build)}
    if plan.against:
        makers["other"] = lambda: Raftd(fresh(), name="other", source=plan.against)
        commands["other"] = commands["raftd"]
    if not plan.with_etcd:
        return makers, commands
    if not shutil.which("etcd"):
        found.left_out.append(f"etcd: it is not installed ({generator.INSTALL})")
        return makers, commands
    try:
        commands["etcd"] = generator.command("etcd", plan.build)
        makers["etcd"] = lambda: Etcd(fresh())
    except generator.Failed as error:
        found.left_out.append(f"etcd: {error}")
    return makers, commands


def _speeds(
    plan: Plan,
    makers: Makers,
    commands: dict[str, Sequence[str]],
    found: Results,
    begin: float,
    say: Callable[[str], None],
) -> None:
    share = 0.75 if plan.wants("restart") else 1.0
    with ExitStack() as stack:
        clusters = [make() for make in makers.values()]
        for cluster in clusters:
            stack.callback(cluster.close)
            cluster.start()
        rounds = Rounds(clusters, commands, found, begin + share * plan.limit, say)
        rounds.idle()
        for size in (SMALL, LARGE):
            scenarios = [each for each in plan.scenarios if each.size == size]
            headline = [each for each in scenarios if each.headline or plan.only]
            rest = [each for each in scenarios if each not in headline]
            if scenarios:
                say(f"values of {SIZES[size]}")
                rounds.fill(size)
            if headline:
                rounds.take(headline, plan.rounds, plan.seconds)
            if rest:
                rounds.take(rest, min(3, plan.rounds), plan.seconds * 0.6)
            if scenarios:
                rounds.remember_memory(size)


def _failovers(plan: Plan, makers: Makers, found: Results, say: Callable[[str], None]) -> None:
    for name, make in makers.items():
        cluster = make()
        try:
            cluster.start()
            if plan.wants("failover"):
                say(f"failover of {name}")
                found.failover_s[name] = [
                    events.failover(cluster, NODES) for _ in range(plan.rounds)
                ]
            if plan.wants("status") and name == "raftd":
                say("raftctl status")
                socket = Path(cluster.target(0))
                found.status_s, found.status_cpu_s = events.status_times(socket, STATUS_CALLS)
        finally:
            cluster.close()


def _restarts(
    plan: Plan,
    makers: Makers,
    commands: dict[str, Sequence[str]],
    found: Results,
    say: Callable[[str], None],
) -> None:
    for name, make in makers.items():
        say(f"restart of {name} with {plan.entries:,} entries")
        cluster = make()
        try:
            cluster.start()
            generator.run(
                commands[name],
                cluster.target(cluster.leader()),
                operation="put",
                pipeline=WINDOW,
                connections=1,
                keys=RESTART_KEYS,
                operations=plan.entries,
                warm="0s",
            )
            for rebuild in (False, True):
                done = events.restart(cluster, plan.entries, rebuild=rebuild)
                if done:
                    found.restarts.append(done)
        finally:
            cluster.close()
