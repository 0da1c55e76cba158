"""The file behind the store: damage, restarts, snapshots, and what is no snapshot."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raftd.kv import commands, database
from raftd.kv.commands import Get, Item, Put, Range
from raftd.kv.store import KeyValueStore
from raftd.state_machine import Committed

Maker = Callable[[Path], object]


def fill(store: KeyValueStore, count: int, size: int = 100) -> None:
    first = store.last_applied + 1
    store.apply(
        [
            Committed(i, 2, 0, commands.encode(Put(b"key%06d" % i, b"x" * size)))
            for i in range(first, first + count)
        ]
    )


def items(store: KeyValueStore, query: commands.Query) -> tuple[Item, ...]:
    return commands.decode_items(store.read(commands.encode(query))).items


def contents(path: Path) -> tuple[int, list[tuple[bytes, int]]]:
    """Index and keys of a snapshot, as any SQLite client sees them."""
    with sqlite3.connect(path) as connection:
        (index,) = connection.execute("SELECT last_applied_index FROM position").fetchone()
        found = connection.execute("SELECT key, revision FROM items ORDER BY key").fetchall()
    connection.close()
    return index, found


def numbered(first: int, last: int) -> list[tuple[bytes, int]]:
    return [(b"key%06d" % i, i) for i in range(first, last + 1)]


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A good snapshot of a hundred keys."""
    store = KeyValueStore(tmp_path / "origin")
    fill(store, 100)
    path = tmp_path / "good.snapshot"
    store.snapshot(path)
    store.close()
    return path


def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    store = KeyValueStore(tmp_path / "new" / "state")
    fill(store, 10)
    store.close()
    store = KeyValueStore(tmp_path / "new" / "state")
    assert (store.last_applied, store.last_applied_term) == (10, 2)
    fill(store, 1)
    assert len(items(store, Range(b""))) == 11
    store.close()
    store.close()


def test_fresh_forgets_everything(tmp_path: Path) -> None:
    store = KeyValueStore(tmp_path)
    fill(store, 10)
    store.close()
    store = KeyValueStore(tmp_path, fresh=True)
    assert store.last_applied == 0
    assert items(store, Range(b"")) == ()
    store.close()


def files_of_a_killed_store(tmp_path: Path) -> Path:
    """Main file with fifty entries, and a write-ahead log with fifty more."""
    store = KeyValueStore(tmp_path / "killed")
    fill(store, 50)
    store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for _ in range(5):
        fill(store, 10)
    copy = tmp_path / "left"
    shutil.copytree(tmp_path / "killed", copy)
    store.close()
    return copy


def test_a_torn_write_ahead_log_gives_an_earlier_whole_state(tmp_path: Path) -> None:
    left = files_of_a_killed_store(tmp_path)
    log = (left / "kv.db-wal").read_bytes()
    seen = set()
    for length in range(0, len(log), len(log) // 40):
        (left / "kv.db-wal").write_bytes(log[:length])
        copy = tmp_path / f"cut-{length}"
        shutil.copytree(left, copy)
        store = KeyValueStore(copy)
        found = [(item.key, item.revision) for item in items(store, Range(b""))]
        assert found == numbered(1, store.last_applied)
        seen.add(store.last_applied)
        store.close()
    assert len(seen) > 3


@pytest.mark.parametrize("where", [0, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_made_anew(
    tmp_path: Path, where: float, caplog: pytest.LogCaptureFixture
) -> None:
    """pitfall 91"""
    store = KeyValueStore(tmp_path)
    fill(store, 500)
    store.close()
    data = (tmp_path / "kv.db").read_bytes()
    (tmp_path / "kv.db").write_bytes(data[: int(len(data) * where)])
    with caplog.at_level(logging.WARNING, "raftd.kv"):
        store = KeyValueStore(tmp_path)
    assert store.last_applied == 0
    assert "starting with an empty state" in caplog.text
    fill(store, 3)
    assert len(items(store, Range(b""))) == 3
    store.close()


def other_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {database.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {database.SCHEMA_VERSION}")
        connection.execute("CREATE TABLE stranger (x)")
    connection.close()


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE stranger (x)")
    connection.close()


def changed(statement: str) -> Maker:
    def make(path: Path) -> None:
        database.open_writer(path).close()
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()

    return make


def broken_page(path: Path) -> None:
    store = KeyValueStore(path.parent / "donor")
    fill(store, 500)
    store.snapshot(path)
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 * 5 : 4096 * 6] = b"\xa5" * 4096
    path.write_bytes(data)


NO_DATABASES: dict[str, Maker] = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(8192)),
    "text": lambda path: path.write_bytes(b"hello world\n" * 1000),
    "header only": lambda path: path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000),
    "foreign": foreign,
    "other tables": other_tables,
    "newer": changed("PRAGMA user_version = 2"),
    "trigger": changed(
        "CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM items; END",
    ),
    "no position": changed("DELETE FROM position"),
    "negative": changed("UPDATE position SET last_applied_index = -1"),
    "broken page": broken_page,
}


