"""`raftd inspect`, `repair`, `recover` and `restore`, as an administrator types them."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftd import backup, record
from raftd.cli import cli
from raftd.kv import commands
from raftd.kv.store import KeyValueStore
from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry, EntryType
from raftd.raft.state import HardState, SnapshotMetadata
from raftd.replay import committed
from raftd.state_machine import Command, encode_command
from raftd.storage.disk import DirectoryMismatch, Disk

MEMBERS = {name: f"tcp://127.0.0.1:{7000 + n}" for n, name in enumerate(("n1", "n2", "n3"), 1)}
INITIAL = Configuration(tuple(MEMBERS), addresses=MEMBERS)
LAST = 60


def put(index: int) -> Entry:
    body = commands.encode(commands.Put(f"key{index % 10}".encode(), str(index).encode().ljust(60)))
    payload = encode_command(Command(0, "n1", body))
    return record.decode(record.encode(index, 1, EntryType.COMMAND, payload, 1_790_000_000_000))


def reopen(directory: Path) -> Disk:
    return Disk.open(
        directory, name="n1", cluster_id=bytes(16), initial=INITIAL, segment_bytes=4096
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A node with a snapshot at 20 and entries up to LAST in its log."""
    path = tmp_path / "n1"
    disk = reopen(path)
    disk.save(HardState(1, "n1"), [])
    store = KeyValueStore(path / "state")
    for first in range(1, LAST, 10):
        batch = [put(index) for index in range(first, first + 10)]
        disk.save(None, batch)
        store.apply([committed(entry) for entry in batch])
        if first == 11:
            file = disk.snapshot_path()
            store.snapshot(file)
            disk.adopt_snapshot(file, SnapshotMetadata(20, 1, INITIAL))
    store.close()
    disk.close()
    return path


@pytest.fixture
def damaged(directory: Path) -> Path:
    second = sorted((directory / "wal").iterdir())[1]
    data = bytearray(second.read_bytes())
    data[900] ^= 1
    second.write_bytes(data)
    return directory


def raftd(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(each) for each in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def digest(result: Result) -> str:
    found = re.search(r"--yes ([0-9a-f]{12})", result.stderr)
    assert found is not None
    return found[1]


def value(directory: Path, key: bytes) -> bytes:
    """What a node that starts there would have, from its snapshot alone."""
    disk = reopen(directory)
    file = disk.snapshot_file
    assert file is not None
    row = sqlite3.connect(file).execute("SELECT value FROM items WHERE key = ?", (key,)).fetchone()
    disk.close()
    return bytes(row[0])


def test_inspect_a_whole_directory(directory: Path) -> None:
    result = raftd("inspect", directory)
    assert result.exit_code == 0
    assert re.search(r"Node +n1, life 1, closed in order at entry 60", result.stdout)
    assert re.search(r"Log +entries 1 to 60", result.stdout)
    assert re.search(r"Snapshot +up to entry 20 of term 1", result.stdout)
    assert "sealed" in result.stdout
    assert result.stdout.endswith("the node can start with it.\n")


def test_inspect_shows_entries(directory: Path) -> None:
    result = raftd("inspect", directory, "--entries", "3-5")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["INDEX", "3", "4", "5"]
    assert 'put "key4" = 60 bytes' in result.stdout
    assert "root@n1" in result.stdout, "as raftctl has it"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("x", "'x' is not like 7 or 7-12."),
        ("3-1", "'3-1' ends before it begins."),
        ("61", "error: no entry 61: the log has entries 1 to 60\n"),
        ("70-80", "error: no entries 70 to 80: the log has entries 1 to 60\n"),
    ],
)
def test_inspect_shows_no_entries_that_are_not_there(
    directory: Path, wanted: str, told: str
) -> None:
    result = raftd("inspect", directory, "--entries", wanted)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert len(raftd("inspect", directory, "--entries", "60-80").stdout.splitlines()) == 2


def test_inspect_json(damaged: Path) -> None:
    result = raftd("inspect", damaged, "--json")
    assert result.exit_code == 4
    found = json.loads(result.stdout)
    assert (found["whole"], found["node"], found["last_index"]) == (False, "n1", None)
    assert [each["state"] for each in found["segments"]][:2] == ["sealed", "damaged"]


def test_inspect_a_damaged_directory(damaged: Path) -> None:
    result = raftd("inspect", damaged)
    assert result.exit_code == 4
    assert "checksum" in result.stderr
    assert "in doubt" in result.stderr
    assert raftd("inspect", damaged, "--entries", "1-3").stdout.count("put") == 3


