"""Where files are when nobody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raftd import places


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ann/data")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/ann/config")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")


def test_the_system_has_its_places() -> None:
    assert places.data_directory("node1", system=True) == Path("/var/lib/raftd/node1")
    assert places.socket("node1", system=True) == Path("/run/raftd/node1/raftd.sock")


def test_a_user_has_places_of_their_own() -> None:
    assert places.data_directory("node1", system=False) == Path("/home/ann/data/raftd/node1")
    assert places.socket("node1", system=False) == Path("/run/user/1000/raftd/node1/raftd.sock")


def test_root_and_the_files_in_etc_are_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert places.is_system(Path("/etc/raftd/node1.toml"))
    assert not places.is_system(Path("/home/ann/node1.toml"))
    assert not places.is_system(Path("/etc/raftd-mine/node1.toml"))
    assert places.configuration_directory() == Path("/home/ann/config/raftd")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert places.is_system(Path("/home/ann/node1.toml"))
    assert places.configuration_directory() == Path("/etc/raftd")


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("/srv/raftd/node1", "/srv/raftd/node1"),
        ("/srv/raftd", "/srv/raftd/node1"),
        ("/srv/raftd/node1:/srv/other", "/srv/raftd/node1"),
        (":relative:/srv/raftd", "/srv/raftd/node1"),
        ("", "/var/lib/raftd/node1"),
        ("relative", "/var/lib/raftd/node1"),
    ],
)
def test_what_systemd_made_comes_first(
    monkeypatch: pytest.MonkeyPatch, variable: str, expected: str
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", variable)
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/x/node1")
    assert places.data_directory("node1", system=True) == Path(expected)
    assert places.socket("node1", system=True) == Path("/run/x/node1/raftd.sock")
