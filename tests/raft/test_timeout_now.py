"""Leadership transfer, both ends: thesis 3.10."""

from __future__ import annotations

from itertools import cycle, islice

import pytest

from raftd.raft.configuration import Configuration
from raftd.raft.messages import RequestVoteRequest, TimeoutNowRequest, TimeoutNowResponse
from raftd.raft.raft import Busy, TransferRefused
from raftd.raft.state import Role
from tests.raft import rpcs
from tests.raft.lone import FIVE, THREE, answer, in_role
from tests.raft.network import Network


def leading(members: tuple[str, ...] = THREE) -> Network:
    network = Network(members)
    network.elect("n1")
    network.heartbeat("n1")
    return network


def test_a_transfer() -> None:
    """3.10: the target "starts a new election without waiting for an election timeout", with a term
    higher by one, and wins it, although everybody hears the old leader."""
    network = leading()
    assert network.transfer("n1", "n2") == "n2"
    network.deliver_all()
    assert network.leaders == ["n2"]
    assert network["n2"].server.current_term == 2
    assert network["n1"].server.leader == "n2"
    network.propose("n2", b"x")
    network.deliver_all()
    assert network["n2"].commands == [b"x"]


def test_no_proposals_during_a_transfer() -> None:
    """3.10: "the prior leader stops accepting new client requests"."""
    network = leading()
    network.transfer("n1", "n2")
    with pytest.raises(Busy, match="hands leadership over to n2"):
        network.propose("n1", b"x")
    with pytest.raises(Busy, match="already hands leadership over to n2"):
        network.transfer("n1", "n3")


def test_the_target_is_brought_up_to_date_first() -> None:
    """3.10: "the prior leader fully updates the target server's log to match its own, using the
    normal log replication mechanism"; then it "sends a TimeoutNow request"."""
    network = leading()
    network.propose("n1", b"x")
    network.transfer("n1", "n2")
    assert network.sent(TimeoutNowRequest) == []
    network.deliver_all(only=lambda packet: "n3" in {packet.sender, packet.to})
    assert network.sent(TimeoutNowRequest) == []
    network.deliver_all(only=lambda p: not isinstance(p.message, TimeoutNowRequest))
    assert len(network.sent(TimeoutNowRequest, to="n2")) == 1
    network.deliver_all()
    assert network.leaders == ["n2"]
    assert network["n2"].commands == [b"x"]


@pytest.mark.parametrize("resign", [False, True])
def test_a_transfer_to_a_dead_target_ends(resign: bool) -> None:
    """3.10: "if leadership transfer does not complete after about an election timeout, the prior
    leader aborts the transfer and resumes accepting client requests". pitfall 92. One that resigns
    steps down all the same."""
    network = leading()
    network.crash("n2")
    network.transfer("n1", "n2", resign=resign)
    start = network.now
    for _ in range(50):
        if network["n1"].server.transfer is None:
            break
        network.tick("n1")
        network.deliver_all()
    assert network["n1"].server.transfer is None
    assert network.now - start <= network.settings.election_timeout[0] + 0.001
    assert (network["n1"].server.role is Role.FOLLOWER) is resign
    if not resign:
        network.propose("n1", b"x")
        network.deliver_all()
        assert network["n1"].commands == [b"x"]


def test_a_lost_timeout_now_ends_too() -> None:
    """pitfall 92"""
    network = leading()
    network.transfer("n1", "n2")
    network.lose_all()
    for _ in range(15):
        network.heartbeat("n1")
    network.propose("n1", b"x")
    network.deliver_all()
    assert network["n1"].commands == [b"x"]


def test_a_transfer_does_not_outlive_leadership() -> None:
    """pitfall 92: deposed and elected again, a leader takes proposals."""
    network = leading()
    network.crash("n2")
    network.transfer("n1", "n2")
    network.inject("n3", "n1", rpcs.append(5))
    assert network["n1"].server.transfer is None
    network.start("n2")
    network.elect("n1")
    network.propose("n1", b"x")


def test_transfers_back_and_forth_under_load() -> None:
    """pitfall 93: one leader a term (the network looks), and nothing acknowledged is lost."""
    network = leading(FIVE)
    done: list[bytes] = []
    for number, target in enumerate(islice(cycle(FIVE), 1, 21)):
        (leader,) = network.leaders
        payload = b"%d" % number
        index, term = network.propose(leader, payload)
        network.transfer(leader, target)
        network.deliver_all()
        assert network.leaders == [target]
        if network[target].server.log.term(index) == term:
            done.append(payload)
    network.heartbeat(target)
    assert network[target].commands == done
    assert len(done) == 20


@pytest.mark.parametrize(("target", "why"), [("n1", "already leads"), ("n4", "no voter")])
def test_where_leadership_cannot_go(target: str, why: str) -> None:
    """pitfall 94: to itself, to a learner; and to nobody."""
    network = Network(Configuration(THREE, learners=("n4",)))
    network.elect("n1")
    with pytest.raises(TransferRefused, match=why):
        network.transfer("n1", target)
    with pytest.raises(TransferRefused, match="stranger is no voter"):
        network.transfer("n1", "stranger")
    assert network["n1"].server.transfer is None


def test_the_best_successor_is_chosen() -> None:
    """The longest log among those heard lately; learners are no successors."""
    network = Network(Configuration(THREE, learners=("n4",)))
    network.elect("n1")
    network.propose("n1", b"x")
    network.deliver_all(only=lambda packet: "n2" not in {packet.sender, packet.to})
    assert network.transfer("n1") == "n3"


