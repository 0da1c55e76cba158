"""ReadIndex: linearizable reads without a log entry (thesis 6.4; paper section 8)."""

from __future__ import annotations

import pytest

from raftd.raft.configuration import Configuration
from raftd.raft.messages import AppendEntriesRequest, AppendEntriesResponse
from raftd.raft.raft import NotLeader
from raftd.raft.state import Role
from tests.raft import rpcs
from tests.raft.lone import FIVE, THREE
from tests.raft.network import Network
from tests.raft.packet import Packet


def leading(members: tuple[str, ...] = THREE) -> Network:
    network = Network(members)
    network.elect("n1")
    network.propose("n1", b"x")
    network.deliver_all()
    network.heartbeat("n1")
    return network


def test_a_read_waits_for_a_round_of_heartbeats() -> None:
    """6.4: "it issues a new round of heartbeats and waits for their acknowledgments from a majority
    of the cluster". pitfall 80: not before. No lease: what was confirmed a moment ago does not
    count, so no clock can go wrong. pitfall 84"""
    network = leading()
    ticket = network.read("n1")
    assert network["n1"].reads == {}
    assert len(network.sent(AppendEntriesRequest)) == 2
    network.deliver(next(packet for packet in network.wire if packet.to == "n2"))
    assert network["n1"].reads == {}
    network.deliver(next(packet for packet in network.wire if packet.to == "n1"))
    assert network["n1"].reads == {ticket: 2}


@pytest.mark.parametrize("answers", [1, 2])
def test_a_majority_of_five_is_three(answers: int) -> None:
    """6.4: "a majority", the leader included."""
    network = leading(FIVE)
    ticket = network.read("n1")
    near = {"n1", *FIVE[1 : answers + 1]}
    network.deliver_all(only=lambda packet: {packet.sender, packet.to} <= near)
    assert (ticket in network["n1"].reads) is (answers == 2)


def test_learners_confirm_nothing() -> None:
    network = Network(Configuration(THREE, learners=("n4", "n5")))
    network.elect("n1")
    network.read("n1")
    network.deliver_all(only=lambda p: {p.sender, p.to} <= {"n1", "n4", "n5"})
    assert network["n1"].reads == {}


def test_both_halves_confirm_a_read() -> None:
    network = Network(Configuration(("n1", "n2", "n3"), outgoing_voters=("n1", "n4", "n5")))
    network.sleep(2)
    network.tick("n1")
    network.deliver_until(lambda: network.leaders == ["n1"])
    ticket = network.read("n1")
    network.deliver_all(only=lambda p: {p.sender, p.to} <= {"n1", "n2", "n3"})
    assert network["n1"].reads == {}
    network.deliver_all(only=lambda p: {p.sender, p.to} <= {"n1", "n4"})
    assert ticket in network["n1"].reads


@pytest.mark.parametrize("members", [Configuration(("n1",)), Configuration(("n1",), (), ("n2",))])
def test_who_is_the_majority_alone_answers_at_once(members: Configuration) -> None:
    network = Network(members)
    network.tick("n1")
    ticket = network.read("n1")
    assert network["n1"].reads == {ticket: 1}


def test_a_read_before_the_no_op_is_committed_waits_for_it() -> None:
    """6.4: "if the leader has not yet marked an entry from its current term committed, it waits
    until it has done so". pitfall 79: here by an index that is not applied before."""
    network = Network(THREE, logs={name: [1, 1] for name in THREE})
    network.sleep(2)
    network.tick("n1")
    network.deliver_until(lambda: network.leaders == ["n1"])
    ticket = network.read("n1")
    network.deliver_all(only=lambda packet: not _carries_entries(packet))
    assert network["n1"].commit_index == 0
    assert network["n1"].reads.get(ticket, 3) == 3
    network.deliver_all()
    assert (network["n1"].reads[ticket], len(network["n1"].applied)) == (3, 3)


def _carries_entries(packet: Packet) -> bool:
    return isinstance(packet.message, AppendEntriesRequest) and bool(packet.message.entries)


def test_reads_that_come_together_share_a_round() -> None:
    """6.4: "this approach can be made more efficient by ... one round of heartbeats for any number
    of read-only queries that it has accumulated"."""
    network = leading()
    tickets = [network["n1"].running.read_index(network.now) for _ in range(5)]
    network.settle("n1")
    assert len(network.sent(AppendEntriesRequest)) == 2
    network.deliver_all()
    assert network["n1"].reads == dict.fromkeys(tickets, 2)


