"""`raftd`, `raftd check-config`, and how `raftd run` finds its configuration."""

from __future__ import annotations

import errno
import logging
import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

import raftd
from raftd.cli import cli
from raftd.config import Config

ONE = '[members]\nnode1 = "tcp://127.0.0.1:7001"\n'


class FakeServer(ModuleType):
    """In place of raftd.server: remembers what it was told."""

    def __init__(self) -> None:
        super().__init__("raftd.server")
        self.configs: list[Config] = []

    def run(self, config: Config) -> int:
        self.configs.append(config)
        return 4


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    monkeypatch.setitem(sys.modules, "raftd.server", fake)
    monkeypatch.setattr(raftd, "server", fake, raising=False)
    return fake


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("RAFTD_LOG", raising=False)
    yield
    top = logging.getLogger("raftd")
    top.handlers.clear()
    top.propagate = True
    for logger in [top, *(logging.getLogger(f"raftd.{name}") for name in raftd.logs.MODULES)]:
        logger.setLevel(logging.NOTSET)


def test_version() -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.output) == (0, f"raftd {raftd.__version__}\n")


def test_help_has_the_exit_statuses() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    for status in ("0  stopped", "3  the data directory is locked", "6  an address or socket"):
        assert status in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_check_config_shows_what_it_comes_to(tmp_path: Path) -> None:
    file = tmp_path / "node1.toml"
    file.write_text('data_dir = "/srv/raftd"\n' + ONE + 'node2 = "tcp://127.0.0.1:7002"\n')
    result = CliRunner().invoke(cli, ["check-config", str(file)])
    assert result.exit_code == 0
    rows = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert ["member", "node1 at tcp://127.0.0.1:7001 (this node)"] in rows
    assert ["member", "node2 at tcp://127.0.0.1:7002"] in rows
    assert ["data_dir", "/srv/raftd"] in rows
    assert ["election_timeout_ms", "1000 to 2000"] in rows
    assert ["limits.entry_bytes", "1048576"] in rows
    assert result.stderr.startswith(f"warning: {file}: members: 2 nodes survive")


@pytest.mark.parametrize("command", [["check-config"], ["run", "--config"]])
def test_a_bad_configuration_is_status_2(
    tmp_path: Path, server: FakeServer, command: list[str]
) -> None:
    file = tmp_path / "node1.toml"
    file.write_text(f"nam = 1\nlog = 2\n{ONE}")
    result = CliRunner().invoke(cli, [*command, str(file)])
    assert (result.exit_code, result.stdout, server.configs) == (2, "", [])
    assert result.stderr.splitlines() == [
        f"error: {file}: nam: unknown; did you mean name?",
        f"error: {file}: log: 2 is not a string; write it in quotes",
    ]


@pytest.mark.parametrize("command", [["check-config"], ["run", "--config"]])
def test_what_is_wrong_is_an_error_in_the_journal(tmp_path: Path, command: list[str]) -> None:
    """sd-daemon(3), line by line; `journalctl -p err` shows it."""
    file = tmp_path / "node1.toml"
    file.write_text(f"nam = 1\nlog = 2\n{ONE}")
    status = os.fstat(2)
    runner = CliRunner(env={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    result = runner.invoke(cli, [*command, str(file)])
    assert result.exit_code == 2
    lines = [line.partition(f" {file}: ")[0] for line in result.stderr.splitlines()]
    assert lines == ["<3>error:", "<3>error:"]
    file.write_text(f'{ONE}node2 = "tcp://127.0.0.1:7002"\n')
    assert runner.invoke(cli, ["check-config", str(file)]).stderr.startswith("<4>warning: ")


@pytest.mark.parametrize("command", [["check-config"], ["run", "--config"]])
def test_a_configuration_that_may_not_be_read(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told like all that may be wrong with it, and not as a mistake in the command line."""
    file = tmp_path / "node1.toml"
    file.write_text(ONE)

    def not_yours(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(Path, "open", not_yours)
    result = CliRunner().invoke(cli, [*command, str(file)])
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {file}: cannot be read (Permission denied); check the path and its permissions\n",
    )


def test_a_bad_raftd_log_is_status_2(tmp_path: Path, server: FakeServer) -> None:
    file = tmp_path / "node1.toml"
    file.write_text(ONE)
    result = CliRunner(env={"RAFTD_LOG": "loud"}).invoke(cli, ["run", "--config", str(file)])
    assert (result.exit_code, server.configs) == (2, [])
    assert result.stderr.startswith("error: RAFTD_LOG: 'loud' is no log level")


def test_the_status_of_the_server_is_that_of_the_process(
    tmp_path: Path, server: FakeServer
) -> None:
    file = tmp_path / "node1.toml"
    file.write_text(f'log = "kv=error"\n{ONE}node2 = "tcp://127.0.0.1:7002"\n')
    result = CliRunner().invoke(cli, ["run", "--config", str(file)])
    assert result.exit_code == 4
    assert [config.source for config in server.configs] == [file]
    assert logging.getLogger("raftd.kv").level == logging.ERROR
    assert "warning server: " in result.stderr
    assert "members: 2 nodes survive" in result.stderr


def test_without_a_file_it_takes_the_only_one(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = tmp_path / "raftd"
    result = CliRunner().invoke(cli, ["run"])
    assert (result.exit_code, server.configs) == (2, [])
    assert result.stderr == f"error: no configurations in {own}; name one with --config FILE\n"
    own.mkdir()
    (own / "node1.toml").write_text(ONE)
    CliRunner().invoke(cli, ["run"])
    assert [config.source for config in server.configs] == [own / "node1.toml"]
    (own / "node2.toml").write_text(ONE)
    result = CliRunner().invoke(cli, ["run"])
    assert f"2 configurations in {own}; name one" in result.stderr


@pytest.mark.parametrize(
    ("place", "way"),
    [("etc", "`systemctl start raftd@node1`"), ("home", "-- raftd run --config {file}`")],
)
def test_root_runs_no_node_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, way: str
) -> None:
    """Its owner could not open what root makes there."""
    from raftd import server  # noqa: PLC0415 - other tests put theirs in its place

    monkeypatch.setattr(raftd.places, "SYSTEM_CONFIGURATION", tmp_path / "etc")
    data, file = tmp_path / "data", tmp_path / place / "node1.toml"
    data.mkdir()
    file.parent.mkdir()
    file.write_text(f'data_dir = "{data}"\nsocket = "{tmp_path}/socket"\n{ONE}')
    if os.geteuid() == 0:
        os.chown(data, 65534, 65534)
    opened: list[Config] = []
    monkeypatch.setattr(server, "_open", opened.append)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    result = CliRunner().invoke(cli, ["run", "--config", str(file)])
    assert (result.exit_code, opened, list(data.iterdir())) == (2, [], [])
    owner = pwd.getpwuid(data.stat().st_uid).pw_name
    assert f"{data} belongs to {owner}, who could not use what root" in result.stderr
    assert way.format(file=file) in result.stderr
