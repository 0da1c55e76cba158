"""The results as tables, for people: `report(results)` gives the lines."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

from tests.bench.generator import Sample
from tests.bench.goals import MANY_ENTRIES, Goal, failover, goals
from tests.bench.processes import MIB
from tests.bench.results import Results
from tests.bench.scenarios import WINDOW

QUIET_CORES = 0.1
"""Below this, nobody else disturbed the measurement."""
ALONE = "pysyncobj"
_FIELDS: dict[str, Callable[[Sample], float]] = {
    "rate": lambda sample: sample.rate,
    "p50": lambda sample: sample.p50_ms,
    "p99": lambda sample: sample.p99_ms,
    "cpu": lambda sample: sample.cpu_s_per_10k,
}


def report(found: Results) -> Iterator[str]:
    yield from (f"{name:8} {text}" for name, text in found.machine.items())
    if found.rows:
        yield ""
        yield from _disturbance(found)
        yield ""
        yield from _speeds(found)
        yield ""
        yield from _processor(found)
    yield ""
    yield from _memory(found)
    yield from _events(found)
    yield ""
    yield from _goals(goals(found))
    if found.left_out:
        yield ""
        yield from (f"Left out: {reason}" for reason in found.left_out)
    yield f"Took {found.seconds:.0f} s."


def _disturbance(found: Results) -> Iterator[str]:
    others = found.disturbance()
    yield (
        f"Medians of {len({row.round for row in found.rows})} rounds in turns; ratios are medians "
        "of each round's ratio to etcd."
    )
    if others > QUIET_CORES:
        yield (
            f"Other processes took {others:.1f} cores meanwhile: rates and times would be better "
            "without them; CPU seconds and ratios are what to look at."
        )


def _speeds(found: Results) -> Iterator[str]:
    systems = [system for system in found.systems() if system != ALONE]
    ratios = _compared(found)
    heads = "".join(f" | {name:^30}" for name in systems)
    yield f"{'':18}{heads}" + (f" | {'raftd / etcd':^23}" if ratios else "")
    heads = f" | {'op/s':>7} {'p50 ms':>7} {'p99 ms':>7} {'CPU s':>6}" * len(systems)
    yield f"{'':18}{heads}" + (f" | {'op/s':>5} {'p50':>5} {'p99':>5} {'CPU':>5}" if ratios else "")
    for scenario in _scenarios(found, systems):
        cells = "".join(f" | {_speed(found, scenario, system)}" for system in systems)
        yield f"{scenario:18}{cells}" + (_ratios(found, scenario) if ratios else "")
    yield "CPU s: processor seconds of all servers for 10,000 operations."
    yield f"pipelined: {WINDOW} calls in flight on one connection."
    if ratios:
        yield "etcd's clients share one gRPC connection, its fastest way. apart: each has its own,"
        yield "as raftd's always have; the ratios there are of raftd's usual figures to that."
    if ALONE in found.systems():
        yield ""
        yield "PySyncObj, not in turns. It never syncs, and its load is inside the leader itself:"
        for scenario in _scenarios(found, [ALONE]):
            yield f"{scenario:18} | {_speed(found, scenario, ALONE)}"


def _scenarios(found: Results, systems: list[str]) -> list[str]:
    return list(dict.fromkeys(row.scenario for row in found.rows if row.system in systems))


def _compared(found: Results) -> bool:
    return {"raftd", "etcd"} <= set(found.systems())


def _speed(found: Results, scenario: str, system: str) -> str:
    values = [found.median(scenario, system, of) for of in _FIELDS.values()]
    if values[0] is None:
        return " " * 30
    errors = sum(sample.errors for sample in found.samples(scenario, system).values())
    rate, p50, p99, cpu = (value or 0.0 for value in values)
    text = f"{rate:7,.0f} {p50:7.2f} {p99:7.1f} {cpu:6.2f}"
    return text + (f" {errors} ERRORS" if errors else "")


def _ratios(found: Results, scenario: str) -> str:
    own = scenario.removesuffix("-apart")
    ratios = [found.ratio(own, "raftd", of, other_scenario=scenario) for of in _FIELDS.values()]
    return " |" + "".join(" " * 6 if each is None else f" {each:5.2f}" for each in ratios)


def _processor(found: Results) -> Iterator[str]:
    yield f"CPU seconds for 10,000 operations, each process{'':10} leader  followers  generator"
    for scenario in dict.fromkeys(row.scenario for row in found.rows):
        for system in found.systems():
            if system == ALONE:
                continue
            rows = [r for r in found.rows if (r.scenario, r.system) == (scenario, system)]
            rows = [row for row in rows if row.sample.operations]
            if not rows:
                continue
            leader, followers, generator, share = (
                statistics.median(values)
                for values in zip(*(_shares(row.sample, row.leader) for row in rows), strict=True)
            )
            yield (
                f"{scenario:18} {system:10}{'':28} {leader:6.2f}     {followers:6.2f}     "
                f"{generator:6.2f} ({share:3.0%})"
            )
    for system, cores in found.idle_cores.items():
        yield f"{system}: a cluster that nobody asks anything takes {cores:.3f} cores."


def _shares(sample: Sample, leader: int) -> tuple[float, float, float, float]:
    """Leader, a follower (the mean), generator; the generator's share of the CPU time of all."""
    per_10k = 1e4 / sample.operations
    servers = sample.server_cpu_s
    followers = [used for number, used in enumerate(servers) if number != leader]
    everything = sum(servers) + sample.generator_cpu_s
    return (
        (servers[leader] if servers else 0.0) * per_10k,
        statistics.fmean(followers or [0.0]) * per_10k,
        sample.generator_cpu_s * per_10k,
        sample.generator_cpu_s / everything if everything else 0.0,
    )


def _memory(found: Results) -> Iterator[str]:
    for row in found.memory:
        if row.leader:
            yield (
                f"Memory of {row.system}'s leader after {row.after} values: peak "
                f"{row.peak / MIB:.0f} MiB, now {row.anonymous / MIB:.0f} MiB without mapped files."
            )


def _events(found: Results) -> Iterator[str]:
    for system, times in found.failover_s.items():
        ratio = failover(found, system) or 0.0
        yield (
            f"Failover of {system}, kill -9 of the leader to the next acknowledged put: "
            + " ".join(f"{each:.2f}" for each in times)
            + f" s; median {ratio:.2f} mean election timeouts."
        )
    for each in found.restarts:
        how = "state made again from the log" if each.rebuilt else "killed"
        yield f"Restart of {each.system}, {each.entries:,} entries, {how}: {each.seconds:.2f} s."
    if found.status_s:
        yield (
            f"raftctl status: {statistics.median(found.status_s) * 1000:.0f} ms, "
            f"{found.status_cpu_s * 1000:.0f} ms of them CPU; median of {len(found.status_s)}."
        )


def _goals(all_goals: list[Goal]) -> Iterator[str]:
    yield "Goals: ratios raftd / etcd, where nothing else is said"
    for goal in all_goals:
        sign = "<=" if goal.at_most else ">="
        digits = 0 if goal.unit == "ms" else 2
        value = "not measured" if goal.value is None else f"{goal.value:.{digits}f}"
        met = {True: "met", False: "NOT MET", None: ""}[goal.met]
        unit = "" if goal.unit == "x" else f" {goal.unit}"
        yield f"  {goal.what:48} {value:>12}   {sign} {goal.limit:g}{unit:4} {met}".rstrip()
    if any(goal.value is None and f"{MANY_ENTRIES:,}" in goal.what for goal in all_goals):
        yield f"  (`make bench ENTRIES={MANY_ENTRIES}` measures a restart with so many)"