def test_a_read_that_came_during_a_round_gets_the_next_one() -> None:
    """6.4: a round proves leadership only at the time it began; and no read waits for the
    heartbeat after that. With one follower down."""
    network = leading()
    network.crash("n3")
    network.lose_all()
    first = network.read("n1")
    second = network.read("n1")
    (beat,) = network.sent(AppendEntriesRequest, to="n2")
    network.deliver(next(packet for packet in network.wire if packet.to == "n2"))
    network.deliver(next(packet for packet in network.wire if packet.to == "n1"))
    assert network["n1"].reads == {first: 2}
    (later,) = network.sent(AppendEntriesRequest, to="n2")
    assert later.request_id > beat.request_id
    network.deliver_all()
    assert network["n1"].reads == {first: 2, second: 2}


def test_an_answer_to_an_earlier_heartbeat_confirms_nothing() -> None:
    """pitfall 81: each request has an id of its own; late and doubled answers, as often as they
    come, prove only what was true when their request left."""
    network = leading()
    network.sleep(0.1)
    network.tick("n1")
    for packet in [packet for packet in network.wire if packet.to != "n1"]:
        network.deliver(packet)
    early = list(network.wire)
    network.read("n1")
    for packet in early:
        network.double(packet)
        network.deliver(packet)
    network.lose_all(only=lambda packet: packet.to != "n1")
    network.deliver_all()
    assert network["n1"].reads == {}
    network.heartbeat("n1")
    assert list(network["n1"].reads.values()) == [2]


def test_a_refusal_of_another_term_confirms_nothing() -> None:
    """pitfall 81: an answer counts only in the term of the leader."""
    network = leading()
    network.read("n1")
    (request,) = network.sent(AppendEntriesRequest, to="n2")
    response = AppendEntriesResponse(0, success=True, request_id=request.request_id)
    network.inject("n2", "n1", response)
    assert network["n1"].reads == {}


def test_any_answer_in_the_term_confirms() -> None:
    """An entry that is not accepted yet, or a chunk of a snapshot, shows as well who leads."""
    network = leading()
    ticket = network.read("n1")
    (request,) = network.sent(AppendEntriesRequest, to="n2")
    refusal = AppendEntriesResponse(1, success=False, request_id=request.request_id)
    network.inject("n2", "n1", refusal)
    assert network["n1"].reads == {ticket: 2}


def test_a_partitioned_leader_answers_no_read() -> None:
    """8: "a leader must check whether it has been deposed before processing a read-only request
    (its information may be stale if a more recent leader has been elected)". pitfall 80"""
    network = leading(FIVE)
    network.partition(["n1", "n2"], ["n3", "n4", "n5"])
    ticket = network.read("n1")
    network.deliver_all()
    network.elect("n3")
    network.propose("n3", b"newer")
    network.deliver_all()
    network["n1"].running.timed_out(network.now)
    network.settle("n1")
    assert network["n1"].server.role is Role.FOLLOWER
    assert network["n1"].reads == {ticket: None}


@pytest.mark.parametrize("how", ["request", "response", "quorum"])
def test_reads_end_when_leadership_does(how: str) -> None:
    """pitfall 82: nobody who waits is left waiting, however leadership goes."""
    network = leading()
    tickets = [network.read("n1"), network.read("n1")]
    network.lose_all()
    if how == "request":
        network.inject("n3", "n1", rpcs.append(5))
    elif how == "response":
        network.inject("n2", "n1", AppendEntriesResponse(5, success=False, request_id=1))
    else:
        network.isolate("n1")
        network.run(3)
    assert network["n1"].reads == dict.fromkeys(tickets)
    with pytest.raises(NotLeader):
        network.read("n1")


def test_a_read_during_a_transfer_is_answered_or_ended() -> None:
    """pitfall 82"""
    network = leading()
    ticket = network.read("n1")
    network.transfer("n1", "n2")
    late = network.read("n1")
    network.deliver_all()
    assert network.leaders == ["n2"]
    assert set(network["n1"].reads) == {ticket, late}
    fresh = network.read("n2")
    network.deliver_all()
    assert network["n2"].reads[fresh] == 3


def test_reads_go_on_after_a_leader_change_without_writes() -> None:
    """pitfall 85: the new leader's no-op is all it takes."""
    network = leading()
    network.crash("n1")
    network.run(6)
    (leader,) = network.leaders
    ticket = network.read(leader)
    network.run(0.1)
    assert network[leader].reads == {ticket: 3}
    assert len(network[leader].applied) == 3


def test_a_lost_round_is_made_good_by_the_next_heartbeat() -> None:
    network = leading()
    ticket = network.read("n1")
    network.lose_all()
    network.heartbeat("n1")
    assert network["n1"].reads == {ticket: 2}


def test_a_read_sees_what_was_committed_when_it_was_asked() -> None:
    """6.4: "the leader saves its current commit index in a local variable read_index"."""
    network = leading()
    ticket = network.read("n1")
    network.propose("n1", b"y")
    network.deliver_all()
    assert network["n1"].commit_index == 3
    assert network["n1"].reads == {ticket: 2}
