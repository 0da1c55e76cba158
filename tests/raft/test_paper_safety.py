"""The paper, sentence by sentence: section 5.4, safety, and the receivers' rules of Figure 2."""

from __future__ import annotations

from itertools import islice

import pytest

from raftd.raft.messages import RequestVoteRequest, RequestVoteResponse
from raftd.raft.state import HardState, Role, Settings
from tests.raft import rpcs
from tests.raft.lone import FIVE, THREE, answer, in_role
from tests.raft.network import Network

VOTES = (RequestVoteRequest, RequestVoteResponse)
ONE_ENTRY = Settings(max_append_bytes=1, max_in_flight=1)


@pytest.mark.parametrize(
    ("own", "asked", "granted"),
    [
        ([], (0, 0), True),
        ([1], (0, 0), False),
        ([1], (1, 1), True),
        ([1, 1], (1, 1), False),
        ([1, 1], (3, 1), True),
        ([1, 1, 1], (1, 2), True),
        ([1, 2], (9, 1), False),
        ([1, 2], (2, 2), True),
    ],
)
@pytest.mark.parametrize("pre_vote", [False, True])
@pytest.mark.parametrize("term", [3, 7])
def test_the_election_restriction(
    own: list[int], asked: tuple[int, int], granted: bool, pre_vote: bool, term: int
) -> None:
    """5.4.1: "the voter denies its vote if its own log is more up-to-date than that of the
    candidate"; "if the logs have last entries with different terms, then the log with the later
    term is more up-to-date. If the logs end with the same term, then whichever log is longer is
    more up-to-date". pitfall 17: whatever the request's term is."""
    network = in_role(Role.FOLLOWER, log=own)
    message = answer(network, rpcs.vote(term, *asked, pre_vote=pre_vote))
    assert isinstance(message, RequestVoteResponse)
    assert message.vote_granted is granted


def test_a_candidate_tells_about_its_log() -> None:
    """5.4.1: "the RPC includes information about the candidate's log"."""
    network = in_role(Role.CANDIDATE, log=[1, 1, 2])
    network.lose_all()
    network.elect("n1")
    network.sleep(2)
    network.crash("n1")
    network.tick("n2")
    for request in network.sent(RequestVoteRequest):
        assert (request.last_log_index, request.last_log_term) == (4, 4)


def test_only_who_has_all_committed_entries_can_win() -> None:
    """5.4.1: "a candidate must contact a majority of the cluster in order to be elected, which
    means that every committed entry must be present in at least one of those servers"."""
    network = Network(FIVE)
    network.elect("n1")
    network.partition(["n1", "n2", "n3"], ["n4", "n5"])
    network.propose("n1", b"x")
    network.deliver_all()
    network.heal()
    network.crash("n1")
    network.sleep(2)
    network.tick("n5")
    network.deliver_all()
    assert network.leaders == []
    network.elect("n3")
    assert network["n3"].commands == [b"x"]


def figure_8() -> Network:
    """(c): n1 leads term 4; entry 2, of term 2, is on n1, n2 and n3, its own no-op only on n1."""
    network = Network(
        FIVE,
        settings=ONE_ENTRY,
        logs={"n1": [1, 2], "n2": [1], "n3": [1], "n4": [1], "n5": [1, 3]},
        terms=dict.fromkeys(FIVE, 3),
    )
    network.sleep(2)
    network.tick("n1")
    network.deliver_all(only=lambda p: isinstance(p.message, VOTES))
    for peer in ("n2", "n3"):
        # the no-op, its refusal, entry 2, and that it is there
        for packet in islice(network.packets(lambda p: {p.sender, p.to} == {"n1", peer}), 4):  # noqa: B023
            network.deliver(packet)
        assert network["n1"].server.progress[peer].match_index == 2
    network.lose_all()
    for name in ("n1", "n2", "n3"):
        assert network[name].durable.last_index == (3 if name == "n1" else 2)
    return network


