"""Whole simulated clusters, traced: the specification allows what they do, and notices what not."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import msgspec
import pytest

from tests.simulation.plan import plan
from tests.simulation.state_trace import StateTrace
from tests.simulation.world import World
from tests.state_trace.specification import Refused, judge

FAULTS = {
    *("partition", "isolation", "one-way cut", "pause", "kill", "clean restart", "old leader"),
    *("leadership transfer", "clock rate"),
}
"""Without those that raftd and the specification have different words for: see
raftd.state_trace."""
SEEDS = (1, 4, 8, 10, 13, 16, 17, 21)


@cache
def traced(seed: int) -> list[bytes]:
    """Some virtual seconds of a cluster."""
    full = plan(seed)
    rates = {fault: rate for fault, rate in full.rates.items() if fault in FAULTS}
    trace = StateTrace()
    short = msgspec.structs.replace(full, rates=rates, duration=4.0, snapshot_log_bytes=1 << 30)
    result = World(short, state_trace=trace).run()
    assert not result.property, result.text
    return trace.lines


def test_the_specification_allows_all_of_it() -> None:
    """pitfalls 1, 5, 25, 26 and 35: as a specification that nobody here wrote sees them."""
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        counts += judge(traced(seed))
    for name in ("InitState", "BecomeLeader", "BecomeFollower", "Commit", "Replicate", "Ready"):
        assert counts[name] > len(SEEDS), name
    assert counts["ReceiveRequestVoteResponse"]
    assert counts["InitState"] > 5 * len(SEEDS), "some have started again"


def test_a_run_is_the_same_with_a_trace() -> None:
    assert World(plan(3)).run().digest == World(plan(3), state_trace=StateTrace()).run().digest


CHANGES = {
    "commit": (rb'("name":"Commit".*"commit":)(\d+)', 1),
    "term": (rb'("name":"BecomeCandidate".*"term":)(\d+)', 1),
    "log": (rb'("name":"BecomeLeader".*"log":)(\d+)', 1),
    "index": (rb'("name":"SendAppendEntriesRequest".*"MsgApp".*"index":)(\d+)', 1),
    "match": (rb'("name":"ReceiveAppendEntriesResponse".*"MsgAppResp".*"index":)(\d+)', 1),
    "entries": (rb'("name":"ReceiveAppendEntriesRequest".*"MsgApp".*"entries":)(\d+)', 1),
    "last log": (rb'("name":"SendRequestVoteRequest".*"logTerm":)(\d+)', 1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_number_is_refused(what: str) -> None:
    pattern, by = CHANGES[what]
    lines = list(traced(1))
    number = next(n for n, line in enumerate(lines) if n > 30 and re.search(pattern, line))
    lines[number] = re.sub(
        pattern, lambda found: found[1] + str(int(found[2]) + by).encode(), lines[number]
    )
    with pytest.raises(Refused, match=f"line {number + 1}:"):
        judge(lines)


@pytest.mark.parametrize(
    "name", ["BecomeCandidate", "BecomeLeader", "Ready", "ReceiveRequestVoteResponse", "Commit"]
)
def test_a_missing_event_is_noticed(name: str) -> None:
    lines = list(traced(1))
    number = next(n for n, line in enumerate(lines) if n > 30 and b'"%s"' % name.encode() in line)
    with pytest.raises(Refused):
        judge(lines[:number] + lines[number + 1 :])


def test_lines_sort_by_time_as_text() -> None:
    lines = traced(1)
    assert sorted(lines, key=lambda line: line.split(b":", 2)[2]) == lines
