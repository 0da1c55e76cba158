"""The load generators, in Go and in Python, on a real cluster."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.bench import comparison, generator
from tests.bench.comparison import Plan, compare
from tests.bench.measuring import Measurement, Options, parse
from tests.bench.systems import NODES

PYTHON = [sys.executable, "-m", "tests.bench.python_load"]


def test_both_generators_have_the_same_options() -> None:
    source = (generator.SOURCE / "main.go").read_text()
    names = re.findall(r'flag\.\w+\("(\w+)"', source)
    assert {"target", "pipeline"} <= set(names)
    for name in names:
        parse(["-target", "/x", f"-{name}", "7s" if name in {"warm", "duration"} else "7"])


def test_options() -> None:
    words = "-target=/x -operation=get -pipeline=9 -warm=0s -duration=1.5s -pids=7,8"
    options = Options("/x", "get", pipeline=9, warm=0.0, duration=1.5, pids=[7, 8])
    assert parse(words.replace("=", " ").split()) == options


def test_calls_that_end_outside_of_the_measured_time_do_not_count() -> None:
    measurement = Measurement(Options("", warm=1000.0, duration=1000.0))
    assert measurement.more(measurement.begin) is not None
    measurement.ended(0.0, measurement.begin - 0.001)
    for milliseconds in (1, 2, 3):
        measurement.ended(measurement.begin, measurement.begin + milliseconds / 1000)
    measurement.ended(0.0, measurement.end + 0.001)
    measurement.ended(0.0, measurement.begin + 1, "Busy")
    assert measurement.more(measurement.end) is None
    sample = measurement.sample()
    assert (sample.operations, sample.seconds, sample.errors) == (3, 1000.0, 1)
    assert sample.p50_ms == pytest.approx(2.0)
    assert sample.first_error == "Busy"


def test_a_number_of_operations_takes_one_key_after_the_other() -> None:
    measurement = Measurement(Options("", operations=5, keys=3))
    assert [measurement.more(0.0) for _ in range(6)] == [0, 1, 2, 0, 1, None]


def test_a_number_of_operations_takes_no_longer_than_it_may() -> None:
    measurement = Measurement(Options("", operations=5, duration=7.0))
    assert measurement.more(measurement.begin + 6.9) == 0
    assert measurement.more(measurement.begin + 7.0) is None


def test_without_go_the_generator_is_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert generator.command("raftd", tmp_path) == PYTHON
    with pytest.raises(generator.Failed, match="apt install golang-go"):
        generator.command("etcd", tmp_path)


@pytest.mark.system
@pytest.mark.parametrize("language", ["go", "python"])
def test_a_run(
    language: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if language == "python":
        monkeypatch.setattr(generator, "command", lambda *_: PYTHON)
    elif not shutil.which("go"):
        pytest.skip("there is no Go")
    monkeypatch.setattr("tests.bench.rounds.IDLE_S", 0.1)
    directory = tmp_path_factory.mktemp("bench")
    said: list[str] = []
    plan = Plan(
        only=["put-16", "get-16", "put-pipelined", "get-pipelined", "put-100-forwarded"],
        rounds=1,
        seconds=1.5,
        with_etcd=False,
        directory=directory,
        build=directory / "build",
    )
    found = compare(plan, said.append)
    assert [row.scenario for row in found.rows] == [each.name for each in plan.scenarios]
    for row in found.rows:
        assert row.sample.operations > 0, row.scenario
        assert row.sample.errors == 0, row.sample.first_error
        assert 0 < row.sample.p50_ms <= row.sample.p99_ms <= row.sample.max_ms
        assert len(row.sample.server_cpu_s) == NODES
    assert {row.leader for row in found.memory} == {True, False}
    assert found.left_out == []


def test_there_is_no_more_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def speeds(_: object) -> None:
        raise AssertionError("nothing of that was asked for")

    monkeypatch.setattr(comparison._Run, "speeds", speeds)
    plan = Plan(only=["restart", "failover"], limit=0, with_etcd=False, directory=tmp_path)
    monkeypatch.setattr(comparison._Run, "_make", lambda *_: Idle())
    found = compare(plan, lambda _: None)
    assert found.failover_s == {"raftd": []}
    assert found.left_out == ["restart of raftd: no time"]
    assert list(tmp_path.iterdir()) == [], "all that was made is removed"


class Idle:
    """A cluster that nothing is asked of."""

    def start(self) -> None: ...

    def close(self) -> None: ...
