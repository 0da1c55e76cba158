"""Random lives of a node against a plain model of what it should remember."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raftd import record
from raftd.raft.state import HardState
from raftd.storage.disk import PeerIdentity
from tests.storage.node import View, entry, metadata, open_disk, saved, snapshotted, view
from tests.storage.simulation import SimulatedFiles

sizes = st.lists(st.integers(0, 1200), min_size=1, max_size=6)


class Lives(RuleBasedStateMachine):
    """Every rule is a call on the disk; now and then the life ends and another begins."""

    @initialize()
    def begin(self) -> None:
        self.files = SimulatedFiles()
        self.disk = open_disk(self.files)
        self.model = View()
        self.life = 1

    @property
    def last_index(self) -> int:
        return self.model.snapshot_index + len(self.model.log)

    @rule(sizes=sizes, back=st.integers(0, 5), step=st.integers(0, 2), vote=st.booleans())
    def save(self, sizes: list[int], back: int, step: int, vote: bool) -> None:
        term = self.model.hard_state.current_term + max(step, 1 if back else 0)
        first = max(self.model.snapshot_index, self.last_index - back) + 1
        state = HardState(term, "b" if vote else None)
        if term == self.model.hard_state.current_term or term == 0:
            state, term = HardState(term + 1, state.voted_for), term + 1
        new = [entry(index, term, size) for index, size in enumerate(sizes, first)]
        self.disk.save(state, new)
        self.model = saved(self.model, state, new)[1]

    @rule(size=st.integers(0, 1500))
    @precondition(lambda self: self.model.hard_state.current_term > 0)
    def append(self, size: int) -> None:
        new = [entry(self.last_index + 1, self.model.hard_state.current_term, size)]
        self.disk.save(None, new)
        self.model = saved(self.model, None, new)[1]

    @rule(share=st.floats(0, 1))
    @precondition(lambda self: self.model.log)
    def take_snapshot(self, share: float) -> None:
        place = int(share * (len(self.model.log) - 1))
        last = record.decode(self.model.log[place])
        path = self.disk.snapshot_path()
        self.files.put(path, f"up to {last.index}".encode())
        self.disk.adopt_snapshot(path, metadata(last.index, last.term))
        self.model = snapshotted(self.model, last.index, last.term, f"up to {last.index}".encode())

    @rule(ahead=st.integers(-6, 6), term=st.integers(0, 1))
    def install_snapshot(self, ahead: int, term: int) -> None:
        index = max(1, self.last_index + ahead)
        number = self.model.hard_state.current_term + term
        self.disk.save(HardState(number + 1), [])
        self.model = saved(self.model, HardState(number + 1), [])[1]
        place = index - self.model.snapshot_index - 1
        if 0 <= place < len(self.model.log) and term:
            number = record.decode(self.model.log[place]).term
        path = self.disk.snapshot_path()
        self.files.put(path, b"installed")
        self.disk.install_snapshot(path, metadata(index, number))
        self.model = snapshotted(self.model, index, number, b"installed")

    @rule(index=st.integers(0, 60))
    def compact(self, index: int) -> None:
        self.disk.compact(index)

    @rule()
    def prepare_spare(self) -> None:
        self.disk.prepare_spare()

    @rule(name=st.sampled_from("bc"), incarnation=st.integers(1, 5))
    def remember(self, name: str, incarnation: int) -> None:
        self.disk.remember_peer(name, b"x" * 16, incarnation)
        peers = {**dict(self.model.peers), name: PeerIdentity(b"x" * 16, incarnation)}
        self.model = View(
            self.model.hard_state,
            self.model.log,
            self.model.snapshot_index,
            self.model.snapshot_term,
            self.model.snapshot_bytes,
            tuple(sorted(peers.items())),
        )

    @rule(clean=st.booleans())
    def next_life(self, clean: bool) -> None:
        if clean:
            self.disk.close()
        self.files = self.files.killed()
        self.disk = open_disk(self.files)
        self.life += 1
        assert self.disk.was_clean == clean
        assert self.disk.identity.life == self.life
        assert view(self.disk) == self.model
        assert self.disk.notes == []

    @invariant()
    def the_log_reads_as_it_should(self) -> None:
        if not hasattr(self, "disk"):
            return
        assert self.disk.last_index == self.last_index
        assert self.disk.first_index <= self.model.snapshot_index + 1
        if self.model.log:
            found = self.disk.read(self.model.snapshot_index + 1, self.last_index, 1 << 30)
            assert tuple(each.record for each in found) == self.model.log


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