def test_figure_8_an_old_entry_on_a_majority_is_not_committed() -> None:
    """5.4.2: "Raft never commits log entries from previous terms by counting replicas"; Figure 8,
    (c) and (d): "it is stored on most of the servers, but it is not committed", and another leader
    may overwrite it. pitfall 25"""
    network = figure_8()
    assert network["n1"].server.commit_index == 0
    network.crash("n1")
    network.elect("n5")
    network.heartbeat("n5")
    for name in FIVE[1:]:
        assert [entry.term for entry in network[name].durable.entries] == [1, 3, 5]
        assert len(network[name].applied) == 3
    network.start("n1")
    network.heartbeat("n5")
    network.heartbeat("n5")
    assert network["n1"].applied == network["n5"].applied


def test_figure_8_an_entry_of_its_own_term_commits_the_old_one() -> None:
    """5.4.2: "once an entry from the current term has been committed in this way, then all prior
    entries are committed indirectly because of the Log Matching Property"; Figure 8, (e): "S5
    cannot win an election". pitfall 25"""
    network = figure_8()
    network.partition(["n1", "n2", "n3"], ["n4", "n5"])
    network.heartbeat("n1")
    assert network["n1"].commit_index == 3
    network.crash("n1")
    network.heal()
    network.sleep(2)
    network.tick("n5")
    network.deliver_all()
    assert network.leaders == []
    network.elect("n2")
    network.heartbeat("n2")
    assert network["n5"].durable.entries == network["n2"].durable.entries


def test_terms_and_votes_are_saved_before_anybody_hears_of_them() -> None:
    """Figure 2: persistent state is "updated on stable storage before responding to RPCs"."""
    network = Network(THREE)
    network["n1"].held.add("save")
    network.inject("n2", "n1", rpcs.vote(5))
    assert network["n1"].server.voted_for == "n2"
    assert network.wire == []
    network.save("n1")
    assert network.sent(RequestVoteResponse)[0].vote_granted
    assert network["n1"].durable.hard_state == HardState(5, "n2")


def test_a_vote_is_remembered_by_the_next_life() -> None:
    """Figure 2, persistent state: voted_for. pitfalls 4 and 5: not even its own."""
    network = in_role(Role.CANDIDATE)
    assert network["n1"].durable.hard_state == HardState(2, "n1")
    network.restart("n1")
    message = answer(network, rpcs.vote(2, 9, 9), "n2")
    assert isinstance(message, RequestVoteResponse)
    assert not message.vote_granted


@pytest.mark.parametrize(
    ("leader_commit", "entries", "expected"),
    [(0, [2], 0), (2, [2], 2), (9, [2, 2], 4), (9, [], 2), (1, [], 1)],
)
def test_the_commit_index_follows_the_leader(
    leader_commit: int, entries: list[int], expected: int
) -> None:
    """Figure 2: "if leader_commit > commit_index, set commit_index = min(leader_commit, index of
    last new entry)": never beyond what this request has shown to agree."""
    network = in_role(Role.FOLLOWER, log=[1, 1, 1, 1])
    network.inject("n2", "n1", rpcs.append(2, 2, 1, entries, leader_commit=leader_commit))
    assert network["n1"].server.commit_index == expected


def test_the_commit_index_never_goes_back() -> None:
    """Figure 2: commit_index "increases monotonically". pitfall 26: late and doubled requests."""
    network = in_role(Role.FOLLOWER, log=[1, 1, 1])
    network.inject("n2", "n1", rpcs.append(1, 3, 1, leader_commit=3))
    for leader_commit in (0, 1, 2):
        network.inject("n2", "n1", rpcs.append(1, 3, 1, leader_commit=leader_commit))
        network.inject("n2", "n1", rpcs.append(1, 0, 0, [1], leader_commit=leader_commit))
    assert network["n1"].server.commit_index == 3
    assert len(network["n1"].applied) == 3


def test_a_commit_index_survives_no_crash_but_what_was_applied_does() -> None:
    """Figure 2: commit_index is volatile; a state machine that is kept says how far it had come.
    pitfall 27: what was applied stays the same."""
    for keep_state in (True, False):
        network = Network(THREE)
        network.elect("n1")
        network.propose("n1", b"x")
        network.deliver_all()
        network.heartbeat("n1")
        applied = list(network["n2"].applied)
        network.crash("n2")
        network.start("n2", keep_state=keep_state)
        assert network["n2"].server.commit_index == (2 if keep_state else 0)
        network.heartbeat("n1")
        network.heartbeat("n1")
        assert network["n2"].applied == applied
