"""How the daemon ends when it cannot start."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from raftd import server
from raftd.config import Config
from raftd.exit_status import ExitStatus
from raftd.kv.commands import Put, encode
from raftd.kv.store import KeyValueStore
from raftd.raft.configuration import Configuration
from raftd.raft.state import SnapshotMetadata
from raftd.state_machine import Committed
from raftd.storage.disk import RealFiles
from raftd.storage.stopped import seed


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        name="n1",
        source=tmp_path / "raftd.toml",
        listen="tcp://127.0.0.1:1",
        advertise="tcp://127.0.0.1:1",
        data_dir=tmp_path / "data",
        socket=tmp_path / "socket",
        members={"n1": "tcp://127.0.0.1:1"},
    )


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Up to entry 2."""
    store = KeyValueStore(tmp_path / "other")
    store.apply([Committed(1, 1, 0, None), Committed(2, 1, 0, encode(Put(b"key", b"value")))])
    store.snapshot(tmp_path / "snapshot")
    store.close()
    return tmp_path / "snapshot"


def begin_with(config: Config, snapshot: Path, index: int) -> None:
    """The node has nothing but that snapshot."""
    config.data_dir.mkdir()
    members = Configuration(("n1",), addresses=dict(config.members))
    metadata = SnapshotMetadata(index, 1, members)
    seed(RealFiles(), config.data_dir, "n1", b"cluster-of-tests", snapshot, metadata)


@pytest.mark.parametrize("index", [2, 3], ids=["garbage", "too old"])
def test_a_snapshot_that_is_no_state_is_damage(
    config: Config, snapshot: Path, index: int, caplog: pytest.LogCaptureFixture
) -> None:
    if index == 2:
        snapshot.write_bytes(b"no database")
    begin_with(config, snapshot, index)
    assert server.run(config) == ExitStatus.DAMAGED
    (line,) = [each for each in caplog.records if each.levelname == "CRITICAL"]
    assert str(config.data_dir / "snapshots") in line.getMessage()
    assert line.exc_info is None


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOSPC, ExitStatus.NO_SPACE),
        (errno.EDQUOT, ExitStatus.NO_SPACE),
        (errno.EIO, ExitStatus.STORAGE_FAILED),
    ],
)
def test_no_space_for_the_state(
    config: Config,
    snapshot: Path,
    number: int,
    status: ExitStatus,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin_with(config, snapshot, 2)

    def fail(source: Path, target: Path) -> None:
        raise OSError(number, "it cannot be done", str(source))

    monkeypatch.setattr(shutil, "copyfile", fail)
    monkeypatch.setattr(server, "PAUSE_WITHOUT_SPACE", 0)
    assert server.run(config) == status
    (line,) = [each for each in caplog.records if each.levelname == "CRITICAL"]
    assert "cannot copy the snapshot" in line.getMessage()
    assert line.exc_info is None
