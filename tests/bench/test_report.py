"""Ratios, goals and tables, from figures that were made up."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.bench.generator import Sample
from tests.bench.goals import Goal, goals
from tests.bench.report import report
from tests.bench.results import MemoryRow, Restart, Results, Row, describe_machine, read

MACHINE = {"cpu": "2 x Abacus", "disk": "ext4, /var/tmp"}
SAMPLE = Sample(
    operations=2_000,
    seconds=2.0,
    p50_ms=1.0,
    p99_ms=4.0,
    max_ms=9.0,
    errors=0,
    first_error="",
    server_cpu_s=[0.4, 0.2, 0.2],
    generator_cpu_s=0.2,
    machine_cpu_s=1.0,
)


def rows(scenario: str, system: str, *operations: int, p50_ms: float = 1.0) -> list[Row]:
    """One round for each number of operations in 2 s."""
    return [
        Row(
            scenario,
            system,
            number,
            0,
            msgspec.structs.replace(SAMPLE, operations=each, p50_ms=p50_ms),
        )
        for number, each in enumerate(operations)
    ]


def goal(found: Results, words: str) -> Goal:
    (only,) = (each for each in goals(found) if words in each.what)
    return only


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    found = Results(MACHINE)
    found.rows = rows("put-100", "raftd", 100, 900, 400) + rows("put-100", "etcd", 100, 300, 800)
    assert found.ratio("put-100", "raftd", lambda sample: sample.rate) == 1.0
    assert found.median("put-100", "raftd", lambda sample: sample.rate) == 200


def test_rounds_that_only_one_of_them_had_do_not_count() -> None:
    found = Results(MACHINE)
    found.rows = rows("put-100", "raftd", 400, 1, 1) + rows("put-100", "etcd", 100)
    assert found.ratio("put-100", "raftd", lambda sample: sample.rate) == 4.0
    assert found.ratio("put-16", "raftd", lambda sample: sample.rate) is None


@pytest.mark.parametrize(("raftd", "met"), [(1_999, False), (2_000, True)])
def test_a_goal_that_wants_more(raftd: int, met: bool) -> None:
    found = Results(MACHINE, rows("put-100", "raftd", raftd) + rows("put-100", "etcd", 1_000))
    assert goal(found, "put-100 per second").met is met


@pytest.mark.parametrize(("p50_ms", "met"), [(1.1, False), (1.0, True)])
def test_a_goal_that_wants_less(p50_ms: float, met: bool) -> None:
    ours = rows("put-1", "raftd", 1, p50_ms=p50_ms)
    found = Results(MACHINE, ours + rows("put-1", "etcd", 1))
    assert goal(found, "put-1 p50").met is met


def test_goals_that_compare_different_scenarios() -> None:
    found = Results(MACHINE)
    found.rows = rows("put-pipelined", "raftd", 6_000) + rows("put-100", "etcd", 1_000)
    found.rows += rows("put-100-forwarded", "raftd", 600) + rows("put-100", "raftd", 1_000)
    assert goal(found, "pipelined").value == 6.0
    assert goal(found, "forwarded").value == pytest.approx(0.6)
    assert goal(found, "forwarded").met is False


def test_goals_of_what_happens_rarely() -> None:
    found = Results(MACHINE)
    found.memory = [
        MemoryRow("raftd", "128 B", True, 40 << 20, 0),
        MemoryRow("raftd", "128 B", False, 400 << 20, 0),
        MemoryRow("etcd", "128 B", True, 100 << 20, 0),
        MemoryRow("etcd", "16 KiB", True, 999 << 20, 0),
    ]
    found.failover_s = {"raftd": [1.2, 9.0, 1.5]}
    found.status_s = [0.1, 0.2, 0.3]
    found.restarts = [
        Restart("raftd", 1_000_000, rebuilt=False, seconds=2.0),
        Restart("raftd", 1_000_000, rebuilt=True, seconds=6.0),
        Restart("etcd", 1_000_000, rebuilt=False, seconds=60.0),
    ]
    assert goal(found, "memory").met is None, "nothing was asked of them yet"
    found.rows = rows("put-400", "raftd", 1) + rows("put-400", "etcd", 1)
    assert goal(found, "memory").value == pytest.approx(0.4)
    assert goal(found, "failover").value == 1.0, "mean election timeout: 1.5 s"
    assert goal(found, "status").met is False
    killed, lost = (each for each in goals(found) if each.what.startswith("restart"))
    assert (killed.value, killed.met) == (2.0, True)
    assert (lost.value, lost.met) == (6.0, False)


def test_a_restart_with_few_entries_says_nothing_about_the_goal() -> None:
    found = Results(MACHINE, restarts=[Restart("raftd", 1_000, rebuilt=False, seconds=0.1)])
    assert [each.met for each in goals(found) if each.what.startswith("restart")] == [None, None]
    assert "`make bench ENTRIES=1000000`" in "\n".join(report(found))


def test_the_report_has_both_systems_and_their_ratio() -> None:
    found = Results(MACHINE)
    found.rows = rows("put-100", "raftd", 4_000) + rows("put-100", "etcd", 1_000, p50_ms=2.0)
    found.rows += rows("put-100-apart", "etcd", 500) + rows("put-100", "pysyncobj", 9_000)
    lines = list(report(found))
    table = [" ".join(line.split()) for line in lines if line.startswith("put-100 ")]
    assert table[0] == "put-100 | 2,000 1.00 4.0 2.00 | 500 2.00 4.0 8.00 | 4.00 0.50 1.00 0.25"
    assert table[1] == "put-100 | 4,500 1.00 4.0 0.89", "PySyncObj stands apart"
    (apart,) = (line for line in lines if line.startswith("put-100-apart      |"))
    assert apart.split()[-4:] == ["8.00", "1.00", "1.00", "0.12"], "against raftd's put-100"
    assert all(len(line) <= 111 for line in lines)


def test_the_report_says_who_used_the_processor() -> None:
    found = Results(MACHINE, rows("put-100", "raftd", 2_000))
    lines = "\n".join(report(found))
    assert "2.00       1.00       1.00 (20%)" in lines
    assert "Other processes took" not in lines
    found.rows[0].sample.machine_cpu_s = 2.0
    assert "Other processes took 0.5 cores" in "\n".join(report(found))


def test_the_report_says_what_failed_and_what_is_missing() -> None:
    found = Results(MACHINE, rows("put-100", "raftd", 2_000), left_out=["etcd: not installed"])
    found.rows[0].sample.errors = 3
    lines = "\n".join(report(found))
    assert "3 ERRORS" in lines
    assert "Left out: etcd: not installed" in lines
    assert "/ etcd  " not in lines, "no columns for ratios"


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    found = Results(describe_machine(tmp_path), rows("put-1", "raftd", 5), seconds=1.5)
    found.write(tmp_path / "new" / "results.json")
    assert read(tmp_path / "new" / "results.json") == found
