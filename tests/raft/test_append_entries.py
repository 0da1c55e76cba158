"""AppendEntries, the leader's end: flow control, going back, late and doubled answers."""

from __future__ import annotations

import pytest

from raftd.raft.messages import AppendEntriesRequest, AppendEntriesResponse
from raftd.raft.progress import Mode
from raftd.raft.raft import Busy
from raftd.raft.state import Settings
from tests.raft.lone import FIVE, THREE
from tests.raft.network import Network

SMALL = Settings(max_append_bytes=100, max_in_flight=3)


def leading(members: tuple[str, ...] = THREE, *, settings: Settings | None = None) -> Network:
    network = Network(members, settings=settings)
    network.elect("n1")
    network.heartbeat("n1")
    return network


# ---- what leaves


def test_as_many_requests_leave_as_the_window_takes() -> None:
    network = leading(settings=SMALL)
    network.propose("n1", *[b"x" * 30] * 10)
    requests = network.sent(AppendEntriesRequest, to="n2")
    assert len(requests) == 3
    assert [request.prev_log_index for request in requests] == [1, 2, 3]
    assert all(len(request.entries) == 1 for request in requests)


def test_an_entry_that_is_larger_than_a_request_may_be_leaves_alone() -> None:
    network = leading(settings=SMALL)
    network.propose("n1", b"x" * 500, b"y")
    first = network.sent(AppendEntriesRequest, to="n2")[0]
    assert [len(entry.record) > 500 for entry in first.entries] == [True]
    network.deliver_all()
    assert network["n1"].commands == [b"x" * 500, b"y"]


def test_a_leader_that_is_full_says_busy() -> None:
    """Flow control: what is not committed is bounded, and nothing is done beyond it."""
    network = leading(settings=Settings(max_uncommitted_bytes=200))
    network.isolate("n1")
    with pytest.raises(Busy, match="wait to be committed"):
        for _ in range(20):
            network.propose("n1", b"x" * 50)
    last = network["n1"].server.log.last_index
    assert last == 4
    network.heal()
    network.lose_all()
    network.heartbeat("n1")
    network.propose("n1", b"x")


def test_a_peer_that_does_not_answer_gets_heartbeats_only() -> None:
    """Its entries wait for the next heartbeat; nobody is flooded."""
    network = leading()
    network.crash("n3")
    network.propose("n1", b"a")
    network.deliver_all()
    for number in range(5):
        network.propose("n1", b"%d" % number)
        assert network.sent(AppendEntriesRequest, to="n3") == []
        network.deliver_all()
    network.sleep(0.1)
    network.tick("n1")
    assert sum(1 for r in network.sent(AppendEntriesRequest, to="n3") if r.entries) == 1


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_lost_request_takes_back_no_more_than_it_carried(lost: str) -> None:
    """A new leader that knows nothing about a peer goes on where the lost request began, not at
    the beginning of the log."""
    network = Network(THREE, logs={name: [1] * 50 for name in THREE})
    network.crash("n3") if lost == "request" else None
    network.sleep(2)
    network.tick("n1")
    network.deliver_all(only=lambda p: "n3" not in {p.sender, p.to})
    for packet in [packet for packet in network.wire if packet.to == "n3"]:
        network.deliver(packet)
    network.lose_all()
    assert network["n1"].server.progress["n3"].next_index == 51
    assert network["n1"].server.progress["n3"].mode is Mode.PROBE


def test_the_oldest_of_several_lost_requests_counts() -> None:
    network = leading(settings=SMALL)
    network.propose("n1", *[b"x" * 30] * 10)
    packets = [packet for packet in network.wire if packet.to == "n2"]
    network.deliver(packets[1])
    network.lose(packets[2])
    progress = network["n1"].server.progress["n2"]
    assert progress.next_index == 2
    assert progress.paused


def test_what_is_not_answered_is_sent_again_in_halves_and_grows_again() -> None:
    network = leading(THREE[:2], settings=Settings(max_append_bytes=1 << 20))
    network.propose("n1", *[bytes(1000)] * 1000)

    def sent_bytes() -> int:
        (request,) = network.sent(AppendEntriesRequest, to="n2")
        return sum(len(entry.record) for entry in request.entries)

    sizes = []
    for _ in range(8):
        sizes.append(sent_bytes())
        network.lose_all()
        network.sleep(0.1)
        network.tick("n1")
        network.deliver_all(only=lambda p: not getattr(p.message, "entries", ()))
    limits = [1 << 20, 512 << 10, 256 << 10, 128 << 10, 64 << 10, 32 << 10, 16 << 10, 16 << 10]
    assert all(limit - 20_000 < size <= limit for limit, size in zip(limits, sizes, strict=True))
    assert sizes[6] == sizes[7] > 14_000
    network.deliver_all()
    assert network["n1"].server.progress["n2"].halvings == 0
    assert len(network["n2"].durable.entries) == 1001


