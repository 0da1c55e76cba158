"""RequestVote with pre-vote, both ends: thesis 4.2.3 and 9.6, and what has broken elsewhere."""

from __future__ import annotations

from itertools import permutations

import pytest

from raftd.raft.configuration import Configuration
from raftd.raft.messages import RequestVoteRequest, RequestVoteResponse
from raftd.raft.state import HardState, Role
from tests.raft import rpcs
from tests.raft.lone import FIVE, THREE, answer, in_role, is_pre_vote
from tests.raft.network import Network


def granted(network: Network, request: RequestVoteRequest, sender: str = "n2") -> bool:
    message = answer(network, request, sender)
    assert isinstance(message, RequestVoteResponse)
    return message.vote_granted


# ---- pre-vote


def test_a_pre_vote_raises_no_term() -> None:
    """Thesis 9.6: "in the Pre-Vote algorithm, a candidate only increments its term if it first
    learns from a majority of the cluster that they would be willing to grant the candidate their
    votes"."""
    network = Network(FIVE)
    for _ in range(10):
        network.tick("n1")
        network.deliver_all(only=lambda packet: packet.to in {"n1", "n2"})
        network.lose_all()
    assert network["n1"].server.current_term == 0
    assert network["n1"].durable.hard_state == HardState()
    network.tick("n1")
    network.deliver_all()
    assert network["n1"].server.current_term == 1


def test_a_pre_vote_binds_nobody() -> None:
    """Thesis 9.6: it asks whether they would; several may be told yes, and nothing is saved."""
    network = Network(FIVE)
    for sender in FIVE[1:]:
        assert granted(network, rpcs.vote(1, pre_vote=True), sender)
    assert network["n1"].server.hard_state == HardState()
    assert not any(update.needs_save for update in network["n1"].updates)


def test_a_pre_vote_for_a_term_that_has_begun_is_refused() -> None:
    """Thesis 9.6: nobody would grant a vote in it any more for certain; the answer tells the term,
    so that the next question is about a later one."""
    network = in_role(Role.FOLLOWER, log=[3])
    for term in (2, 3):
        message = answer(network, rpcs.vote(term, 9, 9, pre_vote=True))
        assert message == RequestVoteResponse(3, False, message.request_id, pre_vote=True)
    assert granted(network, rpcs.vote(4, 9, 9, pre_vote=True))


def test_a_pre_vote_restarts_no_election_timeout() -> None:
    network = Network(THREE)
    deadline = network["n1"].deadline
    network.sleep(0.5)
    assert granted(network, rpcs.vote(1, pre_vote=True))
    assert network["n1"].deadline == deadline


@pytest.mark.parametrize(
    ("silence", "grants"), [(0.0, False), (0.99, False), (1.0, True), (5.0, True)]
)
@pytest.mark.parametrize("pre_vote", [True, False])
def test_votes_are_refused_while_a_leader_is_heard(
    silence: float, grants: bool, pre_vote: bool
) -> None:
    """Thesis 4.2.3: "if a server receives a RequestVote request within the minimum election timeout
    of hearing from a current leader, it does not update its term or grant its vote"; 9.6: "the
    voters have not received heartbeats from a valid leader for at least a baseline election
    timeout"."""
    network = Network(THREE)
    network.inject("n3", "n1", rpcs.append(1))
    network.sleep(silence)
    assert granted(network, rpcs.vote(2, 5, 5, pre_vote=pre_vote)) is grants
    assert network["n1"].server.current_term == (2 if grants and not pre_vote else 1)


def test_a_leader_with_a_quorum_stays() -> None:
    """Thesis 4.2.3: a leader hears itself, as long as it hears its followers (6.2)."""
    network = Network(THREE)
    network.elect("n1")
    assert not granted(network, rpcs.vote(9, 9, 9), "n3")
    assert not granted(network, rpcs.vote(9, 9, 9, pre_vote=True), "n3")
    assert network.leaders == ["n1"]
    network.sleep(1.5)
    assert not granted(network, rpcs.vote(9, 9, 9, pre_vote=True), "n3")
    assert granted(network, rpcs.vote(9, 9, 9), "n3")
    assert network.leaders == []


def test_a_vote_for_a_transfer_is_given_at_once() -> None:
    """Thesis 4.2.3 and 3.10: the leadership transfer is the exception; the request says so with "a
    special flag ... I have permission to disrupt the leader - it told me to!"."""
    network = Network(THREE)
    network.elect("n1")
    network.heartbeat("n1")
    message = rpcs.vote(2, 1, 1, transfer=True)
    network.inject("n3", "n2", message)
    assert network["n2"].durable.hard_state == HardState(2, "n3")


