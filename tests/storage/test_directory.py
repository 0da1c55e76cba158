"""Who uses a data directory, whose it is, and which life this is."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raftd.raft.state import HardState
from raftd.storage import document
from raftd.storage.disk import (
    DirectoryDamaged,
    DirectoryLocked,
    DirectoryMismatch,
    Disk,
    DiskFull,
    PeerIdentity,
    StorageFailed,
)
from tests.storage.node import CLUSTER, INITIAL, entries, open_disk, view
from tests.storage.simulation import DATA, SimulatedFiles

HOLD = """
import sys
from pathlib import Path
from raftd.storage.directory import Directory
from raftd.storage.files import RealFiles
Directory(RealFiles(), Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_who_has_the_directory(tmp_path: Path) -> None:
    """pitfall 76"""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(
            DirectoryLocked, match=f"another raftd, process {holder.pid},"
        ) as raised:
            open_disk(path=tmp_path)
        assert raised.value.pid == holder.pid
        holder.kill()
        holder.stdin.close()
    open_disk(path=tmp_path).close()


def test_a_second_disk_in_one_process_and_a_lock_without_a_name() -> None:
    files = SimulatedFiles()
    disk = open_disk(files)
    with pytest.raises(DirectoryLocked, match=str(os.getpid())):
        open_disk(files)
    files.seen[DATA / "lock"].content[:] = b""
    with pytest.raises(DirectoryLocked, match="another raftd uses") as raised:
        open_disk(files)
    assert raised.value.pid is None
    disk.close()
    open_disk(files)


def test_a_new_directory(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where"
    (tmp_path / "any").mkdir(0o755)  # as the umask lets it be
    disk = open_disk(path=path)
    assert disk.identity.name == "a"
    assert len(disk.identity.node_id) == 16
    assert (disk.identity.cluster_id, disk.identity.life) == (CLUSTER, 1)
    assert not disk.was_clean
    assert not disk.same_boot
    assert disk.notes == [f"made a new data directory {path} for a"]
    for each in (path, path / "wal", path / "snapshots"):
        assert each.stat().st_mode & 0o777 == 0o700
    shared = (tmp_path / "any").stat().st_mode
    assert path.parent.stat().st_mode == shared, "others may have theirs beside it"
    for name in ("lock", "node-id", "hard-state", "peers"):
        assert (path / name).stat().st_mode & 0o777 == 0o600
    assert disk.recovered.snapshot.configuration == INITIAL
    disk.close()


def test_lives_are_counted_and_told_apart() -> None:
    """Clean or not, same boot or not; name, id and cluster stay."""
    files = SimulatedFiles()
    first = open_disk(files)
    first.close()
    second = open_disk(files)
    assert second.was_clean
    assert second.same_boot
    files = files.killed()
    third = open_disk(files)
    assert not third.was_clean
    assert third.same_boot
    third.close(clean=False)
    files.boot = "boot-2"
    fourth = open_disk(files)
    assert not fourth.was_clean
    assert not fourth.same_boot
    lives = [disk.identity for disk in (first, second, third, fourth)]
    assert [each.life for each in lives] == [1, 2, 3, 4]
    assert len({(each.name, each.node_id, each.cluster_id) for each in lives}) == 1


def test_the_state_is_believed_unless_the_machine_has_crashed() -> None:
    """A restart of the machine behind a clean end is no crash, a killed process neither."""
    files = SimulatedFiles()
    told: list[bool] = []

    def life(*, clean: bool) -> bool:
        def last_applied(trusted: bool) -> int:
            told.append(trusted)
            return 0

        open_disk(files, last_applied=last_applied).close(clean=clean)
        return told[-1]

    life(clean=True)
    assert life(clean=False), "closed, same boot"
    files.boot = "boot-2"
    assert not life(clean=False), "not closed, another boot"
    assert life(clean=True), "not closed, same boot"
    files.boot = "boot-3"
    assert life(clean=True), "closed, another boot"
    files.boot = ""
    assert life(clean=False)
    assert not life(clean=False), "not closed, and who knows which boot"


@pytest.mark.parametrize("name", ["lock", "hard-state"])
def test_a_file_that_cannot_be_read_or_written_is_named(name: str, tmp_path: Path) -> None:
    """The system names none where it has a handle."""
    open_disk(path=tmp_path).close()
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(StorageFailed, match=rf"cannot open .*/{name}: Illegal seek"):
        open_disk(path=tmp_path)


def test_a_temporary_file_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = open_disk(path=tmp_path)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(StorageFailed, match=r"/peers\.tmp: Input/output error"):
        disk.remember_peer("b", b"b" * 16, 1)
    disk.close()


def test_cluster_and_members_of_the_first_life_hold() -> None:
    files = SimulatedFiles()
    open_disk(files).close()
    again = Disk.open(
        DATA, name="a", cluster_id=b"x" * 16, initial=type(INITIAL)(("z",)), files=files
    )
    assert again.identity.cluster_id == CLUSTER
    assert again.recovered.snapshot.configuration == INITIAL


def test_another_nodes_directory_is_refused_and_left_alone() -> None:
    files = SimulatedFiles()
    open_disk(files).close()
    before = files.image()
    with pytest.raises(DirectoryMismatch, match="belongs to node a, not to b"):
        open_disk(files, name="b")
    before.pop(DATA / "lock")
    after = files.image()
    after.pop(DATA / "lock")
    assert after == before
    open_disk(files)


def test_a_newer_directory_is_refused_and_left_alone() -> None:
    files = SimulatedFiles()
    open_disk(files).close()
    content = document.encode("node-id", b'{"all":"new"}', version=3)
    files.seen[DATA / "node-id"].content[:] = content
    before = files.image()
    with pytest.raises(DirectoryMismatch, match="format version 3 is newer"):
        open_disk(files)
    assert {**files.image(), DATA / "lock": None} == {**before, DATA / "lock": None}


def test_a_directory_that_lost_its_identity() -> None:
    """Never a new node with old entries, or an empty one that may vote again (pitfall 7)."""
    files = SimulatedFiles()
    open_disk(files).close()
    files.unlink(DATA / "node-id")
    with pytest.raises(DirectoryDamaged, match=r"though hard-state is there; .* whose they are\. "):
        open_disk(files)


def test_foreign_files_are_left_alone() -> None:
    files = SimulatedFiles()
    files.mkdir(DATA)
    files.put(DATA / "raftd.toml", b"name")
    open_disk(files).close()
    files.put(DATA / "wal" / "notes.txt", b"mine")
    files.put(DATA / "snapshots" / "notes.txt", b"mine")
    open_disk(files).close()
    for path in (DATA / "raftd.toml", DATA / "wal/notes.txt", DATA / "snapshots/notes.txt"):
        assert files.size(path)


def test_temporary_files_are_removed() -> None:
    """pitfall 60"""
    files = SimulatedFiles()
    open_disk(files).close()
    planted = ["node-id.tmp", "peers.tmp", "wal/new.tmp", "wal/spare.tmp"]
    planted += ["snapshots/7.tmp", "snapshots/7.tmp-journal", "snapshots/0000000000000009-1.snap"]
    for name in planted:
        files.put(DATA / name, b"half")
    disk = open_disk(files)
    for name in planted:
        assert files.size(DATA / name) is None
    assert "removed snapshots/7.tmp, which a crash left behind" in disk.notes


def test_peers_are_remembered() -> None:
    files = SimulatedFiles()
    disk = open_disk(files)
    assert disk.known_peers == {}
    disk.remember_peer("b", b"b" * 16, 1)
    disk.remember_peer("c", b"c" * 16, 7)
    files.calls.clear()
    disk.remember_peer("c", b"c" * 16, 7)
    assert files.calls == []
    disk.remember_peer("b", b"B" * 16, 2)
    known = {"b": PeerIdentity(b"B" * 16, 2), "c": PeerIdentity(b"c" * 16, 7)}
    assert disk.known_peers == known
    assert open_disk(files.killed()).known_peers == known


def test_a_creation_that_never_ended_begins_again() -> None:
    """Without space at first, and with another cluster id the second time (pitfall 67)."""
    files = SimulatedFiles()
    whole = SimulatedFiles()
    open_disk(whole)
    failures = 0
    for capacity in range(0, whole.used() + 4096, 64):
        files.capacity = capacity
        try:
            disk = open_disk(files)
        except DiskFull as error:
            failures += 1
            assert "free some space" in str(error)
            continue
        break
    assert failures > 20
    assert disk.identity.life == 1
    files.capacity = None
    disk.save(HardState(1), entries(1, 3))
    assert view(open_disk(files.killed())).log == tuple(each.record for each in entries(1, 3))


def test_a_start_on_a_full_disk_changes_nothing_and_a_later_one_works() -> None:
    """pitfall 67"""
    files = SimulatedFiles()
    disk = open_disk(files)
    disk.save(HardState(1, "a"), entries(1, 3))
    before = view(open_disk(files.killed()))
    files = files.killed()
    files.capacity = files.used()
    for _ in range(2):
        with pytest.raises(DiskFull, match="No space left on device; free some space"):
            open_disk(files)
    files.capacity += 1000
    assert view(open_disk(files)) == before


def test_what_the_system_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match=r"cannot open .*file"):
        open_disk(path=tmp_path / "file")
    files = SimulatedFiles()
    files.failing_syncs = 1
    with pytest.raises(StorageFailed, match="Input/output error"):
        open_disk(files)


@pytest.mark.parametrize(
    ("segment_bytes", "cluster_id"), [(4095, CLUSTER), (2**31, CLUSTER), (4096, b"short")]
)
def test_arguments_out_of_range(segment_bytes: int, cluster_id: bytes) -> None:
    with pytest.raises(ValueError, match="has"):
        Disk.open(
            DATA,
            name="a",
            cluster_id=cluster_id,
            initial=INITIAL,
            segment_bytes=segment_bytes,
            files=SimulatedFiles(),
        )
