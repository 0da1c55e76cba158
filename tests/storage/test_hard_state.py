"""Term and vote: never lost, never back."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd.raft.state import HardState
from raftd.storage import hard_state as form
from raftd.storage.errors import DirectoryDamaged, DirectoryMismatch, DiskFull
from raftd.storage.hard_state import FILE_SIZE, SECTOR, SLOT_OFFSETS, HardStateFile
from tests.storage.simulation import ROOT, Inode, SimulatedFiles

PATH = ROOT / "hard-state"
names = st.none() | st.text(min_size=1, max_size=63)


def created() -> tuple[SimulatedFiles, HardStateFile]:
    files = SimulatedFiles()
    HardStateFile.create(files, PATH)
    return files, HardStateFile(files, PATH)


def spoil(files: SimulatedFiles, slot: int) -> None:
    files.seen[PATH].content[SLOT_OFFSETS[slot] + 100] ^= 1


def test_a_new_node_is_in_term_0() -> None:
    _, file = created()
    assert file.value == HardState(0, None)
    assert not file.had_invalid_slot


@given(st.lists(st.tuples(st.integers(1, 2**40), names), max_size=8))
def test_round_trips(changes: list[tuple[int, str | None]]) -> None:
    """After every save the file says the same, also with either of its slots broken."""
    files, file = created()
    term = 0
    for step, vote in changes:
        term += step
        file.save(HardState(term, vote))
        assert HardStateFile(files, PATH).value == HardState(term, vote)
        for slot in (0, 1):
            spoil(files, slot)
            broken = HardStateFile(files, PATH)
            assert broken.value == HardState(term, vote)
            assert broken.had_invalid_slot
            spoil(files, slot)


def test_both_copies_are_synced_one_by_one_and_the_same_again_costs_nothing() -> None:
    files, file = created()
    files.calls.clear()
    file.save(HardState(3, "b"))
    assert files.calls == ["write hard-state", "sync hard-state"] * 2
    file.save(HardState(3, "b"))
    assert len(files.calls) == 4


def test_a_torn_slot_leaves_the_other() -> None:
    """Even if a sector were written in parts, the state before is there (pitfall 3)."""
    files, file = created()
    file.save(HardState(1, "a"))
    file.save(HardState(2, "b"))
    before = bytes(files.seen[PATH].durable)
    target = SLOT_OFFSETS[4 % 2]
    new = form.encode(4, HardState(3, "c"))
    for size in range(SECTOR + 1):
        content = bytearray(before)
        content[target : target + size] = new[:size]
        torn = SimulatedFiles({ROOT: None, PATH: bytes(content)})
        found = HardStateFile(torn, PATH)
        assert found.value == (HardState(3, "c") if size == SECTOR else HardState(2, "b"))
        found.settle()
        assert HardStateFile(torn, PATH).value == found.value


def test_settling_makes_both_slots_whole_and_durable() -> None:
    files, file = created()
    file.save(HardState(1, "a"))
    spoil(files, 0)
    file = HardStateFile(files, PATH)
    file.settle()
    left = SimulatedFiles({ROOT: None, PATH: files.seen[PATH].durable})
    for slot in (1, 0):
        spoil(left, slot)
        assert HardStateFile(left, PATH).value == HardState(1, "a")
        spoil(left, slot)


@pytest.mark.parametrize("size", [0, 100, 511])
def test_no_valid_slot_is_damage_not_term_0(size: int) -> None:
    """pitfall 1"""
    files, _ = created()
    files.seen[PATH] = Inode(bytes(files.seen[PATH].content[:size]))
    with pytest.raises(DirectoryDamaged, match="neither slot"):
        HardStateFile(files, PATH)
    files.seen[PATH] = Inode(bytes(FILE_SIZE))
    with pytest.raises(DirectoryDamaged, match="neither slot"):
        HardStateFile(files, PATH)
    del files.seen[PATH]
    with pytest.raises(DirectoryDamaged, match="missing"):
        HardStateFile(files, PATH)


def test_a_term_never_falls_and_a_vote_stays() -> None:
    """pitfalls 1 and 4"""
    _, file = created()
    file.save(HardState(5, None))
    file.save(HardState(5, "a"))
    for wrong in (HardState(4, "a"), HardState(5, None), HardState(5, "b")):
        with pytest.raises(AssertionError):
            file.save(wrong)
    assert file.value == HardState(5, "a")


def test_a_full_disk_leaves_the_old_state() -> None:
    """A file system that copies on write may need space for it (pitfall 66)."""
    files, file = created()
    file.save(HardState(1, "a"))
    files.failing_writes = 28
    with pytest.raises(DiskFull):
        file.save(HardState(2, None))
    files.failing_writes = None
    assert file.value == HardState(1, "a")
    assert HardStateFile(files, PATH).value == HardState(1, "a")
    file.save(HardState(2, None))
    assert HardStateFile(files, PATH).value == HardState(2, None)


def test_a_newer_version_is_no_damage() -> None:
    files, _ = created()
    slot = bytearray(form.encode(9, HardState(4)))
    slot[8] = 2
    slot[-4:] = crc32(slot[:-4]).to_bytes(4, "little")
    files.seen[PATH].content[: len(slot)] = slot
    with pytest.raises(DirectoryMismatch, match="newer"):
        HardStateFile(files, PATH)
