"""`raftd cluster`: the configurations it writes, and that a cluster keeps its shape."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftd.cli import cli
from raftd.cli.supervisor import Child
from raftd.config import Config, load

Runs = list[list[Child]]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """What would have been run."""
    runs: Runs = []

    def supervise(children: Sequence[Child]) -> int:
        runs.append(list(children))
        return 1

    monkeypatch.setattr(sys.modules["raftd.cli.cluster"], "supervise", supervise)
    return runs


def cluster(directory: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["cluster", "--data-dir", str(directory), *options])


def configs(directory: Path) -> list[Config]:
    return [load(file) for file in sorted(directory.glob("node*/raftd.toml"))]


def refused(result: Result) -> str:
    assert result.exit_code == 2
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return " ".join(result.stderr.split())


def test_three_nodes_from_port_7001_each_in_its_directory(tmp_path: Path, runs: Runs) -> None:
    directory = tmp_path / "deep" / 'a "quoted" näme'
    assert cluster(directory).exit_code == 1, "that of the supervisor"
    (children,) = runs
    for number, (config, child) in enumerate(zip(configs(directory), children, strict=True), 1):
        own = directory / f"node{number}"
        assert (config.name, config.data_dir) == (f"node{number}", own)
        assert config.socket == own / "raftd.sock"
        assert config.listen == f"tcp://127.0.0.1:{7000 + number}"
        assert list(config.members) == ["node1", "node2", "node3"]
        assert config.warnings == ()
        assert own.stat().st_mode & 0o777 == 0o700
        assert child.name == config.name
        assert child.command == (
            *(sys.executable, "-P", "-m", "raftd", "run", "--config", str(own / "raftd.toml")),
        )
        assert child.about == f"{config.listen}, socket {config.socket}"


def test_times_and_levels_are_those_of_this_start(tmp_path: Path, runs: Runs) -> None:
    options = ["--election-timeout-ms", "300", "600", "--heartbeat-interval-ms", "30"]
    cluster(tmp_path, "--nodes", "1", "--base-port", "9000", *options, "--log", "debug")
    (config,) = configs(tmp_path)
    assert config.election_timeout_ms == (300, 600)
    assert (config.heartbeat_interval_ms, config.log) == (30, "debug")
    cluster(tmp_path, "--nodes", "1")
    (config,) = configs(tmp_path)
    assert config.election_timeout_ms == (1000, 2000)
    assert len(runs) == 2


def test_a_cluster_with_data_keeps_its_nodes_and_ports(tmp_path: Path, runs: Runs) -> None:
    cluster(tmp_path, "--nodes", "5", "--base-port", "9000")
    (tmp_path / "node1" / "wal").mkdir()
    cluster(tmp_path)
    cluster(tmp_path, "--nodes", "5", "--base-port", "9000")
    assert [len(children) for children in runs] == [5, 5, 5]
    assert configs(tmp_path)[4].listen == "tcp://127.0.0.1:9004"
    for other in (["--nodes", "3"], ["--base-port", "9001"]):
        assert "made with --nodes 5 --base-port 9000; leave these options out, or take another" in (
            refused(cluster(tmp_path, *other))
        )
    assert len(runs) == 3


def test_a_cluster_that_never_had_data_may_change(tmp_path: Path, runs: Runs) -> None:
    """The ports may have been in use at the first start."""
    cluster(tmp_path, "--base-port", "9000")
    (tmp_path / "node1" / "raftd.sock").touch()
    cluster(tmp_path, "--base-port", "9100")
    assert configs(tmp_path)[0].listen == "tcp://127.0.0.1:9100"
    assert len(runs) == 2


def test_data_without_a_configuration_is_refused(tmp_path: Path, runs: Runs) -> None:
    (tmp_path / "node1" / "wal").mkdir(parents=True)
    assert "node1/raftd.toml: cannot be read (No such file" in refused(cluster(tmp_path))
    assert runs == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--nodes", "0"], "0 is not in the range 1<=x<=9"),
        (["--nodes", "10"], "10 is not in the range 1<=x<=9"),
        (["--base-port", "65534"], "port 65534 leaves no room for 3; take a lower one"),
        (["--log", "loud"], "node1/raftd.toml: log: 'loud' is no log level"),
        (["--heartbeat-interval-ms", "5000"], "heartbeat_interval_ms: 5000 must be below"),
        (["--election-timeout-ms", "9", "8"], "election_timeout_ms: 9 is out of range"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, runs: Runs, options: list[str], expected: str
) -> None:
    assert expected in refused(cluster(tmp_path, *options))
    assert runs == []


def test_a_directory_too_deep_for_sockets_is_refused(tmp_path: Path, runs: Runs) -> None:
    message = refused(cluster(tmp_path / ("d" * 100)))
    assert "sockets go there, but" in message
    assert "a socket's path at most 107; choose a shorter one" in message
    assert runs == []
    assert list(tmp_path.iterdir()) == [], "and nothing is made"


def test_a_directory_of_somebody_else_is_refused(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster(tmp_path)

    def not_yours(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "iterdir", not_yours)
    assert f"cannot look into {tmp_path}/node1: Permission denied; run it as who made the" in (
        refused(cluster(tmp_path))
    )
    assert len(runs) == 1


def test_a_directory_that_is_none_is_refused(tmp_path: Path, runs: Runs) -> None:
    (tmp_path / "file").touch()
    assert "is a file" in refused(cluster(tmp_path / "file"))
    assert "cannot write to" in refused(cluster(tmp_path / "file" / "below"))
    assert "cannot be printed" in refused(cluster(tmp_path / "a\nb"))
    assert runs == []
