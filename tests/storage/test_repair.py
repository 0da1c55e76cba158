"""Repairs of damaged directories: what is lost is said; what is not lost is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest

from raftd.raft.state import HardState
from raftd.storage.disk import DirectoryDamaged, DirectoryMismatch, RealFiles, StorageError
from raftd.storage.files import PRIVATE
from raftd.storage.hard_state import SLOT_OFFSETS
from raftd.storage.repair import Cut, Irreparable, Plan, SetAside, carry_out, make_plan
from raftd.storage.stopped import Loaded, Stopped
from tests.storage.node import entries, metadata, open_disk, view

LAST = 90


class WithoutSync(RealFiles):
    """Here nothing loses power."""

    def fsync(self, handle: int) -> None:
        del handle

    def fdatasync(self, handle: int) -> None:
        del handle

    def fsync_dir(self, path: Path) -> None:
        del path


def make(path: Path, *, snapshot: int = 0, compact: bool = False, clean: bool = True) -> None:
    """A node's directory with entries 1 to LAST in several segments."""
    disk = open_disk(WithoutSync(), path)
    disk.save(HardState(3, "b"), [])
    for first in range(1, LAST, 10):
        disk.save(None, entries(first, first + 9, 1 + first // 30))
    if snapshot:
        file = disk.snapshot_path()
        file.write_bytes(b"state" * 300)
        disk.adopt_snapshot(file, metadata(snapshot, 1 + (snapshot - 1) // 30))
        if compact:
            disk.compact(snapshot)
    disk.close(clean=clean)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


def segment(path: Path, number: int) -> Path:
    return sorted((path / "wal").iterdir())[number]


def loaded(path: Path) -> Loaded:
    with Stopped(RealFiles(), path) as stopped:
        return stopped.load()


def plan_of(path: Path) -> Plan:
    with Stopped(RealFiles(), path) as stopped:
        return make_plan(stopped)


def repair(path: Path) -> Plan:
    with Stopped(WithoutSync(), path) as stopped:
        plan = make_plan(stopped)
        carry_out(stopped, plan, path / "aside")
        assert not make_plan(stopped).steps, "a repaired directory is whole"
    return plan


def test_a_whole_directory_needs_nothing(tmp_path: Path) -> None:
    make(tmp_path, snapshot=45)
    assert plan_of(tmp_path).steps == ()


def test_a_broken_last_write_is_cut_and_nothing_is_lost(tmp_path: Path) -> None:
    """pitfall 69."""
    make(tmp_path, clean=False)
    last = segment(tmp_path, -1)
    used = len(last.read_bytes().rstrip(b"\0"))
    with last.open("r+b") as file:
        file.seek(-(-used // 32) * 32)
        file.write(b"\x01\x02\x03")
    plan = repair(tmp_path)
    assert plan.lost is None
    assert [type(step) for step in plan.steps] == [Cut]
    assert next((tmp_path / "aside").iterdir()).read_bytes().startswith(b"\x01\x02\x03")
    assert open_disk(WithoutSync(), tmp_path).last_index == LAST


def test_damage_below_the_snapshot_costs_nothing(tmp_path: Path) -> None:
    make(tmp_path, snapshot=75)
    before = open_disk(WithoutSync(), tmp_path)
    expected = view(before)
    before.close()
    first = segment(tmp_path, 0)
    flip(first, 700)
    plan = repair(tmp_path)
    assert plan.lost is None
    assert SetAside(first, "the snapshot has all its entries") in plan.steps
    assert (tmp_path / "aside" / first.name).exists()
    assert view(open_disk(WithoutSync(), tmp_path)) == expected


def test_damage_in_the_log_says_which_entries_go(tmp_path: Path) -> None:
    """pitfall 70: a log is never made shorter in silence."""
    make(tmp_path, snapshot=15)
    flip(segment(tmp_path, 1), 900)
    (tmp_path / "state").mkdir()
    plan = repair(tmp_path)
    assert plan.lost is not None
    first, last = plan.lost
    assert 15 < first <= 60
    assert last == LAST
    assert plan.last_index == first - 1
    assert (tmp_path / "aside" / "state").is_dir(), "it may contain what the log has lost"
    with pytest.raises(DirectoryMismatch, match=f"entries {first} to {last} away"):
        open_disk(WithoutSync(), tmp_path)
    assert loaded(tmp_path).last_index == first - 1


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_segment_ends_the_log_before_it(tmp_path: Path, number: int) -> None:
    """pitfall 71."""
    make(tmp_path)
    gone = segment(tmp_path, number)
    first = int(gone.name.split("-")[1].split(".")[0])
    gone.unlink()
    plan = repair(tmp_path)
    assert plan.lost == (first, LAST)
    assert loaded(tmp_path).last_index == first - 1


def test_a_missing_last_segment_is_a_loss_too(tmp_path: Path) -> None:
    make(tmp_path)
    gone = segment(tmp_path, -1)
    first = int(gone.name.split("-")[1].split(".")[0])
    gone.unlink()
    assert repair(tmp_path).lost == (first, LAST)


def test_a_damaged_snapshot_goes_if_the_log_has_everything(tmp_path: Path) -> None:
    """pitfall 53, pitfall 61."""
    make(tmp_path, snapshot=45)
    flip(next((tmp_path / "snapshots").glob("*.snap")), 11)
    plan = repair(tmp_path)
    assert plan.lost is None
    disk = open_disk(WithoutSync(), tmp_path)
    assert disk.snapshot.last_included_index == 0
    assert [each.index for each in disk.recovered.tail] == list(range(1, LAST + 1))


def test_a_damaged_snapshot_stays_if_the_log_begins_behind_it(tmp_path: Path) -> None:
    """pitfall 53: nothing jumps over a gap."""
    make(tmp_path, snapshot=75, compact=True)
    flip(next((tmp_path / "snapshots").glob("*.snap")), 11)
    with pytest.raises(Irreparable, match="SHA-256"):
        plan_of(tmp_path)


def test_a_damaged_snapshot_is_a_loss_if_the_log_ends_before_it(tmp_path: Path) -> None:
    """pitfall 53: as a crash leaves it between a snapshot from the leader and the log's restart."""
    make(tmp_path)
    disk = open_disk(WithoutSync(), tmp_path)
    file = disk.snapshot_path()
    file.write_bytes(b"state" * 300)
    disk.adopt_snapshot(file, metadata(LAST + 100, 3))
    disk.close(clean=False)
    assert plan_of(tmp_path).steps == ()
    flip(next((tmp_path / "snapshots").glob("*.snap")), 11)
    assert plan_of(tmp_path).lost == (LAST + 1, LAST + 100)


@pytest.mark.parametrize("name", ["node-id", "peers"])
def test_who_a_node_is_cannot_be_repaired(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    flip(tmp_path / name, 30)
    with pytest.raises(Irreparable, match=name):
        plan_of(tmp_path)


def test_a_vote_cannot_be_repaired(tmp_path: Path) -> None:
    """pitfall 1: a node without its term and vote could vote twice."""
    make(tmp_path)
    for offset in SLOT_OFFSETS:
        flip(tmp_path / "hard-state", offset + 25)
    with pytest.raises(Irreparable, match="term and vote"):
        plan_of(tmp_path)


def test_a_vote_that_is_older_than_at_the_close_cannot_be_repaired(tmp_path: Path) -> None:
    make(tmp_path)
    kept = (tmp_path / "hard-state").read_bytes()
    disk = open_disk(WithoutSync(), tmp_path)
    disk.save(HardState(9, "c"), [])
    disk.close()
    (tmp_path / "hard-state").write_bytes(kept)
    flip(segment(tmp_path, -1), 600)
    with pytest.raises(Irreparable):
        plan_of(tmp_path)


def test_a_newer_directory_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path)
    first = segment(tmp_path, 0)
    newer = bytearray(first.read_bytes())
    newer[8] = 9
    newer[508:512] = crc32(newer[:508]).to_bytes(4, "little")
    first.write_bytes(newer)
    with pytest.raises(DirectoryMismatch, match="newer"):
        plan_of(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DirectoryMismatch, match="no data directory"):
        Stopped(RealFiles(), tmp_path)
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"


@pytest.mark.parametrize(("snapshot", "compact"), [(0, False), (45, False), (75, True)])
def test_every_file_flipped_here_and_there(tmp_path: Path, snapshot: int, compact: bool) -> None:
    """If a plan says that nothing is lost, nothing is; whatever else comes is one clear error."""
    origin = tmp_path / "origin"
    make(origin, snapshot=snapshot, compact=compact)
    shutil.copytree(origin, tmp_path / "copy")
    disk = open_disk(WithoutSync(), tmp_path / "copy")
    expected = view(disk)
    disk.close()
    outcomes = set()
    for file in sorted(path for path in origin.rglob("*") if path.is_file()):
        used = len(file.read_bytes().rstrip(b"\0"))
        for offset in range(0, used, max(1, used // 12)):
            place = tmp_path / "try"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(origin, place)
            flip(place / file.relative_to(origin), offset)
            outcomes.add(_outcome(place, expected))
    assert outcomes >= {"whole", "lost", "irreparable"}


def _outcome(place: Path, expected: object) -> str:
    try:
        plan = repair(place)
    except StorageError:
        return "irreparable"
    if plan.lost is not None:
        assert loaded(place).last_index == plan.lost[0] - 1
        return "lost"
    disk = open_disk(WithoutSync(), place)
    try:
        found = view(disk)
        if found.snapshot_index == expected.snapshot_index:  # type: ignore[attr-defined]
            assert found == expected
        else:
            assert found.log[-len(expected.log) :] == expected.log  # type: ignore[attr-defined]
            assert len(found.log) == LAST
        return "whole" if not plan.steps else "repaired"
    finally:
        disk.close()


class Killed(Exception):
    """The process ends here."""


class Mortal(WithoutSync):
    """Dies in the call number `left` that changes something."""

    def __init__(self, left: int) -> None:
        self.left = left

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def pwrite(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        self._step()
        return super().pwrite(handle, data, offset)

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        super().rename(old, new)

    def mkdir(self, path: Path, mode: int = PRIVATE) -> None:
        self._step()
        super().mkdir(path, mode)


DAMAGES: list[Callable[[Path], None]] = [
    lambda path: flip(segment(path, 1), 900),
    lambda path: flip(segment(path, 0), 900),
    lambda path: segment(path, 1).unlink(),
]


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_killed_at_every_step_of_a_repair(tmp_path: Path, number: int) -> None:
    """It is refused, or whole, and the next repair ends what was begun."""
    left = 0
    while True:
        place = tmp_path / str(left)
        make(place, snapshot=45)
        DAMAGES[number](place)
        planned = plan_of(place)
        stopped = Stopped(Mortal(1 << 30), place)
        stopped.files = stopped.directory._files = Mortal(left)
        try:
            carry_out(stopped, make_plan(stopped), place / "aside")
            break
        except Killed:
            pass
        finally:
            stopped.close()
        with Stopped(WithoutSync(), place) as again:
            plan = make_plan(again)
            assert plan.last_index == planned.last_index
            if plan.steps:
                carry_out(again, plan, place / "aside2")
        assert loaded(place).last_index == planned.last_index
        left += 1
    assert left >= 2


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    disk = open_disk(WithoutSync(), tmp_path)
    with pytest.raises(StorageError, match="uses this data directory"):
        Stopped(RealFiles(), tmp_path)
    disk.close()


def test_damage_is_still_refused_by_a_start(tmp_path: Path) -> None:
    """Looking, and planning, change nothing."""
    make(tmp_path)
    flip(segment(tmp_path, 1), 900)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    plan_of(tmp_path)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    before.pop(tmp_path / "lock"), after.pop(tmp_path / "lock")
    assert after == before
    with pytest.raises(DirectoryDamaged):
        open_disk(WithoutSync(), tmp_path)