def test_inspect_changes_nothing(directory: Path) -> None:
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file() and p.name != "lock"}
    raftd("inspect", directory)
    raftd("repair", directory)
    raftd("recover", directory)
    after = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file() and p.name != "lock"}
    assert after == before


@pytest.mark.parametrize("command", ["inspect", "repair", "recover"])
def test_a_running_node_is_left_alone(directory: Path, command: str) -> None:
    """pitfall 76."""
    disk = reopen(directory)
    result = raftd(command, directory)
    disk.close()
    assert result.exit_code == 3
    assert f"process {os.getpid()}" in result.stderr


@pytest.mark.parametrize("command", ["inspect", "repair", "recover"])
def test_no_directory(tmp_path: Path, command: str) -> None:
    nowhere = tmp_path / "nowhere"
    result = raftd(command, nowhere)
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {nowhere}: there is no such directory\n",
    )
    (tmp_path / "passwd").touch()
    result = raftd(command, tmp_path)
    assert (result.exit_code, result.stderr) == (
        4,
        f"error: {tmp_path}: this is no data directory of raftd: it has none of its files.\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["passwd"], "and nothing is made"


@pytest.mark.parametrize("command", ["inspect", "repair", "recover"])
def test_hostile_files(directory: Path, command: str) -> None:
    """pitfall 77: one sentence, no traceback, no hang."""
    for name in ("node-id", "peers", "hard-state", "wal", "snapshots"):
        for trick in ("fifo", "directory", "loop", "zeros", "random", "file"):
            place = directory.parent / f"{name}-{trick}"
            shutil.copytree(directory, place)
            target = place / name
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            match trick:
                case "fifo":
                    os.mkfifo(target)
                case "directory":
                    target.mkdir()
                case "loop":
                    target.symlink_to(target)
                case "zeros":
                    target.write_bytes(bytes(5000))
                case "random":
                    target.write_bytes(os.urandom(9000))
                case "file":
                    target.write_bytes(b"raftd node-id 99999999999 00000000\n{}")
            result = raftd(command, place)
            if (name, trick) == ("snapshots", "directory"):
                assert result.exit_code in {0, 2}, "the log has everything"
                continue
            assert result.exit_code in {4, 5}, (name, trick, result.output)
            assert result.stderr.startswith("error: ")


def test_repair_demands_the_hash_where_entries_go(damaged: Path) -> None:
    shown = raftd("repair", damaged)
    assert shown.exit_code == 2
    assert "WOULD BE MISSING" in shown.stdout
    assert raftd("repair", damaged, "--yes", "0123456789ab").exit_code == 2
    assert raftd("inspect", damaged).exit_code == 4, "nothing was done"
    done = raftd("repair", damaged, "--yes", digest(shown))
    assert done.exit_code == 0
    assert list(damaged.glob("set-aside-*/*.seg*"))
    assert raftd("inspect", damaged).exit_code == 0
    with pytest.raises(DirectoryMismatch, match="cannot keep what it promised"):
        reopen(damaged)
    shown = raftd("recover", damaged)
    assert raftd("recover", damaged, "--yes", digest(shown)).exit_code == 0
    assert 20 <= reopen(damaged).last_index < LAST


def test_recover_makes_a_cluster_of_one(directory: Path) -> None:
    shown = raftd("recover", directory)
    assert shown.exit_code == 2
    assert "up to 60 of term 1, written 2026-" in shown.stdout
    assert re.search(r"Shut out +n2, n3", shown.stdout)
    assert raftd("recover", directory, "--yes", "nonsense").exit_code == 2
    done = raftd("recover", directory, "--yes", digest(shown))
    assert done.exit_code == 0
    assert value(directory, b"key9") == b"59".ljust(60)
    disk = reopen(directory)
    assert disk.identity.cluster_id != bytes(16)
    assert disk.snapshot.configuration.voters == ("n1",)
    assert disk.snapshot.configuration.addresses == {"n1": MEMBERS["n1"]}
    assert (disk.snapshot.last_included_index, disk.last_index) == (LAST, LAST)
    disk.close()
    old = next(directory.glob("before-recover-*"))
    assert raftd("inspect", old).exit_code == 0, "the old directory is whole"
    assert not (directory / "recovered").exists()


def test_a_plan_holds_for_what_was_shown(directory: Path) -> None:
    old = digest(raftd("recover", directory))
    disk = reopen(directory)
    disk.save(None, [put(LAST + 1)])
    disk.close()
    assert raftd("recover", directory, "--yes", old).exit_code == 2


@pytest.mark.parametrize("gone", ["peers", "hard-state", "wal", "snapshots"])
def test_a_recovery_that_was_broken_off_is_ended(directory: Path, gone: str) -> None:
    """As after a crash between two renames: a start refuses, and the same command ends it."""
    copy = directory.parent / "copy"
    shutil.copytree(directory, copy)
    assert raftd("recover", copy, "--yes", digest(raftd("recover", copy))).exit_code == 0
    new = directory / "recovered"
    new.mkdir()
    old = directory / "before-recover-20260101T000000Z"
    old.mkdir()
    (directory / "node-id").rename(old / "node-id")
    for name in ("node-id", "peers", "hard-state", "wal", "snapshots"):
        moved = (directory if name == gone else new) / name
        if name == gone:
            moved.rename(old / name)
        (copy / name).rename(moved)
    assert "missing" in raftd("inspect", directory).stderr
    done = raftd("recover", directory)
    assert done.exit_code == 0, done.output
    assert value(directory, b"key9") == b"59".ljust(60)
    assert sorted(p.name for p in old.iterdir()) == sorted(
        ["node-id", "peers", "hard-state", "wal", "snapshots", "state"]
    )


def configuration(tmp_path: Path, name: str, label: str = "") -> Path:
    file = tmp_path / f"{name}.toml"
    lines = [f'name = "{name}"', f'data_dir = "{tmp_path}/new/{name}"', f'cluster = "{label}"']
    lines += [f'socket = "{tmp_path}/{name}.sock"', "[members]"]
    lines += [f'{each} = "tcp://127.0.0.1:{8000 + n}"' for n, each in enumerate(("n1", "n2", "n3"))]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_backup_becomes_a_new_cluster(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    made = raftd("recover", directory, "--to", file)
    assert made.exit_code == 0
    assert raftd("inspect", directory).exit_code == 0
    assert backup.verify(file).last_included_index == LAST
    ids = set()
    for name in ("n1", "n2", "n3"):
        result = raftd("restore", file, "--config", configuration(tmp_path, name))
        assert result.exit_code == 0, result.output
        place = tmp_path / "new" / name
        assert sorted(p.name for p in place.iterdir()) == sorted(
            ["hard-state", "lock", "node-id", "peers", "snapshots", "wal"]
        )
        found = json.loads(raftd("inspect", place, "--json").stdout)
        assert found["whole"]
        ids.add(found["cluster_id"])
    assert len(ids) == 1
    assert ids != {bytes(16).hex()}
    again = raftd("restore", file, "--config", configuration(tmp_path, "n1"))
    assert again.exit_code == 4
    assert "something already" in again.stderr
    shutil.rmtree(tmp_path / "new" / "n1")
    raftd("restore", file, "--config", configuration(tmp_path, "n1", label="other"))
    other = json.loads(raftd("inspect", tmp_path / "new" / "n1", "--json").stdout)
    assert other["cluster_id"] not in ids, "another label is another cluster"


def test_a_backup_that_is_not_there_is_a_wrong_command_line(tmp_path: Path) -> None:
    """Status 5 would say that a disk has failed."""
    place = configuration(tmp_path, "n1")
    result = raftd("restore", tmp_path / "nope", "--config", place)
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: cannot read {tmp_path}/nope: No such file or directory\n",
    )
    assert raftd("restore", place / "nope", "--config", place).exit_code == 2
    result = raftd("restore", place, "--config", place)
    assert result.exit_code == 4
    assert "this is no backup made by `raftctl snapshot save`" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("number", "status"), [(errno.EACCES, 2), (errno.ENOSPC, 7), (errno.EDQUOT, 7), (errno.EIO, 5)]
)
def test_what_the_system_refuses_has_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    def failing(_: Path) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    monkeypatch.setattr("raftd.cli.offline.Stopped", lambda _files, path, _: failing(path))
    result = raftd("inspect", tmp_path)
    assert (result.exit_code, result.stderr) == (
        status,
        f"error: {tmp_path}: {os.strerror(number)}\n",
    )


def test_a_backup_is_not_written_over_another_file(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").touch()
    result = raftd("recover", directory, "--to", tmp_path / "backup")
    assert result.exit_code == 2
    assert "there is a file already" in result.stderr


def test_a_damaged_backup_makes_nothing(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    raftd("recover", directory, "--to", file)
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.write_bytes(data)
    result = raftd("restore", file, "--config", configuration(tmp_path, "n1"))
    assert result.exit_code == 4
    assert "SHA-256" in result.stderr
    assert not any((tmp_path / "new" / "n1").iterdir())