def test_the_leader_that_is_heard_may_ask_itself() -> None:
    """pitfall 22: it was restarted and is the best candidate; its followers recognise it."""
    network = Network(THREE)
    network.elect("n1")
    network.propose("n1", b"x")
    network.deliver_all()
    network.restart("n1")
    network["n1"].running.timed_out(network.now + 2)
    network.settle("n1")
    network.deliver_all()
    assert network.leaders == ["n1"]
    assert network["n1"].server.current_term == 2


def test_a_partitioned_server_disturbs_nobody_when_it_returns() -> None:
    """Thesis 9.6: "Pre-Vote solves the issue of a partitioned server disrupting the cluster when it
    rejoins". pitfall 18: after a minute alone."""
    network = Network(THREE)
    network.elect("n1")
    network.isolate("n3")
    network.run(60)
    assert network["n3"].server.current_term == 1
    network.propose("n1", b"x")
    network.heal()
    network.run(5)
    assert network.leaders == ["n1"]
    assert network["n1"].server.current_term == 1
    assert network["n3"].commands == [b"x"]


def test_pre_vote_answers_are_no_votes() -> None:
    """pitfall 24: each round starts from nothing."""
    network = in_role(Role.CANDIDATE)
    network.inject("n2", "n1", RequestVoteResponse(2, True, 1, pre_vote=True))
    network.inject("n3", "n1", RequestVoteResponse(3, True, 1, pre_vote=True))
    assert network["n1"].server.role is Role.CANDIDATE
    assert network["n1"].server.votes == {"n1": True}


def test_votes_are_no_pre_vote_answers() -> None:
    """pitfall 24: a candidate that asks again in the next round does not count old votes."""
    network = in_role(Role.CANDIDATE)
    network.tick("n1")
    assert network["n1"].server.role is Role.PRE_CANDIDATE
    network.inject("n2", "n1", RequestVoteResponse(2, vote_granted=True, request_id=1))
    assert network["n1"].server.role is Role.PRE_CANDIDATE
    assert network["n1"].server.votes == {"n1": True}


def test_an_election_that_cannot_be_won_is_given_up() -> None:
    network = in_role(Role.CANDIDATE)
    for sender in ("n2", "n3"):
        network.inject(sender, "n1", RequestVoteResponse(2, vote_granted=False, request_id=1))
    assert network["n1"].server.role is Role.FOLLOWER
    assert network["n1"].durable.hard_state == HardState(2, "n1")


# ---- liveness


@pytest.mark.parametrize("down", THREE)
def test_a_high_term_and_a_long_log_find_together(down: str) -> None:
    """pitfall 14: one has the newer term, the other the newer log; neither may ignore the other for
    ever."""
    network = Network(
        THREE, logs={"n1": [1, 1, 1], "n2": [1], "n3": [1, 1]}, terms={"n1": 1, "n2": 9, "n3": 5}
    )
    network.crash(down)
    newest = max(node.server.current_term for node in network.up)
    network.run(12)
    (leader,) = network.leaders
    assert network[leader].server.current_term > newest


def test_a_long_old_log_and_a_short_new_one_elect_somebody() -> None:
    """pitfall 16: six voters in a joint configuration; the longest log is of the older term."""
    configuration = Configuration(("a", "b", "c"), outgoing_voters=("d", "e", "f"))
    long, short = [1] * 9, [1, 2]
    for number, new in enumerate([("a",), ("a", "d"), ("a", "b", "d"), ("d", "e")]):
        logs = {name: short if name in new else long for name in "abcdef"}
        network = Network(configuration, logs=logs, seed=number)
        network.run(12)
        assert len(network.leaders) == 1


@pytest.mark.parametrize(("one", "other"), list(permutations(THREE, 2)))
def test_a_one_way_cut_stops_nobody_for_long(one: str, other: str) -> None:
    """pitfall 23: whichever direction fails, and whoever led, writes go on."""
    for leader in THREE:
        network = Network(THREE)
        network.elect(leader)
        network.blocked = {(one, other)}
        network.run(5)
        term = max(node.server.current_term for node in network.up)
        for number in range(3):
            for name in network.leaders:
                network.propose(name, b"%d" % number)
            network.run(1)
        (now_leader,) = network.leaders
        assert len(network[now_leader].commands) >= 3
        assert network[now_leader].server.current_term == term


