"""Backups: what is written is read back, and anything else is told from it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd import backup
from raftd.backup import Backup, NoBackup


def database(path: Path, rows: int = 50) -> bytes:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE items (key, value)")
    connection.executemany("INSERT INTO items VALUES (?, ?)", [(n, "x" * 100) for n in range(rows)])
    connection.commit()
    connection.close()
    return path.read_bytes()


def about(data: bytes, **fields: Any) -> Backup:
    values: dict[str, Any] = {
        "cluster_id": "ab" * 16,
        "last_included_index": 7,
        "last_included_term": 3,
        "members": {"n1": "tcp://127.0.0.1:1"},
        "node": "n1",
        "version": "0.1.0",
        "time_ms": 1,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return Backup(**values | fields)


def written(path: Path, data: bytes) -> Backup:
    writer = backup.Writer(path)
    writer.write(data)
    expected = about(data)
    writer.finish(expected)
    return expected


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written(tmp_path / "backup", database(tmp_path / "db"))
    return tmp_path / "backup"


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    data = database(tmp_path / "db")
    expected = written(tmp_path / "backup", data)
    seen: list[int] = []
    assert backup.read(tmp_path / "backup") == expected
    assert backup.verify(tmp_path / "backup", seen.append) == expected
    assert seen[-1] == len(data)
    assert backup.extract(tmp_path / "backup", tmp_path / "out") == expected
    assert (tmp_path / "out").read_bytes() == data
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600


def test_sqlite_opens_it(file: Path) -> None:
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT count(*) FROM items").fetchone() == (50,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    backup.verify(file)


def test_every_flipped_byte_is_found(file: Path, tmp_path: Path) -> None:
    """pitfall 61."""
    data = bytearray(file.read_bytes())
    ends = range(len(data) - 420, len(data))
    for offset in [*range(0, len(data), 997), *ends]:
        data[offset] ^= 1
        file.write_bytes(data)
        with pytest.raises(NoBackup):
            backup.extract(file, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        data[offset] ^= 1


def test_every_shorter_file_is_found(file: Path) -> None:
    data = file.read_bytes()
    for size in [*range(0, len(data), 997), *range(len(data) - 30, len(data))]:
        file.write_bytes(data[:size])
        with pytest.raises(NoBackup):
            backup.verify(file)


def test_nothing_is_overwritten(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(FileExistsError):
        backup.Writer(file)
    assert file.read_bytes() == before


def test_an_abandoned_one_leaves_nothing(tmp_path: Path) -> None:
    writer = backup.Writer(tmp_path / "backup")
    writer.write(b"half")
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_what_came_must_be_what_was_promised(tmp_path: Path) -> None:
    writer = backup.Writer(tmp_path / "backup")
    writer.write(b"other bytes")
    with pytest.raises(NoBackup, match="SHA-256"):
        writer.finish(about(b"some bytes"))
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def ending(fields: object) -> bytes:
    body = json.dumps(fields).encode()
    length = len(body).to_bytes(8, "little")
    return body + length + crc32(body + length).to_bytes(4, "little") + backup.MAGIC


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": "1"},
        {"size": -1},
        {"size": True},
        {"last_included_index": 1.5},
        {"cluster_id": "xy"},
        {"members": ["n1"]},
        {"members": {"n1": 5}},
        {"more": 1},
        {"node": None},
    ],
)
def test_an_end_that_makes_no_sense(tmp_path: Path, change: dict[str, object]) -> None:
    fields = {"format": 1, **about(b"")._asdict()}
    path = tmp_path / "backup"
    path.write_bytes(ending(fields))
    backup.verify(path)
    path.write_bytes(ending(fields | change))
    with pytest.raises(NoBackup):
        backup.verify(path)


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    path.write_bytes(ending({"format": 2, "whatever": 1}))
    with pytest.raises(NoBackup, match="newer than this raftd knows"):
        backup.read(path)


@given(st.binary(max_size=200), st.binary(max_size=60), st.booleans())
def test_any_bytes(tmp_path_factory: Any, front: bytes, body: bytes, whole: bool) -> None:
    """pitfall 77."""
    path = tmp_path_factory.getbasetemp() / "any"
    end = len(body).to_bytes(8, "little")
    if whole:
        end += crc32(body + end).to_bytes(4, "little") + backup.MAGIC
    path.write_bytes(front + body + end)
    with pytest.raises(NoBackup):
        backup.verify(path)
