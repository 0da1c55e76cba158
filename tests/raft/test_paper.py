"""The paper, sentence by sentence: sections 5.1 and 5.2, terms and elections."""

from __future__ import annotations

from itertools import product

import pytest

from raftd.raft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    InstallSnapshotResponse,
    Message,
    RequestVoteRequest,
    RequestVoteResponse,
    TimeoutNowResponse,
)
from raftd.raft.raft import NotLeader
from raftd.raft.state import HardState, Role
from tests.raft import rpcs
from tests.raft.lone import FIVE, THREE, answer, in_role, is_pre_vote
from tests.raft.network import Network

ROLES = pytest.mark.parametrize("role", list(Role))


def requests(term: int, network: Network) -> list[Message]:
    configuration = network["n1"].server.configuration
    return [
        rpcs.vote(term, 9, term),
        rpcs.append(term),
        rpcs.snapshot(term, [1, 1], configuration),
        rpcs.timeout_now(term),
    ]


RESPONSES: list[Message] = [
    RequestVoteResponse(9, vote_granted=False, request_id=1),
    RequestVoteResponse(9, vote_granted=False, request_id=1, pre_vote=True),
    AppendEntriesResponse(9, success=False, request_id=1),
    InstallSnapshotResponse(9, 1, 0, 1),
    TimeoutNowResponse(9, 1),
]


# ---- 5.1


@ROLES
@pytest.mark.parametrize("number", range(3))
def test_a_request_of_a_newer_term_is_adopted(role: Role, number: int) -> None:
    """5.1: "if one server's current term is smaller than the other's, then it updates its current
    term to the larger value. If a candidate or leader discovers that its term is out of date, it
    immediately reverts to follower state"."""
    network = in_role(role)
    network.sleep(2)
    network.inject("n2", "n1", requests(9, network)[number])
    assert network["n1"].server.current_term == 9
    assert network["n1"].server.role is Role.FOLLOWER
    assert network["n1"].durable.hard_state.current_term == 9


@ROLES
@pytest.mark.parametrize("response", RESPONSES, ids=lambda response: type(response).__name__)
def test_a_response_of_a_newer_term_is_adopted(role: Role, response: Message) -> None:
    """5.1: the same sentence, for what comes back."""
    network = in_role(role)
    network.inject("n2", "n1", response)
    assert network["n1"].server.role is Role.FOLLOWER
    assert network["n1"].durable.hard_state == HardState(9)


@ROLES
@pytest.mark.parametrize("number", range(4))
def test_a_request_of_a_stale_term_is_rejected(role: Role, number: int) -> None:
    """5.1: "if a server receives a request with a stale term number, it rejects the request".
    The answer has the newer term, so that the sender learns of it. Figure 13, 1."""
    network = in_role(role, log=[3, 3])
    before = network["n1"].server.hard_state
    message = answer(network, requests(2, network)[number])
    assert message.term == before.current_term > 2
    for refusal in ("success", "vote_granted", "installed"):
        assert getattr(message, refusal, False) is False
    assert network["n1"].server.role is role
    assert network["n1"].server.hard_state == before


@ROLES
def test_a_response_of_a_stale_term_is_ignored(role: Role) -> None:
    """5.1: terms "allow servers to detect obsolete information"."""
    network = in_role(role, log=[3, 3])
    for response in (
        RequestVoteResponse(2, vote_granted=True, request_id=1),
        AppendEntriesResponse(2, success=True, request_id=1, match_index=2),
        InstallSnapshotResponse(2, 2, 100, 1, installed=True),
        TimeoutNowResponse(2, 1),
    ):
        network.inject("n2", "n1", response)
    server = network["n1"].server
    assert server.role is role
    assert all(progress.match_index == 3 for progress in server.progress.values())
    assert set(server.votes) <= {"n1"} or role is Role.PRE_CANDIDATE


# ---- 5.2


def test_servers_start_as_followers() -> None:
    """5.2: "when servers start up, they begin as followers"."""
    network = Network(THREE, terms={"n1": 7})
    assert {node.server.role for node in network.up} == {Role.FOLLOWER}
    assert network["n1"].server.current_term == 7