def test_a_link_that_carries_small_requests_only_brings_all_entries() -> None:
    """However often the large ones are lost, and the next is larger again."""
    network = leading(THREE[:2], settings=Settings(max_append_bytes=1 << 20))
    network.propose("n1", *[bytes(1000)] * 500)
    for _ in range(100):
        network.sleep(0.1)
        network.tick("n1")
        for packet in network.packets():
            entries = getattr(packet.message, "entries", ())
            (network.lose if len(entries) > 50 else network.deliver)(packet)
    assert len(network["n2"].durable.entries) == 501


def test_entries_that_memory_no_longer_has_are_read_from_disk() -> None:
    network = leading(settings=Settings(tail_bytes=100, max_append_bytes=200))
    network.isolate("n3")
    network.propose("n1", *[b"%d" % number for number in range(30)])
    network.deliver_all()
    assert network["n1"].server.log.entry(2) is None
    network["n1"].held.add("read")
    network.heal()
    network.heartbeat("n1")
    (wanted,) = network["n1"].wanted
    assert (wanted.peer, wanted.first_index, wanted.max_bytes) == ("n3", 2, 100)
    network.heartbeat("n1")
    assert len(network["n1"].wanted) == 1, "asked for once"
    network.release("n1")
    for _ in range(3):
        network.heartbeat("n1")
    assert network["n3"].applied == network["n1"].applied


def test_entries_that_cannot_be_read_are_asked_for_again_later() -> None:
    network = leading(settings=Settings(tail_bytes=100))
    network.isolate("n3")
    network.propose("n1", *[b"%d" % number for number in range(30)])
    network.deliver_all()
    node = network["n1"]
    node.held.add("read")
    network.heal()
    network.heartbeat("n1")
    wanted = node.wanted.popleft()
    node.running.entries_read(network.now, wanted.peer, ())
    network.settle("n1")
    assert network.wire == []
    network.heartbeat("n1")
    assert len(node.wanted) == 1


def test_entries_read_too_late_are_not_sent() -> None:
    """The peer went another way meanwhile, or leadership is lost."""
    network = leading(settings=Settings(tail_bytes=100))
    network.isolate("n3")
    network.propose("n1", *[b"%d" % number for number in range(30)])
    network.deliver_all()
    node = network["n1"]
    node.held.add("read")
    network.heal()
    network.heartbeat("n1")
    wanted = node.wanted.popleft()
    entries = node.durable.read(wanted.first_index, 1000)
    node.running.entries_read(network.now, "n2", entries)
    node.running.entries_read(network.now, "stranger", entries)
    network.take_snapshot("n1")
    node.running.entries_read(network.now, "n3", entries)
    network.settle("n1")
    assert [r for r in network.sent(AppendEntriesRequest) if r.entries] == []


def test_entries_read_for_an_earlier_leadership_are_not_sent() -> None:
    """They were truncated in between: what is sent stands in the log of this term's leader."""
    network = Network(FIVE, settings=Settings(max_append_bytes=50), logs={"n1": [1] * 6})
    network.crash("n1")
    network.start("n1", tail_bytes=0)
    node = network["n1"]
    node.held.add("read")
    network.elect("n1")
    network.heartbeat("n1")
    network.heartbeat("n1")
    wanted = node.wanted[0]
    stale = node.durable.read(wanted.first_index, 50)
    node.wanted.clear()
    # another leader's entries replace all of them
    network.isolate("n1")
    network.elect("n2")
    network.propose("n2", *[b"y" * 20] * 8)
    network.deliver_all()
    network.heal()
    network.heartbeat("n2")
    assert node.server.log.term(wanted.first_index) != stale[0].term
    network.crash("n2")
    network.lose_all()
    network.sleep(2)
    network.tick("n1")
    network.deliver_all()
    progress = node.server.progress[wanted.peer]
    progress.next_index, progress.reading = wanted.first_index, True
    node.running.entries_read(network.now, wanted.peer, stale)
    network.settle("n1")
    for request in network.sent(AppendEntriesRequest):
        assert stale[0] not in request.entries


# ---- what comes back


def test_a_rejection_that_was_overtaken_is_no_alarm() -> None:
    """Two requests change places: the second is refused, then both are there."""
    network = leading(THREE[:2])
    network.propose("n1", b"b")
    network.propose("n1", b"c")
    one, two = network.wire
    network.deliver(two)
    network.deliver(one)
    refusal, success = network.wire
    network.deliver(success)
    network.deliver(refusal)
    assert _alarms(network) == []
    assert not network["n1"].server.progress["n2"].has_lost
    network.deliver_all()
    assert network["n1"].commands == [b"b", b"c"]


