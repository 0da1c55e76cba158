"""raftd.server: the order in which a node is taken down, and what it may be believed then."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from raftd import process, server
from raftd.config import Config
from raftd.exit_status import ExitStatus
from raftd.kv.commands import Put, encode
from raftd.kv.store import KeyValueStore
from raftd.raft.state import HardState
from raftd.state_machine import Committed
from raftd.storage import document
from raftd.storage.directory import NodeDocument
from raftd.storage.disk import Disk
from raftd.storage.files import REAL_FILES
from tests.config_file import ONE, loaded
from tests.storage.node import entry

Life = Callable[[Disk, KeyValueStore], object]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    text = f'name = "node1"\ndata_dir = "{tmp_path}/data"\nsocket = "{tmp_path}/socket"\n'
    return loaded(tmp_path / "raftd.toml", text + "listen = 'tcp://127.0.0.1:7001'\n" + ONE)


@pytest.fixture
def run(config: Config, monkeypatch: pytest.MonkeyPatch) -> Callable[[Life], int]:
    """Run the daemon with something else in the place of its event loop."""
    monkeypatch.setattr(process, "settle_memory", lambda: None)

    def run(life: Life) -> int:
        def instead(_: object, __: Config, disk: Disk, store: KeyValueStore, ___: object) -> None:
            life(disk, store)

        monkeypatch.setattr(trio, "run", instead)
        return server.run(config)

    return run


def idle(_: Disk, __: KeyValueStore) -> None:
    pass


def fill(disk: Disk, store: KeyValueStore) -> None:
    body = encode(Put(b"a", b"1" * 10_000))
    disk.save(HardState(1), [entry(1, 1, body)])
    store.apply([Committed(1, 1, 0, body)])


class Syncs:
    """In place of os.fsync: what was synced, in order, and what was in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: str | None = None) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self._failing = failing
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        self.seen.append((path.name, b"" if path.is_dir() else path.read_bytes()))
        if path.name == self._failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._fsync(handle)

    def names(self) -> list[str]:
        return [name for name, _ in self.seen]


def is_closed(config: Config) -> bool:
    """Does the directory say that it was closed cleanly?"""
    found = document.read(REAL_FILES, config.data_dir / "node-id", "node-id", NodeDocument)
    assert found is not None
    return found.closed is not None


def replaced(tmp_path: Path) -> Life:
    def life(disk: Disk, store: KeyValueStore) -> None:
        store.snapshot(tmp_path / "snapshot")
        fill(disk, store)
        store.restore(tmp_path / "snapshot")

    return life


@pytest.mark.parametrize("kind", ["new", "filled", "restored"])
def test_the_state_is_durable_before_the_directory_is_called_closed(
    kind: str,
    tmp_path: Path,
    config: Config,
    run: Callable[[Life], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next start believes it then, after a loss of power too."""
    lives: dict[str, Life] = {"new": idle, "filled": fill, "restored": replaced(tmp_path)}
    syncs = Syncs(monkeypatch)

    def life(disk: Disk, store: KeyValueStore) -> None:
        lives[kind](disk, store)
        syncs.seen.clear()

    assert run(life) == ExitStatus.OK
    assert is_closed(config)
    names = syncs.names()
    assert names.index("kv.db") < names.index("state") < names.index("node-id.tmp")
    (left,) = (config.data_dir / "state").iterdir()
    assert left.read_bytes() == dict(syncs.seen)["kv.db"], "nothing is written behind that"


@pytest.mark.parametrize("failing", ["kv.db", "state"])
def test_a_state_that_cannot_be_made_durable_is_not_believed(
    failing: str,
    config: Config,
    run: Callable[[Life], int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor is what is left of it in memory, which a later fsync would not tell (pitfall 65)."""
    with monkeypatch.context() as patch:
        Syncs(patch, failing)
        assert run(fill) == ExitStatus.OK
    assert not is_closed(config)
    assert not (config.data_dir / "state" / "kv.db").exists()
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "the state is not durable (Input/output error: " in said[0].getMessage()
    assert said[0].exc_info is None
    assert run(idle) == ExitStatus.OK
    assert is_closed(config)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.EDQUOT, ExitStatus.NO_SPACE),
        (errno.EMFILE, ExitStatus.STORAGE_FAILED),
    ],
)
def test_a_snapshot_that_cannot_be_taken_over_ends_the_node_with_words(
    number: int,
    status: int,
    run: Callable[[Life], int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    def life(disk: Disk, store: KeyValueStore) -> None:
        path = disk.snapshot_path()
        store.snapshot(path)
        monkeypatch.setattr(shutil, "copyfile", fail)
        store.restore(path)

    monkeypatch.setattr(server, "PAUSE_WITHOUT_SPACE", 0)
    assert run(life) == status
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert f"kv.db.new: {os.strerror(number)}" in said[0].getMessage()
    assert said[0].exc_info is None


def test_a_state_that_others_have_open_is_not_called_durable(
    config: Config, run: Callable[[Life], int], caplog: pytest.LogCaptureFixture
) -> None:
    """Part of it stands in a log that they bring into the file at a time of their own."""
    others: list[sqlite3.Connection] = []

    def life(disk: Disk, store: KeyValueStore) -> None:
        fill(disk, store)
        other = sqlite3.connect(config.data_dir / "state" / "kv.db")
        other.execute("SELECT * FROM position").fetchall()
        others.append(other)

    assert run(life) == ExitStatus.OK
    assert not is_closed(config)
    assert "another process has it open" in caplog.text
    others[0].close()
    found: list[int] = []
    assert run(lambda _, store: found.append(store.last_applied)) == ExitStatus.OK
    assert found == [1]


@pytest.mark.parametrize(
    ("hard", "connections"),
    [(200, 100), (1500, 750), (2047, 1023), (2048, 1024), (resource.RLIM_INFINITY, 1024)],
)
def test_clients_leave_files_for_the_log(
    hard: int,
    connections: int,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever connects, and does not more than that, could end the node otherwise."""
    limits: list[tuple[int, int]] = []
    seen: list[Config] = []
    monkeypatch.setattr(process, "settle_memory", lambda: None)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    monkeypatch.setattr(trio, "run", lambda _, config, *__: seen.append(config))
    assert server.run(config) == ExitStatus.OK
    assert limits == [(2048 if hard == resource.RLIM_INFINITY else hard, hard)]
    assert seen[0].limits.connections == connections
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == (connections < 1024)