def test_everybody_cut_off_and_back_elects_one() -> None:
    network = Network(FIVE)
    network.elect("n1")
    network.partition(*[[name] for name in FIVE])
    network.run(20)
    assert network.leaders == []
    assert network["n3"].server.current_term == 1
    network.heal()
    network.run(8)
    assert len(network.leaders) == 1


# ---- terms and votes


def test_refusing_a_vote_adopts_the_newer_term_all_the_same() -> None:
    """pitfall 6: the log is not up to date, the term is."""
    network = in_role(Role.FOLLOWER, log=[1, 1])
    assert not granted(network, rpcs.vote(5, 0, 0))
    assert network["n1"].durable.hard_state == HardState(5)


def test_stepping_down_forgets_no_vote() -> None:
    """pitfall 4: a leader that loses its quorum has voted in its term; for itself."""
    network = Network(THREE)
    network.elect("n1")
    network.crash("n2")
    network.crash("n3")
    for _ in range(50):
        network.tick("n1")
        network.lose_all()
    assert network["n1"].server.current_term == 1
    assert network["n1"].server.role is not Role.LEADER
    assert not granted(network, rpcs.vote(1, 9, 9))
    assert network["n1"].durable.hard_state == HardState(1, "n1")


def test_a_candidate_that_follows_has_still_voted() -> None:
    """pitfall 4: the same, for a candidate that recognises a leader."""
    network = in_role(Role.CANDIDATE)
    network.inject("n2", "n1", rpcs.append(2))
    assert network["n1"].server.hard_state == HardState(2, "n1")
    network.sleep(5)
    assert not granted(network, rpcs.vote(2, 9, 9), "n3")


def test_who_follows_a_leader_votes_for_nobody_in_its_term() -> None:
    """It was elected by others; a second vote could elect a second one."""
    network = Network(THREE)
    network.inject("n2", "n1", rpcs.append(4))
    network.sleep(5)
    assert not granted(network, rpcs.vote(4, 9, 9), "n3")


def test_term_and_vote_are_saved_as_one() -> None:
    """pitfall 3: one value, one save; whatever the crash leaves, nobody gets a second vote."""
    for saved in (False, True):
        network = Network(THREE)
        network["n1"].held.add("save")
        network.inject("n2", "n1", rpcs.vote(7))
        (update,) = network["n1"].waiting
        assert update.hard_state == HardState(7, "n2")
        if saved:
            network["n1"].save_partly(0)
        network.restart("n1")
        network.release("n1")
        assert granted(network, rpcs.vote(7), "n3") is not saved


def test_a_candidate_votes_for_itself_durably_before_it_asks() -> None:
    """pitfall 5: its own vote counts only once it is on disk, and nobody is asked before."""
    network = Network(THREE)
    network["n1"].held.add("save")
    network.tick("n1")
    network.deliver_all(only=is_pre_vote)
    assert network["n1"].server.role is Role.CANDIDATE
    assert network.wire == []
    assert network["n1"].server.votes == {}
    network.release("n1")
    assert network["n1"].server.votes == {"n1": True}
    assert len(network.sent(RequestVoteRequest)) == 2


def test_a_single_voter_leads_only_once_its_vote_is_saved() -> None:
    """pitfall 5: with nobody to ask, the save is all that counts."""
    network = Network(["n1"])
    network["n1"].held.add("save")
    network.tick("n1")
    assert network["n1"].server.role is Role.CANDIDATE
    network.restart("n1")
    assert network["n1"].server.current_term == 0
    network.release("n1")
    network.tick("n1")
    assert network.leaders == ["n1"]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("sender", ["n1", "stranger"])
def test_messages_from_oneself_or_from_strangers_do_no_harm(role: Role, sender: str) -> None:
    """pitfall 12: the envelope is checked elsewhere; here nothing breaks, nobody is elected by
    them, and one vote a term remains."""
    network = in_role(role, log=[1, 1])
    configuration = network["n1"].server.configuration
    term = network["n1"].server.current_term
    for request in (
        rpcs.vote(term, 9, 9),
        rpcs.vote(term + 1, 9, 9, pre_vote=True),
        rpcs.append(term, 2, 1),
        rpcs.append(term - 1, 2, 1),
        rpcs.snapshot(term, [1, 1, 1], configuration, size=5),
        rpcs.timeout_now(term - 1),
    ):
        network.inject(sender, "n1", request)
    for pre_vote in (True, False):
        for answered in (term, term + 1):
            response = RequestVoteResponse(answered, True, 3, pre_vote=pre_vote)
            if answered == term or pre_vote:
                network.inject("stranger", "n1", response)
    assert network["n1"].server.current_term == term
    assert (network["n1"].server.role is Role.LEADER) is (role is Role.LEADER)
