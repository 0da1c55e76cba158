"""Which daemon raftctl talks to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from raftctl import discovery
from tests.raftctl.conftest import Raftctl
from tests.raftctl.fake_daemon import FakeDaemon


class Host:
    """Nodes of a host, each a fake daemon that knows its name."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack

    def start(self, place: str, name: str) -> FakeDaemon:
        """`place`: system, or run/raftd for the user's own."""
        path = self.directory / place / name / "raftd.sock"
        answers = {"GetVersion": {"version": "0.1.0", "node": f"{place}:{name}"}}
        return self._stack.enter_context(FakeDaemon(path, answers))


@pytest.fixture
def host(tmp_path: Path, surroundings: None) -> Iterator[Host]:
    with ExitStack() as stack:
        yield Host(tmp_path, stack)


def _asked(raftctl: Raftctl, *words: str) -> str:
    result = raftctl(*words, "version")
    assert result.code == 0, result.err
    return result.text.split()[-1]


@pytest.mark.parametrize("place", ["system", "run/raftd"])
def test_the_one_that_is_there(host: Host, raftctl: Raftctl, place: str) -> None:
    host.start(place, "node1")
    (host.directory / "system" / "empty").mkdir(parents=True)
    assert _asked(raftctl) == f"{place}:node1"


def test_none(host: Host, raftctl: Raftctl) -> None:
    result = raftctl("status")
    assert result.code == 3
    assert result.err == (
        f"raftctl: no daemon: no socket below {host.directory}/system and "
        f"{host.directory}/run/raftd; --socket or RAFTD_SOCKET name another one\n"
    )


def test_several(host: Host, raftctl: Raftctl) -> None:
    host.start("system", "node2")
    host.start("system", "node1")
    host.start("run/raftd", "mine")
    result = raftctl("status")
    assert result.code == 2
    assert result.err == (
        "raftctl: several daemons are there; say which: --node node1 or --node node2 or "
        "--node mine\n"
    )
    assert _asked(raftctl, "--node", "node2") == "system:node2"
    assert _asked(raftctl, "--node", "mine") == "run/raftd:mine"


def test_the_same_name_in_both_places(host: Host, raftctl: Raftctl) -> None:
    system, own = host.start("system", "node1"), host.start("run/raftd", "node1")
    ways = f"--socket {system.path} or --socket {own.path}"
    result = raftctl("status")
    assert (result.code, result.err) == (
        2,
        f"raftctl: several daemons are there; say which: {ways}\n",
    )
    result = raftctl("--node", "node1", "status")
    assert (result.code, result.err) == (2, f"raftctl: node1 is there twice; say which: {ways}\n")


def test_socket_before_node_before_environment(
    host: Host, raftctl: Raftctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.start("system", "node1")
    host.start("system", "node2")
    far = host.start("far", "node3")
    monkeypatch.setenv("RAFTD_SOCKET", str(far.path))
    assert _asked(raftctl) == "far:node3"
    assert _asked(raftctl, "--node", "node1") == "system:node1"
    assert _asked(raftctl, "--socket", str(far.path), "--node", "node1") == "far:node3"


def test_the_last_option_holds(host: Host, raftctl: Raftctl) -> None:
    host.start("system", "node1")
    host.start("system", "node2")
    result = raftctl("--node", "node1", "version", "--node", "node2")
    assert result.text.split()[-1] == "system:node2"


def test_a_node_that_is_not_there(host: Host, raftctl: Raftctl) -> None:
    host.start("system", "node1")
    result = raftctl("--node", "node9", "status")
    assert result.code == 3
    assert result.err == (
        f"raftctl: no daemon for node9: there is no {host.directory}/system/node9/raftd.sock or "
        f"{host.directory}/run/raftd/node9/raftd.sock\n"
    )


@pytest.mark.parametrize("name", ["", ".", "..", "../system/node1", "a/b", "x" * 64, "\x1b"])
def test_names_that_are_none(host: Host, raftctl: Raftctl, name: str) -> None:
    result = raftctl("--node", name, "status")
    assert result.code == 2
    assert "a node's name has 1 to 63 letters, digits, '.', '_' and '-'" in result.err
    assert "\x1b" not in result.err


def test_a_place_that_a_user_may_not_use_does_not_make_two(
    host: Host, raftctl: Raftctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = host.start("system", "node1").path
    host.start("run/raftd", "mine")
    monkeypatch.setattr(os, "access", lambda path, _mode, **_: Path(path) != secret)
    assert _asked(raftctl) == "run/raftd:mine"


def test_without_a_runtime_directory(
    host: Host, raftctl: Raftctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    host.start("system", "node1")
    assert discovery.nodes() == ["node1"]
    assert raftctl("version").err == ""
