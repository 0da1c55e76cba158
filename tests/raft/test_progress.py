"""A leader's view of one follower: modes and flow control."""

from __future__ import annotations

from raftd.raft.messages import AppendEntriesRequest
from raftd.raft.progress import Mode, Progress
from raftd.raft.state import Settings
from tests.raft.network import Network


def test_a_probe_has_one_request_under_way() -> None:
    progress = Progress(5, 0.0)
    assert progress.mode is Mode.PROBE
    assert progress.has_room(3)
    progress.in_flight[1] = 4
    assert not progress.has_room(3)


def test_replication_has_as_many_under_way_as_the_window_takes() -> None:
    progress = Progress(5, 0.0)
    progress.mode = Mode.REPLICATE
    for request_id in range(3):
        assert progress.has_room(3)
        progress.in_flight[request_id] = 4 + request_id
    assert not progress.has_room(3)
    del progress.in_flight[0]
    assert progress.has_room(3)


def test_nothing_leaves_while_paused_or_while_entries_are_read() -> None:
    progress = Progress(5, 0.0)
    progress.paused = True
    assert not progress.has_room(3)
    progress.paused, progress.reading = False, True
    assert not progress.has_room(3)


def test_probing_never_goes_below_what_matches() -> None:
    """pitfall 26"""
    progress = Progress(5, 0.0)
    progress.matched(7)
    progress.probe(3)
    assert progress.next_index == 8


def test_match_index_never_goes_back() -> None:
    """pitfall 26: an old answer changes nothing."""
    progress = Progress(5, 0.0)
    progress.matched(7)
    progress.matched(4)
    assert (progress.match_index, progress.next_index) == (7, 8)


def test_what_was_sent_ahead_stays_sent_when_less_is_acknowledged() -> None:
    progress = Progress(5, 0.0)
    progress.next_index = 20
    progress.matched(7)
    assert progress.next_index == 20


def test_going_back_opens_the_window() -> None:
    """pitfall 96"""
    progress = Progress(5, 0.0)
    progress.mode = Mode.REPLICATE
    progress.in_flight = {1: 4, 2: 6}
    progress.reading = True
    progress.probe(5)
    assert progress.has_room(1)


def test_the_size_is_halved_and_doubled_within_bounds() -> None:
    progress = Progress(5, 0.0)
    seen = []
    for _ in range(8):
        progress.lost()
        seen.append(progress.halvings)
    for _ in range(8):
        progress.accepted()
        seen.append(progress.halvings)
    assert seen == [1, 2, 3, 4, 5, 6, 6, 6, 5, 4, 3, 2, 1, 0, 0, 0]


def test_a_snapshot_starts_from_nothing() -> None:
    progress = Progress(5, 0.0)
    progress.in_flight = {1: 4}
    progress.snapshot_index, progress.snapshot_offset = 3, 500
    progress.start_snapshot()
    assert progress.mode is Mode.SNAPSHOT
    assert (progress.snapshot_index, progress.snapshot_offset, progress.in_flight) == (0, 0, {})


def test_a_full_window_opens_again_however_its_requests_end() -> None:
    """pitfall 96: answered, lost, or given up; at the end everything arrives."""
    settings = Settings(max_in_flight=2, max_append_bytes=50)
    network = Network(["n1", "n2"], settings=settings)
    network.elect("n1")
    network.propose("n1", *[b"x" * 20] * 9)
    assert len(network.sent(AppendEntriesRequest)) == 2
    for round_number in range(30):
        packets = [packet for packet in network.wire if packet.sender == "n1"]
        if not packets:
            network.sleep(0.1)
            network["n1"].running.timed_out(network.now)
            network.settle("n1")
        elif round_number % 3 == 0:
            network.lose(packets[0])
        elif round_number % 3 == 1:
            network.give_up(packets[0])
        assert len(network["n1"].server.progress["n2"].in_flight) <= 2
        network.deliver_all()
    assert len(network["n2"].durable.entries) == 10
    assert network["n1"].server.progress["n2"].in_flight == {}


def test_bytes_that_wait_to_be_committed_are_given_back() -> None:
    """pitfall 96: the counter behind `Busy` does not leak."""
    network = Network(["n1", "n2", "n3"])
    network.elect("n1")
    network.propose("n1", b"a" * 100, b"b" * 100)
    assert network["n1"].server.uncommitted_bytes > 200
    network.deliver_all()
    assert network["n1"].server.uncommitted_bytes == 0
    network.propose("n1", b"c" * 100)
    network.lose_all()
    network.elect("n2")
    network.heartbeat("n2")
    assert network["n1"].server.uncommitted_bytes == 0
    assert network["n2"].server.uncommitted_bytes == 0
