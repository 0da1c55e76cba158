"""Power cuts and kills before every single system call of a workload: what was promised is there.

A promise is made when a call on the disk returns. What a call in flight was about to do may be
there or not, but nothing in between.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec

from raftd.raft.log import Entry
from raftd.raft.state import HardState
from raftd.storage.disk import Disk, PeerIdentity
from tests.storage.node import (
    View,
    entries,
    entry,
    metadata,
    open_disk,
    saved,
    snapshotted,
    view,
)
from tests.storage.simulation import Image, SimulatedFiles


class Workload:
    """Runs steps on a simulated disk, and cuts the power before every call of each."""

    def __init__(self, seed: int, *, max_write: int | None = None) -> None:
        self.files = SimulatedFiles(seed=seed)
        self.files.max_write = max_write
        self.files.before_change = self.check
        self.dice = random.Random(seed)
        self.promised = View()
        self.possible: tuple[View, ...] = (View(),)
        self.incarnation = 0
        self.checked: set[tuple[object, ...]] = set()
        self.cuts = 0
        self.kills = 0
        self.second_cuts = 0
        self.disk = self._open()

    def do(self, call: Callable[[Disk], object], *stages: View) -> None:
        """`stages`: what may be there while the call runs; the last of them when it is done."""
        self.possible = (self.promised, *stages)
        call(self.disk)
        self.promised = self.possible[-1]
        self.possible = (self.promised,)

    def save(self, hard_state: HardState | None, new: Sequence[Entry]) -> None:
        self.do(lambda disk: disk.save(hard_state, new), *saved(self.promised, hard_state, new))

    def adopt(self, index: int, term: int, data: bytes) -> None:
        path = self.disk.snapshot_path()
        self.files.put(path, data)
        after = snapshotted(self.promised, index, term, data)
        self.do(lambda disk: disk.adopt_snapshot(path, metadata(index, term)), after)

    def install(self, index: int, term: int, data: bytes) -> None:
        path = self.disk.snapshot_path()
        self.files.put(path, data)
        after = snapshotted(self.promised, index, term, data)
        self.do(lambda disk: disk.install_snapshot(path, metadata(index, term)), after)

    def remember(self, name: str, peer: PeerIdentity) -> None:
        peers = {**dict(self.promised.peers), name: peer}
        after = msgspec.structs.replace(self.promised, peers=tuple(sorted(peers.items())))
        self.do(lambda disk: disk.remember_peer(name, peer.node_id, peer.incarnation), after)

    def reopen(self) -> None:
        self.files.before_change = None
        self.files = self.files.killed()
        self.files.before_change = self.check
        self.disk = self._open()

    def check(self, files: SimulatedFiles) -> None:
        """Whatever a power cut leaves now, and whatever a kill leaves, keeps the promises."""
        for image in files.power_cuts(self.dice):
            self.check_image(image)
        if not files.has_unsynced:
            return
        killed = files.killed()
        if files.calls and files.calls[-1].startswith("rename new.tmp"):
            killed.before_change = self.check_recovery
        disk = open_disk(killed)
        killed.before_change = None
        self.kills += 1
        found = view(disk)
        assert found in self.possible
        for image in killed.power_cuts(self.dice, torn=1):
            again = open_disk(SimulatedFiles(image))
            assert view(again) == found, "what a restart found was not durable then"
            assert again.identity.incarnation > disk.identity.incarnation

    def check_image(self, image: Image) -> None:
        key = (self.promised, self.possible, tuple(image.items()))
        if key in self.checked:
            return
        self.checked.add(key)
        self.cuts += 1
        files = SimulatedFiles(image)
        if self.cuts % 100 == 1:
            files.before_change = self.check_recovery
        disk = open_disk(files)
        files.before_change = None
        found = view(disk)
        assert found in self.possible
        assert disk.identity.incarnation > self.incarnation
        next_index = disk.last_index + 1
        term = disk.recovered.hard_state.current_term + 1
        disk.save(HardState(term, "c"), [entry(next_index, term)])
        again = view(open_disk(SimulatedFiles(files.image())))
        assert again.log == (*found.log, entry(next_index, term).record)
        assert again.hard_state == HardState(term, "c")

    def check_recovery(self, files: SimulatedFiles) -> None:
        """The power goes again while a restart puts in order what the first cut left."""
        for image in files.power_cuts(self.dice, torn=0):
            key = (self.possible, tuple(image.items()))
            if key in self.checked:
                continue
            self.checked.add(key)
            self.second_cuts += 1
            assert view(open_disk(SimulatedFiles(image))) in self.possible

    def _open(self) -> Disk:
        disk = open_disk(self.files)
        self.incarnation = disk.identity.incarnation
        assert view(disk) == self.promised
        return disk


def test_first_life() -> None:
    """Creation, and the saves of a small log with one roll (pitfalls 1, 2, 3, 64, 68, 69, 71)."""
    work = Workload(1)
    work.save(HardState(1, "a"), [entry(1)])
    work.save(None, entries(2, 6))
    work.save(HardState(2, None), [])
    work.save(HardState(2, "b"), [entry(7, 2, 2500)])
    work.save(None, [entry(8, 2, 900)])
    work.save(HardState(3, "c"), entries(5, 9, 3))
    assert len(work.disk.segments()) == 2
    assert work.cuts > 100
    assert work.kills > 30
    assert work.second_cuts > 30


def test_short_writes() -> None:
    """A process killed between two parts of one write (pitfall 75)."""
    work = Workload(2, max_write=700)
    work.save(HardState(1, "a"), [entry(1)])
    work.save(None, entries(2, 12))
    work.save(None, [entry(13, 1, bytes(1500))])
    assert work.cuts > 60


def test_superseded_entries_and_closing() -> None:
    """Lives that end cleanly and otherwise, a spare segment, a batch larger than a segment."""
    work = Workload(3)
    work.save(HardState(1, "a"), entries(1, 4, 1, 400))
    work.do(Disk.prepare_spare, work.promised)
    work.save(HardState(2, "b"), entries(3, 8, 2, 400))
    work.do(Disk.close, work.promised)
    work.reopen()
    work.remember("b", PeerIdentity(b"b" * 16, 1))
    work.save(HardState(4, None), entries(2, 9, 4, 700))
    work.reopen()
    work.remember("b", PeerIdentity(b"b" * 16, 2))
    work.save(None, [entry(10, 4)])
    assert len(work.disk.segments()) == 3


def test_own_snapshots_and_compaction() -> None:
    """Adoption, deletion of segments, and a log that goes on (pitfalls 51, 57)."""
    work = Workload(4)
    work.save(HardState(1, "a"), entries(1, 3, 1, 900))
    work.save(None, entries(4, 6, 1, 900))
    work.save(None, entries(7, 8, 1, 900))
    work.adopt(5, 1, b"state up to 5")
    work.do(lambda disk: disk.compact(100), work.promised)
    assert work.disk.first_index == 4
    work.adopt(8, 1, b"state up to 8" * 100)
    work.do(lambda disk: disk.compact(8), work.promised)
    assert len(work.disk.segments()) == 1
    work.save(HardState(2, "a"), entries(9, 10, 2, 900))
    work.reopen()
    work.save(None, entries(10, 12, 2, 900))


def test_snapshots_from_the_leader() -> None:
    """Every step of an installation leaves the old state or the new (pitfalls 50, 51, 52, 54)."""
    work = Workload(5)
    work.save(HardState(1, "a"), entries(1, 3, 1, 900))
    work.install(20, 2, b"state up to 20")
    assert (work.disk.first_index, work.disk.last_index) == (21, 20)
    work.save(HardState(2, "b"), entries(21, 24, 2, 900))
    work.install(20, 2, b"once more")
    work.install(7, 1, b"an old one")
    work.install(22, 2, b"state up to 22, the rest of the log stays")
    assert work.disk.last_index == 24
    work.save(HardState(3, None), entries(24, 26, 3, 900))
    assert len(work.disk.segments()) == 3
    work.install(25, 4, b"another term there: the log goes")
    assert work.disk.last_index == 25
    work.save(HardState(4, None), [entry(26, 4)])
    work.do(lambda disk: disk.compact(25), work.promised)
