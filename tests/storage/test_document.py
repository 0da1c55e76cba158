"""Small files that are replaced as a whole."""

from __future__ import annotations

import msgspec
import pytest

from raftd.storage import document
from raftd.storage.errors import DirectoryDamaged, DirectoryMismatch, DiskFull
from tests.storage.simulation import ROOT, SimulatedFiles

PATH = ROOT / "thing"


class Thing(msgspec.Struct, frozen=True):
    number: int
    data: bytes = b""


def files_with(content: bytes) -> SimulatedFiles:
    return SimulatedFiles({ROOT: None, PATH: content})


def read(files: SimulatedFiles) -> Thing | None:
    return document.read(files, PATH, "thing", Thing)


def test_round_trip() -> None:
    files = SimulatedFiles()
    assert read(files) is None
    for number in (1, 2):
        document.write(files, PATH, "thing", Thing(number, b"\0\xff"))
        assert read(files) == Thing(number, b"\0\xff")
    assert files.listdir(ROOT) == ["thing"]


def test_every_changed_bit_and_every_cut_is_noticed() -> None:
    content = document.encode("thing", msgspec.json.encode(Thing(12345, b"abc")))
    for offset in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[offset] ^= 1 << bit
            with pytest.raises(DirectoryDamaged):
                read(files_with(bytes(changed)))
        with pytest.raises(DirectoryDamaged):
            read(files_with(content[:offset]))
    with pytest.raises(DirectoryDamaged):
        read(files_with(content + b"\n"))


def test_a_newer_version_is_no_damage() -> None:
    content = document.encode("thing", b'{"something":"else"}', version=3)
    with pytest.raises(DirectoryMismatch, match="format version 3 is newer"):
        read(files_with(content))
    with pytest.raises(DirectoryDamaged):
        read(files_with(content.replace(b" 3 ", b" 4 ")))


def test_another_kind_and_another_content() -> None:
    content = document.encode("thing", b'{"number":"one"}')
    with pytest.raises(DirectoryDamaged, match="makes no sense"):
        read(files_with(content))
    with pytest.raises(DirectoryDamaged, match="checksum"):
        read(files_with(document.encode("other", b'{"number":1}')))


def test_no_memory_by_an_unchecked_length() -> None:
    """pitfall 74"""
    with pytest.raises(DirectoryDamaged, match="more than this file can have"):
        read(files_with(bytes(document.MAX_BYTES + 1)))


def test_a_full_disk_leaves_the_old_one() -> None:
    """pitfall 66"""
    files = SimulatedFiles()
    document.write(files, PATH, "thing", Thing(1))
    files.capacity = files.used() + 10
    with pytest.raises(DiskFull, match="free some space"):
        document.write(files, PATH, "thing", Thing(2))
    assert read(files) == Thing(1)
    assert files.listdir(ROOT) == ["thing"]
    files.capacity = None
    document.write(files, PATH, "thing", Thing(2))
    assert read(files) == Thing(2)


def test_a_temporary_file_that_was_left_over_is_in_nobodys_way() -> None:
    """pitfall 60"""
    files = SimulatedFiles({ROOT: None, ROOT / "thing.tmp": b"half a docu"})
    document.write(files, PATH, "thing", Thing(1))
    assert files.listdir(ROOT) == ["thing"]