def test_who_has_just_stopped_answering_is_no_successor() -> None:
    """Though it was heard within the election timeout: the last request to it got no answer."""
    network = leading()
    network.crash("n3")
    network.propose("n1", b"x")
    network.deliver_all(only=lambda packet: packet.to == "n3")
    assert network.transfer("n1") == "n2"


def test_without_a_successor_nothing_is_handed_over() -> None:
    network = leading()
    network.crash("n2")
    network.crash("n3")
    network.sleep(1.1)
    with pytest.raises(TransferRefused, match="no other voter answers"):
        network.transfer("n1")


# ---- the target's end


@pytest.mark.parametrize("role", [Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER])
def test_only_a_follower_stands(role: Role) -> None:
    """pitfall 94: a request that comes while a candidate campaigns, or to a leader, does nothing
    but answer."""
    network = in_role(role)
    term = network["n1"].server.current_term
    message = answer(network, rpcs.timeout_now(term))
    assert isinstance(message, TimeoutNowResponse)
    assert network["n1"].server.role is role
    assert network["n1"].server.current_term == term


def test_a_learner_does_not_stand() -> None:
    """pitfall 94"""
    network = Network(Configuration(THREE, learners=("n4",)))
    network.inject("n1", "n4", rpcs.timeout_now(0))
    network.inject("n1", "n4", rpcs.timeout_now(3))
    assert network["n4"].server.role is Role.FOLLOWER
    assert network["n4"].server.current_term == 3
    assert network.sent(RequestVoteRequest) == []


def test_who_follows_another_does_not_stand() -> None:
    """A late request of somebody who no longer leads."""
    network = Network(THREE)
    network.inject("n2", "n1", rpcs.append(3))
    network.inject("n3", "n1", rpcs.timeout_now(3))
    assert network["n1"].server.role is Role.FOLLOWER
    assert network["n1"].server.leader == "n2"


def test_a_doubled_request_stands_once() -> None:
    network = leading()
    network.transfer("n1", "n2")
    (packet,) = [p for p in network.wire if isinstance(p.message, TimeoutNowRequest)]
    network.double(packet)
    network.deliver_all()
    assert network["n2"].server.current_term == 2


def test_a_target_that_is_still_saving_asks_only_afterwards() -> None:
    """pitfalls 38 and 94: its log counts in the election only as far as it is on disk."""
    network = Network(THREE)
    node = network["n1"]
    network.inject("n2", "n1", rpcs.append(1))
    node.held.add("save")
    network.inject("n2", "n1", rpcs.append(1, 0, 0, [1, 1]))
    network.inject("n2", "n1", rpcs.timeout_now(1))
    assert node.server.role is Role.CANDIDATE
    assert network.sent(RequestVoteRequest) == []
    network.save("n1")
    assert network.sent(RequestVoteRequest) == []
    network.release("n1")
    requests = network.sent(RequestVoteRequest)
    assert [(r.last_log_index, r.leadership_transfer, r.pre_vote) for r in requests] == [
        (2, True, False)
    ] * 2


def test_a_target_that_loses_campaigns_as_usual_next_time() -> None:
    network = leading()
    network.transfer("n1", "n2")
    network.deliver_all(only=lambda p: not isinstance(p.message, RequestVoteRequest))
    network.lose_all()
    network.tick("n2")
    assert all(request.pre_vote for request in network.sent(RequestVoteRequest))
    assert not any(request.leadership_transfer for request in network.sent(RequestVoteRequest))


# ---- a disk that takes no writes


def test_a_server_that_may_not_lead_does_not_campaign() -> None:
    network = Network(THREE)
    network["n1"].running.set_may_lead(network.now, may_lead=False)
    for _ in range(5):
        network.tick("n1")
    network.inject("n2", "n1", rpcs.timeout_now(0))
    assert network.sent(RequestVoteRequest) == []
    network["n1"].running.set_may_lead(network.now, may_lead=True)
    network.tick("n1")
    assert network["n1"].server.role is Role.PRE_CANDIDATE


@pytest.mark.parametrize("role", [Role.PRE_CANDIDATE, Role.CANDIDATE])
def test_a_candidate_that_may_not_lead_gives_up(role: Role) -> None:
    network = in_role(role)
    network["n1"].running.set_may_lead(network.now, may_lead=False)
    network.settle("n1")
    assert network["n1"].server.role is Role.FOLLOWER


def test_a_leader_that_may_not_lead_hands_over() -> None:
    network = leading()
    network["n1"].running.set_may_lead(network.now, may_lead=False)
    network.settle("n1")
    network.deliver_all()
    (leader,) = network.leaders
    assert leader in {"n2", "n3"}


def test_a_leader_that_may_not_lead_steps_down_when_nobody_takes_over() -> None:
    network = leading()
    network.isolate("n1")
    network["n1"].running.set_may_lead(network.now, may_lead=False)
    network.settle("n1")
    assert network.leaders == ["n1"]
    network.run(1.1)
    assert network.leaders == []


def test_a_leader_without_a_successor_steps_down_at_once() -> None:
    network = Network(["n1"])
    network.tick("n1")
    network["n1"].running.set_may_lead(network.now, may_lead=False)
    network.settle("n1")
    assert network["n1"].server.role is Role.FOLLOWER


def test_a_transfer_under_way_becomes_the_way_out() -> None:
    network = leading()
    network.isolate("n1")
    network.transfer("n1", "n2")
    network["n1"].running.set_may_lead(network.now, may_lead=False)
    network.run(1.1)
    assert network["n1"].server.role is Role.FOLLOWER