@pytest.mark.parametrize("what", ["append", "snapshot"])
def test_a_server_remains_follower_while_it_hears_a_leader(what: str) -> None:
    """5.2: "a server remains in follower state as long as it receives valid RPCs from a leader or
    candidate"."""
    network = Network(THREE)
    configuration = network["n1"].server.configuration
    for _ in range(30):
        network.sleep(0.9)
        network["n1"].running.timed_out(network.now)
        network.settle("n1")
        network.inject(
            "n2",
            "n1",
            rpcs.append(1) if what == "append" else rpcs.snapshot(1, [1], configuration, size=10),
        )
    assert network["n1"].server.role is Role.FOLLOWER
    assert network["n1"].server.current_term == 1


def test_granting_a_vote_restarts_the_election_timeout() -> None:
    """Figure 2, followers: "if election timeout elapses without receiving AppendEntries RPC from
    current leader or granting vote to candidate: convert to candidate"."""
    network = Network(THREE)
    network.sleep(0.99)
    network.inject("n2", "n1", rpcs.vote(1))
    assert network["n1"].deadline >= network.now + 1.0


def test_leaders_send_periodic_heartbeats() -> None:
    """5.2: "leaders send periodic heartbeats (AppendEntries RPCs that carry no log entries) to all
    followers in order to maintain their authority"."""
    network = Network(THREE)
    network.elect("n1")
    for _ in range(3):
        network.tick("n1")
        beats = network.sent(AppendEntriesRequest, by="n1")
        assert [beat.entries for beat in beats] == [(), ()]
        assert network["n1"].deadline <= network.now + network.settings.heartbeat_interval
        network.deliver_all()


def test_a_follower_without_a_leader_begins_an_election() -> None:
    """5.2: "if a follower receives no communication over a period of time called the election
    timeout, then it assumes there is no viable leader and begins an election"; here with a
    pre-vote (thesis 9.6)."""
    network = Network(THREE)
    network.tick("n1")
    requests = network.sent(RequestVoteRequest)
    assert [(request.pre_vote, request.term) for request in requests] == [(True, 1), (True, 1)]


def test_an_election() -> None:
    """5.2: "to begin an election, a follower increments its current term and transitions to
    candidate state. It then votes for itself and issues RequestVote RPCs in parallel to each of
    the other servers in the cluster"."""
    network = in_role(Role.PRE_CANDIDATE)
    network.inject("n2", "n1", RequestVoteResponse(2, True, 1, pre_vote=True))
    server = network["n1"].server
    assert (server.role, server.hard_state) == (Role.CANDIDATE, HardState(2, "n1"))
    assert {packet.to for packet in network.wire} == {"n2", "n3"}
    assert all(
        (request.term, request.pre_vote) == (2, False)
        for request in network.sent(RequestVoteRequest)
    )


@pytest.mark.parametrize("members", [THREE[:1], THREE[:2], THREE, FIVE[:4], FIVE])
def test_a_candidate_needs_a_majority(members: tuple[str, ...]) -> None:
    """5.2: "a candidate wins an election if it receives votes from a majority of the servers in
    the full cluster for the same term"."""
    for answers in product((True, False, None), repeat=len(members) - 1):
        network = Network(members)
        network.tick("n1")
        for peer in members[1:]:
            network.inject(peer, "n1", RequestVoteResponse(1, True, 1, pre_vote=True))
        for peer, granted in zip(members[1:], answers, strict=True):
            if granted is not None:
                network.inject(peer, "n1", RequestVoteResponse(1, granted, 2))
        votes = 1 + answers.count(True)
        won = votes > len(members) / 2
        assert (network["n1"].server.role is Role.LEADER) is won
        if not won:
            lost = answers.count(False) >= len(members) / 2
            assert (network["n1"].server.role is Role.FOLLOWER) is lost


def test_a_vote_counts_once() -> None:
    """5.2: "a majority of the servers": the same server twice is no majority."""
    network = Network(FIVE)
    network.tick("n1")
    for peer in FIVE[1:]:
        network.inject(peer, "n1", RequestVoteResponse(1, True, 1, pre_vote=True))
    for _ in range(5):
        network.inject("n2", "n1", RequestVoteResponse(1, vote_granted=True, request_id=2))
    assert network["n1"].server.role is Role.CANDIDATE


