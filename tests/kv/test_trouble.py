"""What keeps the store from its files: the right errno, and words that name the right culprit."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftd.kv import commands
from raftd.kv.commands import Get, Put, Range
from raftd.kv.errors import StateError
from raftd.kv.store import KeyValueStore
from raftd.state_machine import Committed
from tests.kv.test_files import fill, items

NOBODY = 65534


@contextlib.contextmanager
def limited(kind: int, value: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def put_much(store: KeyValueStore) -> None:
    body = commands.encode(Put(b"a", b"x" * (1 << 20)))
    store.apply([Committed(store.last_applied + 1, 1, 0, body)])


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.ENOSPC])
def test_a_quota_is_a_full_disk(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says of both no more than that a write failed, and there is free space."""
    store = KeyValueStore(tmp_path)
    fill(store, 1)

    def full(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    with limited(resource.RLIMIT_FSIZE, 512 << 10):
        with pytest.raises(StateError, match="disk I/O error") as raised:
            put_much(store)
        assert raised.value.errno == errno.EIO
        monkeypatch.setattr(tempfile, "TemporaryFile", full)
        with pytest.raises(StateError) as raised:
            put_much(store)
    assert raised.value.errno == number
    assert str(raised.value).startswith("disk full")
    assert str(raised.value).endswith(f": {tmp_path}/kv.db")
    put_much(store)
    assert len(items(store, Get(b"a"))) == 1
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["kv.db"]


def test_too_many_open_files(tmp_path: Path) -> None:
    store = KeyValueStore(tmp_path)
    fill(store, 1)
    with contextlib.ExitStack() as taken:
        taken.enter_context(limited(resource.RLIMIT_NOFILE, 256))
        with contextlib.suppress(OSError):
            while True:
                taken.callback(os.close, os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(StateError, match="Too many open files: ") as raised:
            items(store, Range(b""))
        assert raised.value.errno == errno.EMFILE
        assert len(store.read_now(commands.encode(Get(b"key000001")))) > 0
    store.close()


def test_symbolic_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "kv.db").symlink_to(tmp_path / "kv.db")
    with pytest.raises(StateError, match=r"Too many levels of symbolic links: .*/kv\.db$"):
        KeyValueStore(tmp_path)


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_file_of_somebody_else(suffix: str, tmp_path: Path) -> None:
    """SQLite opens what it may only read, and fails at the first write."""
    if os.geteuid() != 0:
        pytest.skip("only root can make one")
    place = Path(tempfile.mkdtemp())
    try:
        store = KeyValueStore(place)
        fill(store, 1)
        shutil.copytree(place, place / "left", ignore=lambda *_: ["left"])
        store.close()
        for path in (place, place / "left"):
            path.chmod(0o777)
        os.chown(place / "left" / "kv.db", NOBODY, NOBODY)
        (place / "left" / f"kv.db{suffix}").chmod(0o400)
        os.chown(place / "left" / f"kv.db{suffix}", 0, 0)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(StateError, match=rf"Permission denied: .*/kv\.db{suffix}$"):
                KeyValueStore(place / "left")
        finally:
            os.seteuid(0)
    finally:
        shutil.rmtree(place)


def test_another_process_has_the_state_locked(tmp_path: Path) -> None:
    """It is said soon, as the event loop may have to wait here; nothing is done."""
    store = KeyValueStore(tmp_path)
    fill(store, 1)
    other = sqlite3.connect(tmp_path / "kv.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(StateError) as raised:
        fill(store, 1)
    assert time.monotonic() - began < 1
    assert raised.value.errno == errno.EBUSY
    assert str(raised.value) == f"another process has locked the state: {tmp_path}/kv.db"
    assert len(items(store, Range(b""))) == 1
    other.execute("ROLLBACK")
    fill(store, 1)
    other.close()
    store.close()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_fifo_is_in_no_way(suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = KeyValueStore(tmp_path)
    fill(store, 1)
    store.close()
    (tmp_path / f"kv.db{suffix}").unlink(missing_ok=True)
    os.mkfifo(tmp_path / f"kv.db{suffix}")
    signal.alarm(10)  # to open it would wait for ever
    try:
        store = KeyValueStore(tmp_path)
    finally:
        signal.alarm(0)
    assert store.last_applied == (1 if suffix else 0)
    assert caplog.messages == [f"removed {tmp_path}/kv.db{suffix}, which was no regular file"]
    fill(store, 1)
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["kv.db"]