def test_a_follower_that_lost_what_it_had_acknowledged_is_not_fed() -> None:
    """Its disk was wiped: with its name it must not count again. It is said, once, and the
    leader's match index stays, so nothing new is committed on its word. pitfall 7"""
    network = leading()
    network.propose("n1", b"x")
    network.deliver_all()
    network.crash("n3")
    network["n3"].durable.entries.clear()
    network.checking = False
    network.start("n3", keep_state=False)
    for _ in range(3):
        network.propose("n1", b"y")
        network.heartbeat("n1")
    assert ["lost entries" in text for text in _alarms(network)] == [True]
    assert network["n1"].server.progress["n3"].has_lost
    assert network["n3"].durable.entries == []


def test_a_follower_that_has_again_what_it_had_lost_is_fed() -> None:
    network = leading()
    network.propose("n1", b"x")
    network.deliver_all()
    network.crash("n3")
    whole = list(network["n3"].durable.entries)
    network["n3"].durable.entries.clear()
    network.checking = False
    network.start("n3", keep_state=False)
    network.propose("n1", b"y")
    network.heartbeat("n1")
    network.crash("n3")
    network["n3"].durable.entries[:] = whole
    network.start("n3", keep_state=False)
    for _ in range(3):
        network.heartbeat("n1")
    assert not network["n1"].server.progress["n3"].has_lost
    assert network["n3"].durable.entries == network["n1"].durable.entries


def _alarms(network: Network) -> list[str]:
    return [note.text for note in network["n1"].notes if note.level in {"warning", "error"}]


@pytest.mark.parametrize("match_index", [0, 1, 2])
def test_an_old_answer_takes_nothing_back(match_index: int) -> None:
    """pitfall 26"""
    network = leading()
    network.propose("n1", b"x", b"y")
    network.deliver_all()
    progress = network["n1"].server.progress["n2"]
    network.inject("n2", "n1", AppendEntriesResponse(1, True, 1, match_index))
    network.inject("n2", "n1", AppendEntriesResponse(1, False, 1, conflict_index=match_index))
    assert (progress.match_index, progress.next_index) == (3, 4)
    assert network["n1"].commit_index == 3


def test_an_answer_beyond_the_log_is_not_believed() -> None:
    network = leading()
    network.inject("n2", "n1", AppendEntriesResponse(1, True, 1, match_index=99))
    assert network["n1"].server.progress["n2"].match_index == 1
    assert network["n1"].notes[-1].level == "warning"


def test_an_acknowledgement_of_a_truncated_entry_counts_for_nothing() -> None:
    """pitfall 31: n1 leads term 1 and term 3; an answer of term 1 about index 6 comes in term 3,
    where other entries stand there."""
    network = leading(FIVE)
    network.propose("n1", *[b"old"] * 5)
    network.deliver(next(packet for packet in network.wire if packet.to == "n2"))
    (late,) = network.sent(AppendEntriesResponse, by="n2")
    assert late.match_index == 6
    network.lose_all()
    network.isolate("n1")
    network.crash("n2")
    network.elect("n3")
    network.start("n2")
    network.heal()
    network.heartbeat("n3")
    network.heartbeat("n3")
    network.elect("n1")
    network.partition(["n1", "n4"], ["n2", "n3", "n5"])
    index, term = network.propose("n1", *[b"new"] * 5)
    network.deliver_all()
    before = network["n1"].commit_index
    network.inject("n2", "n1", late)
    network.inject("n2", "n1", AppendEntriesResponse(1, True, 999, index))
    assert (index, term) == (4, 3)
    assert network["n1"].commit_index == before == 3


def test_answers_of_strangers_are_ignored() -> None:
    """pitfall 12"""
    network = leading()
    network.propose("n1", b"x")
    network.inject("stranger", "n1", AppendEntriesResponse(1, True, 1, match_index=2))
    network.inject("n1", "n1", AppendEntriesResponse(1, True, 1, match_index=2))
    assert network["n1"].commit_index == 1


def test_a_doubled_answer_changes_nothing() -> None:
    network = leading(settings=SMALL)
    network.propose("n1", *[b"x" * 30] * 6)
    for _ in range(200):
        if not network.wire:
            break
        if len(network.wire) < 6:
            network.double(network.wire[0])
        network.deliver(network.wire[0])
    network.lose_all()
    network.heartbeat("n1")
    assert network["n2"].applied == network["n1"].applied
    assert len(network["n1"].applied) == 7