def test_one_vote_a_term_first_come_first_served() -> None:
    """5.2: "each server will vote for at most one candidate in a given term, on a
    first-come-first-served basis". The same candidate gets the same answer again."""
    network = Network(FIVE)
    first = answer(network, rpcs.vote(1), "n2")
    second = answer(network, rpcs.vote(1), "n3")
    again = answer(network, rpcs.vote(1), "n2")
    granted = [getattr(message, "vote_granted", None) for message in (first, second, again)]
    assert granted == [True, False, True]
    assert network["n1"].durable.hard_state == HardState(1, "n2")


def test_a_new_leader_establishes_its_authority_at_once() -> None:
    """5.2: "once a candidate wins an election, it becomes leader. It then sends heartbeat messages
    to all of the other servers to establish its authority and prevent new elections". The no-op
    it has to send anyway does that."""
    network = in_role(Role.CANDIDATE)
    network.inject("n2", "n1", RequestVoteResponse(2, vote_granted=True, request_id=1))
    assert {packet.to for packet in network.wire} == {"n2", "n3"}
    assert len(network.sent(AppendEntriesRequest)) == 2


@pytest.mark.parametrize("role", [Role.CANDIDATE, Role.PRE_CANDIDATE])
@pytest.mark.parametrize("newer", [0, 1])
def test_a_candidate_recognises_the_leader_of_its_term(role: Role, newer: int) -> None:
    """5.2: "if the leader's term (included in its RPC) is at least as large as the candidate's
    current term, then the candidate recognizes the leader as legitimate and returns to follower
    state"."""
    network = in_role(role)
    voted_for = network["n1"].server.voted_for
    term = network["n1"].server.current_term + newer
    network.inject("n2", "n1", rpcs.append(term))
    server = network["n1"].server
    assert (server.role, server.leader, server.current_term) == (Role.FOLLOWER, "n2", term)
    assert server.voted_for == (None if newer else voted_for)


@pytest.mark.parametrize("role", [Role.CANDIDATE, Role.PRE_CANDIDATE])
def test_a_candidate_rejects_an_older_leader(role: Role) -> None:
    """5.2: "if the term in the RPC is smaller than the candidate's current term, then the candidate
    rejects the RPC and continues in candidate state"."""
    network = in_role(role, log=[3])
    message = answer(network, rpcs.append(2))
    assert isinstance(message, AppendEntriesResponse)
    assert not message.success
    assert network["n1"].server.role is role


def test_a_split_vote_is_followed_by_another_election() -> None:
    """5.2: "if many followers become candidates at the same time, votes could be split so that no
    candidate obtains a majority. When this happens, each candidate will time out and start a new
    election by incrementing its term"."""
    network = Network(FIVE[:4])
    network.sleep(2)
    network.tick("n1")
    network.tick("n2")
    network.deliver_all(only=is_pre_vote)
    votes = {("n1", "n3"), ("n2", "n4")}
    network.deliver_all(only=lambda p: (p.sender, p.to) in votes or (p.to, p.sender) in votes)
    network.deliver_all()
    assert network.leaders == []
    network.elect("n2")
    assert network["n2"].server.current_term == 2


def test_election_timeouts_are_random() -> None:
    """5.2: "election timeouts are chosen randomly from a fixed interval"; "each candidate restarts
    its randomized election timeout at the start of an election"."""
    network = Network(THREE[:2])
    waits = []
    for _ in range(50):
        start = network.now
        network.tick("n1")
        network.lose_all()
        waits.append(network.now - start)
    assert len({round(wait, 6) for wait in waits}) > 40
    low, high = network.settings.election_timeout
    assert low <= min(waits) < low + 0.2
    assert high - 0.2 < max(waits) <= high


def test_only_a_leader_takes_commands() -> None:
    """5.1 and section 8: a follower "will reject the client's request and supply information about
    the most recent leader it has heard from"."""
    network = Network(THREE)
    with pytest.raises(NotLeader, match="unknown") as refused:
        network.propose("n2", b"x")
    assert refused.value.leader is None
    network.elect("n1")
    for call in (network.read, network.transfer, lambda name: network.propose(name, b"x")):
        with pytest.raises(NotLeader, match="n1") as refused:
            call("n2")
        assert refused.value.leader == "n1"