@pytest.mark.parametrize("make", NO_DATABASES.values(), ids=NO_DATABASES)
def test_what_is_no_database_is_made_anew(
    tmp_path: Path, make: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    """pitfall 77"""
    state = tmp_path / "state"
    state.mkdir()
    make(state / "kv.db")
    (state / "kv.db-wal").write_bytes(b"garbage" * 1000)
    (state / "kv.db-shm").write_bytes(b"garbage" * 1000)
    with caplog.at_level(logging.WARNING, "raftd.kv"):
        store = KeyValueStore(state)
    assert store.last_applied == 0
    assert "kv.db cannot be used" in caplog.text
    fill(store, 3)
    store.close()
    assert KeyValueStore(state).last_applied == 3


@pytest.mark.parametrize("make", NO_DATABASES.values(), ids=NO_DATABASES)
def test_what_is_no_snapshot_changes_nothing(tmp_path: Path, make: Maker) -> None:
    """pitfall 53, pitfall 61"""
    bad = tmp_path / "bad.snapshot"
    make(bad)
    store = KeyValueStore(tmp_path / "state")
    fill(store, 7)
    with pytest.raises(ValueError, match="no snapshot"):
        store.restore(bad)
    assert store.last_applied == 7
    assert len(items(store, Range(b""))) == 7
    fill(store, 1)
    store.close()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["kv.db"]


def test_no_file_is_no_snapshot(tmp_path: Path) -> None:
    store = KeyValueStore(tmp_path / "state")
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ValueError, match="no snapshot"):
            store.restore(path)
    store.close()


def test_every_truncation_of_a_snapshot_is_refused(tmp_path: Path, snapshot: Path) -> None:
    """pitfall 61"""
    data = snapshot.read_bytes()
    store = KeyValueStore(tmp_path / "state")
    for length in {*range(0, len(data), 1021), len(data) - 1}:
        snapshot.write_bytes(data[:length])
        with pytest.raises(ValueError, match="no snapshot"):
            store.restore(snapshot)
    snapshot.write_bytes(data)
    store.restore(snapshot)
    assert store.last_applied == 100
    store.close()


def test_a_snapshot_is_one_plain_sqlite_file(tmp_path: Path, snapshot: Path) -> None:
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"origin", "good.snapshot"}
    assert snapshot.read_bytes()[18:20] == b"\x01\x01", "1: rollback journal, no WAL (file format)"
    assert contents(snapshot) == (100, numbered(1, 100))


def test_restore_replaces_everything(tmp_path: Path, snapshot: Path) -> None:
    store = KeyValueStore(tmp_path / "state")
    fill(store, 300)
    store.apply([Committed(301, 2, 0, commands.encode(Put(b"only here", b"")))])
    assert len(items(store, Get(b"only here"))) == 1
    store.restore(snapshot)
    assert (store.last_applied, store.last_applied_term) == (100, 2)
    assert items(store, Get(b"only here")) == ()
    fill(store, 5)
    assert len(items(store, Range(b""))) == 105
    store.close()
    store = KeyValueStore(tmp_path / "state")
    assert store.last_applied == 105
    store.close()
    assert contents(snapshot)[0] == 100, "the snapshot itself is left as it was"


