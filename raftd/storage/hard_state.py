"""Term and vote (Figure 2, persistent state): two slots of one sector in the file `hard-state`.

    offset  size  field        (little-endian, unsigned; slots at bytes 0 and 4096 of 8192)
    0       8     magic        "raftdhst"
    8       4     version      1
    12      8     sequence     grows by one with every save
    20      8     current_term
    28      1     length of voted_for in bytes, 255: no vote
    29      ...   voted_for    the member's name, then zeros up to byte 508
    508     4     crc32        of bytes 0 to 507

A slot is valid if and only if its checksum, magic, version and name are right. The state is that
of the valid slot with the higher sequence. When neither is valid the file is damaged; that never
means term 0, because an empty vote would let this node vote twice.

A save writes the slot that does not hold the newest durable state, then fdatasync: this is the
moment it counts. Then the same state is written into the other slot and synced, too. What each
crash leaves: before the first fdatasync ends, the slot being written is old, new or torn, and the
other one holds the acknowledged state; behind it, the other way round. The copy is there for a bit
that flips later: once a save has returned, one damaged slot does not take the state back. The slots
lie 4096 bytes apart, so that no write touches the physical sector, or the page in memory, of the
slot that counts.

At every start both slots are written anew and synced: what a killed process wrote and never synced
is read from the system's cache as if it were durable, and must be so before it is relied on.
"""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

from raftd.raft.state import HardState
from raftd.storage.document import remove_if_there
from raftd.storage.errors import (
    DirectoryDamaged,
    DirectoryMismatch,
    DiskFull,
    is_full,
)
from raftd.storage.files import Files, naming

SECTOR = 512
SLOT_OFFSETS = (0, 4096)
FILE_SIZE = 8192
MAGIC = b"raftdhst"
VERSION = 1
MAX_NAME = 255 - 1
_SLOT = struct.Struct("<8sIQQB")
_CRC_AT = SECTOR - 4
_NO_VOTE = 255


class HardStateFile:
    """`value` is the durable state. Not thread-safe."""

    def __init__(self, files: Files, path: Path) -> None:
        """Reads only. DirectoryDamaged if there is no valid slot, DirectoryMismatch if newer."""
        self._files = files
        self._path = path
        if files.size(path) is None:
            raise DirectoryDamaged(path, "term and vote are missing")
        self._handle = files.open(path)
        try:
            with naming(path):
                slots = [self._read(offset) for offset in SLOT_OFFSETS]
        except BaseException:
            files.close(self._handle)
            raise
        valid = [slot for slot in slots if slot is not None]
        if not valid:
            files.close(self._handle)
            raise DirectoryDamaged(path, "neither slot of term and vote is valid")
        self._sequence, self.value = max(valid, key=lambda slot: slot[0])
        self.had_invalid_slot = len(valid) < 2

    @classmethod
    def create(cls, files: Files, path: Path) -> None:
        """Term 0 and no vote, for a new node; durable but for its name in the directory."""
        remove_if_there(files, path)
        handle = files.create(path)
        try:
            data = bytearray(FILE_SIZE)
            for offset in SLOT_OFFSETS:
                data[offset : offset + SECTOR] = encode(1, HardState())
            with naming(path):
                files.write_all(handle, data, 0)
                files.fsync(handle)
        finally:
            files.close(handle)

    def settle(self) -> None:
        """Write what was read into both slots, durably: the first thing after all checks.

        Its own slot first: if that one was never synced, the other still holds what counts.
        """
        slot = encode(self._sequence, self.value)
        own = self._sequence % 2
        with naming(self._path):
            for number in (own, 1 - own):
                self._files.write_all(self._handle, slot, SLOT_OFFSETS[number])
                self._files.fdatasync(self._handle)

    def save(self, state: HardState) -> None:
        """Durable on return. DiskFull leaves the old state."""
        old = self.value
        assert state.current_term >= old.current_term, "a term never falls"
        assert (
            state.current_term > old.current_term
            or old.voted_for is None
            or state.voted_for == old.voted_for
        ), "one vote in a term, and it is never taken back"
        if state == old:
            return
        sequence = self._sequence + 1
        slot = encode(sequence, state)
        target = SLOT_OFFSETS[sequence % 2]
        with naming(self._path):
            try:
                self._files.write_all(self._handle, slot, target)
            except OSError as error:
                if not is_full(error):
                    raise
                raise DiskFull("write", self._path, error.errno or 0) from error
            self._files.fdatasync(self._handle)
            self._sequence, self.value = sequence, state
            self._copy(slot, SLOT_OFFSETS[1 - sequence % 2])

    def close(self) -> None:
        self._files.close(self._handle)

    def _copy(self, slot: bytes, offset: int) -> None:
        """The second copy is for damage only: without space for it the state is durable too."""
        try:
            self._files.write_all(self._handle, slot, offset)
        except OSError as error:
            if not is_full(error):
                raise
        self._files.fdatasync(self._handle)

    def _read(self, offset: int) -> tuple[int, HardState] | None:
        slot = self._files.read_all(self._handle, SECTOR, offset)
        if len(slot) < SECTOR or crc32(slot[:_CRC_AT]) != int.from_bytes(slot[_CRC_AT:], "little"):
            return None
        magic, version, sequence, term, length = _SLOT.unpack_from(slot)
        if magic != MAGIC:
            return None
        if version > VERSION:
            raise DirectoryMismatch(
                self._path, f"format version {version} is newer than this raftd knows ({VERSION})"
            )
        if length == _NO_VOTE:
            return sequence, HardState(term, None)
        try:
            name = slot[_SLOT.size : _SLOT.size + length].decode()
        except UnicodeDecodeError:
            return None
        return sequence, HardState(term, name)


def encode(sequence: int, state: HardState) -> bytes:
    """One slot."""
    name = b"" if state.voted_for is None else state.voted_for.encode()
    assert len(name) <= MAX_NAME
    length = _NO_VOTE if state.voted_for is None else len(name)
    slot = _SLOT.pack(MAGIC, VERSION, sequence, state.current_term, length) + name
    slot = slot.ljust(_CRC_AT, b"\0")
    return slot + crc32(slot).to_bytes(4, "little")
