"""What we want raftd to be, measured against etcd in the same run, and whether it is."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import msgspec

from tests.bench.results import Results
from tests.bench.systems import ELECTION_TIMEOUT_MS

MANY_ENTRIES = 1_000_000


class Goal(msgspec.Struct, frozen=True):
    """`limit` is the least (or the most, if `at_most`) that `value` may be."""

    what: str
    value: float | None
    """None: not measured"""
    limit: float
    at_most: bool = False
    unit: str = "x"

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def goals(found: Results) -> list[Goal]:
    def rate(clients: str, least: float) -> Goal:
        return Goal(f"{clients} per second", _ratio(found, clients, "rate"), least)

    def p99(clients: str) -> Goal:
        return Goal(f"{clients} p99", _ratio(found, clients, "p99_ms"), 1.0, at_most=True)

    def restart(how: str, *, rebuilt: bool) -> Goal:
        what = f"restart with {MANY_ENTRIES:,} entries, {how}"
        return Goal(what, _restart(found, rebuilt=rebuilt), 5.0, at_most=True, unit="s")

    return [
        Goal("put-1 p50", _ratio(found, "put-1", "p50_ms"), 1.0, at_most=True),
        rate("put-16", 1.5),
        rate("put-100", 2.0),
        p99("put-100"),
        rate("put-400", 2.0),
        p99("put-400"),
        rate("get-100", 2.0),
        Goal(
            "put-pipelined per second, to etcd's put-100",
            found.ratio("put-pipelined", "raftd", lambda s: s.rate, other_scenario="put-100"),
            5.0,
        ),
        Goal("leader's peak memory, 128-byte values", _memory(found), 0.5, at_most=True),
        Goal(
            "put-100-forwarded, to raftd's own put-100",
            found.ratio(
                "put-100-forwarded",
                "raftd",
                lambda s: s.rate,
                other_scenario="put-100",
                other="raftd",
            ),
            0.7,
        ),
        Goal("failover, to the mean election timeout", failover(found, "raftd"), 1.5, at_most=True),
        restart("killed", rebuilt=False),
        restart("state lost too", rebuilt=True),
        Goal(
            "raftctl status",
            statistics.median(found.status_s) * 1000 if found.status_s else None,
            150,
            at_most=True,
            unit="ms",
        ),
    ]


def _ratio(found: Results, scenario: str, field: str) -> float | None:
    of: Callable[[object], float] = lambda sample: float(getattr(sample, field))  # noqa: E731
    return found.ratio(scenario, "raftd", of)


def _memory(found: Results) -> float | None:
    """None before both had as much work as the goal speaks of."""
    if not (found.samples("put-400", "raftd") and found.samples("put-400", "etcd")):
        return None
    peaks = {row.system: row.peak for row in found.memory if row.leader and row.after == "128 B"}
    if {"raftd", "etcd"} <= peaks.keys():
        return peaks["raftd"] / peaks["etcd"]
    return None


def failover(found: Results, system: str) -> float | None:
    """The median time, in mean election timeouts."""
    times = found.failover_s.get(system)
    mean_s = sum(ELECTION_TIMEOUT_MS) / 2 / 1000
    return statistics.median(times) / mean_s if times else None


def _restart(found: Results, *, rebuilt: bool) -> float | None:
    """None if there were fewer entries than the goal speaks of."""
    times = [
        each.seconds
        for each in found.restarts
        if each.system == "raftd" and each.rebuilt == rebuilt and each.entries >= MANY_ENTRIES
    ]
    return max(times, default=None)