def test_restore_of_an_empty_state(tmp_path: Path) -> None:
    store = KeyValueStore(tmp_path / "state")
    assert store.snapshot(tmp_path / "empty") == 0
    fill(store, 5)
    store.restore(tmp_path / "empty")
    assert (store.last_applied, items(store, Range(b""))) == (0, ())
    store.close()


def test_leftovers_of_a_crash_do_no_harm(tmp_path: Path) -> None:
    """pitfall 60"""
    store = KeyValueStore(tmp_path)
    fill(store, 5)
    store.close()
    for suffix in ("", "-wal", "-shm", "-journal"):
        (tmp_path / f"kv.db.new{suffix}").write_bytes(b"half a file")
    store = KeyValueStore(tmp_path)
    assert store.last_applied == 5
    assert not list(tmp_path.glob("kv.db.new*"))
    store.close()


def test_a_snapshot_never_overwrites(tmp_path: Path) -> None:
    store = KeyValueStore(tmp_path / "state")
    (tmp_path / "taken").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        store.snapshot(tmp_path / "taken")
    assert (tmp_path / "taken").read_bytes() == b"precious"
    with pytest.raises(OSError, match=r"No such file or directory: .*no such directory"):
        store.snapshot(tmp_path / "no such directory" / "snapshot")
    store.close()


class Interrupted(KeyValueStore):
    """Does something else each time SQLite asks, in the middle of a snapshot, whether to go on."""

    looks = 0

    def _must_stop(self) -> bool:
        self.looks += 1
        if self.looks == 3:
            self.meanwhile()
        return super()._must_stop()

    def meanwhile(self) -> None:
        raise NotImplementedError


def test_applying_during_a_snapshot(tmp_path: Path) -> None:
    """pitfall 62: the snapshot is the state at its start, and the writer is not held up."""

    class Writing(Interrupted):
        def meanwhile(self) -> None:
            for _ in range(30):
                fill(self, 100)

    store = Writing(tmp_path / "state")
    fill(store, 20_000)
    assert store.snapshot(tmp_path / "snapshot") == 20_000
    assert store.looks >= 3
    assert store.last_applied == 23_000
    assert contents(tmp_path / "snapshot") == (20_000, numbered(1, 20_000))
    store.close()


def test_closing_during_a_snapshot(tmp_path: Path) -> None:
    """pitfall 58"""

    class Closing(Interrupted):
        def meanwhile(self) -> None:
            self.close()

    store = Closing(tmp_path / "state")
    fill(store, 20_000)
    with pytest.raises(OSError, match="interrupted"):
        store.snapshot(tmp_path / "snapshot")
    assert not (tmp_path / "snapshot").exists()
    store = Closing(tmp_path / "state")
    assert store.last_applied == 20_000
    store.close()


def test_readers_meet_either_state_while_it_is_restored(tmp_path: Path, snapshot: Path) -> None:
    store = KeyValueStore(tmp_path / "state")
    fill(store, 300)
    stop = threading.Event()
    seen: set[tuple[int, int]] = set()
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            while not stop.is_set():
                found = commands.decode_items(store.read(commands.encode(Range(b""))))
                seen.add((found.applied_index, len(found.items)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=watch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        store.restore(snapshot)
        assert len(items(store, Range(b""))) == 100
        fill(store, 200)
        assert len(items(store, Range(b""))) == 300
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert seen <= {(300, 300), (100, 100)}
    store.close()


def test_reading_after_close_says_so(tmp_path: Path) -> None:
    store = KeyValueStore(tmp_path)
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.read(commands.encode(Get(b"a")))


def test_a_directory_in_the_way_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "kv.db").mkdir()
    with pytest.raises(OSError, match=r"Is a directory: .*kv\.db$"):
        KeyValueStore(tmp_path)
    assert (tmp_path / "kv.db").is_dir()
