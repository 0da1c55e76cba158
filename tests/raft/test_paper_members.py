"""The paper, sentence by sentence: section 6, the members of a cluster as they are (test_membership
has how they change), and section 8, clients."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from raftd.raft.configuration import Configuration, decode, encode
from raftd.raft.log import Entry, EntryType
from raftd.raft.messages import RequestVoteRequest, RequestVoteResponse
from raftd.raft.state import HardState, Role
from tests.raft import rpcs
from tests.raft.lone import FIVE, THREE, answer
from tests.raft.network import Network

VOTES = (RequestVoteRequest, RequestVoteResponse)


def lead(network: Network, name: str) -> None:
    """It is elected, and none of its entries has left."""
    network.sleep(2)
    network.tick(name)
    network.deliver_all(only=lambda packet: isinstance(packet.message, VOTES))


OLD = Configuration(("n1", "n2", "n3"))
JOINT = Configuration(("n3", "n4", "n5"), outgoing_voters=("n1", "n2", "n3"))
NEW = Configuration(("n3", "n4", "n5"))


def exchange(network: Network, *peers: str) -> None:
    """Only n1 and these talk."""
    network.deliver_all(only=lambda packet: {packet.sender, packet.to} <= {"n1", *peers})


def test_the_latest_configuration_in_the_log_counts() -> None:
    """6: "a server always uses the latest configuration in its log, regardless of whether the entry
    is committed"."""
    network = Network(OLD)
    server = network["n1"].server
    network.inject("n2", "n1", rpcs.append(1, 0, 0, [1, rpcs.configuration_entry(2, 1, NEW)]))
    assert server.configuration == NEW
    assert server.commit_index == 0


def test_a_truncated_configuration_is_taken_back() -> None:
    """6: the same sentence, when the entry goes. pitfall 40"""
    network = Network(OLD)
    server = network["n1"].server
    network.inject("n2", "n1", rpcs.append(1, 0, 0, [1, rpcs.configuration_entry(2, 1, NEW)]))
    network.inject("n3", "n1", rpcs.append(2, 1, 1, [2]))
    assert server.configuration == OLD
    assert server.configurations == [(0, OLD)]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(("index", "left"), [(4, JOINT), (3, JOINT), (2, OLD), (1, OLD)])
def test_several_configurations_are_taken_back_at_once(
    index: int, left: Configuration, restart: bool
) -> None:
    """6: the same, for two entries, and in the next life. pitfalls 40 and 41"""
    network = Network(OLD)
    joint, new = rpcs.configuration_entry(2, 1, JOINT), rpcs.configuration_entry(4, 1, NEW)
    network.inject("n2", "n1", rpcs.append(1, 0, 0, [1, joint, 1, new, 1]))
    assert network["n1"].server.configuration == NEW
    if restart:
        network.restart("n1")
        assert network["n1"].server.configuration == NEW
    network.inject("n3", "n1", rpcs.append(2, index - 1, int(index > 1), [2]))
    assert network["n1"].server.configuration == left


def test_a_recovered_configuration_needs_no_entry_in_memory() -> None:
    """pitfall 41: the tail in memory may be shorter than the log."""
    network = Network(OLD)
    joint = rpcs.configuration_entry(2, 1, JOINT)
    network.inject("n2", "n1", rpcs.append(1, 0, 0, [1, joint, 1, 1]))
    network.crash("n1")
    network.start("n1", tail_bytes=0)
    assert network["n1"].server.configuration == JOINT
    network.inject("n3", "n1", rpcs.append(2, 1, 1, [2]))
    assert network["n1"].server.configuration == OLD


def test_a_joint_election_needs_both_majorities() -> None:
    """6: "agreement (for elections and entry commitment) requires separate majorities from both
    the old and new configurations"."""
    votes: list[tuple[Sequence[str], bool]] = [
        (["n2"], False),
        (["n4", "n5"], False),
        (["n2", "n4"], False),
        (["n2", "n4", "n5"], True),
        (["n3", "n4"], True),
    ]
    for voters, wins in votes:
        network = Network(JOINT)
        network.tick("n1")
        exchange(network, *voters)
        assert (network["n1"].server.role is Role.LEADER) is wins, voters


def test_a_joint_commit_needs_both_majorities() -> None:
    """6: the same sentence, for entries; and the leader counts itself only in the half that it
    belongs to. pitfall 28"""
    for followers, commits in (
        (["n2"], 0),
        (["n2", "n4"], 0),
        (["n4", "n5"], 0),
        (["n3", "n4"], 3),  # and so is the end of the joint configuration
    ):
        network = Network(JOINT)
        lead(network, "n1")
        network.propose("n1", b"x")
        exchange(network, *followers)
        assert network["n1"].commit_index == commits, followers


def test_a_leader_that_is_no_voter_any_more_counts_nowhere() -> None:
    """pitfall 28: n1 leads although its newest configuration is without it; two of the three new
    voters must have an entry before it is committed."""
    new = rpcs.configuration_entry(2, 1, NEW)
    joint = rpcs.configuration_entry(1, 1, JOINT)
    network = Network(
        Configuration(FIVE[2:], FIVE[:3]),
        logs={"n1": [joint, new], "n2": [joint], "n3": [joint], "n4": [joint], "n5": [joint]},
    )
    network.invariants.checks_changes = False
    network.sleep(2)
    network.tick("n1")
    exchange(network, "n2", "n4")
    assert network.leaders == []
    network.deliver_all(only=lambda p: isinstance(p.message, VOTES))
    assert network.leaders == ["n1"]
    exchange(network, "n5")
    assert network["n1"].server.commit_index == 0
    exchange(network, "n4")
    assert network["n1"].server.commit_index == 3


def test_a_removed_leader_campaigns_until_its_removal_is_committed() -> None:
    """Thesis 4.2.2: "a server that is not part of its own latest configuration should still start
    new elections, as it might still be needed until the C_new entry is committed". Only n1 has it,
    so n2 cannot win: its log is shorter. pitfall 19"""
    joint = rpcs.configuration_entry(1, 1, Configuration(("n2",), outgoing_voters=("n1", "n2")))
    new = rpcs.configuration_entry(2, 1, Configuration(("n2",)))
    network = Network(("n1", "n2"), logs={"n1": [joint, new], "n2": [joint]})
    network.invariants.checks_changes = False
    network.run(10)
    assert network["n2"].durable.last_index > 1


def test_entries_go_to_everybody_in_both_halves() -> None:
    """6: "log entries are replicated to all servers in both configurations"."""
    network = Network(JOINT)
    lead(network, "n1")
    network.propose("n1", b"x")
    exchange(network, "n2")
    exchange(network, "n4", "n5")
    assert all(network[name].durable.last_index >= 2 for name in ("n2", "n4", "n5"))


@pytest.mark.parametrize("name", ["n1", "n5"])
def test_anybody_from_either_half_may_lead(name: str) -> None:
    """6: "any server from either configuration may serve as leader"."""
    network = Network(JOINT)
    lead(network, name)
    assert network.leaders == [name]


def test_learners_receive_entries_but_are_not_counted() -> None:
    """6: "the new servers join the cluster as non-voting members (the leader replicates log entries
    to them, but they are not considered for majorities)"."""
    network = Network(Configuration(THREE, learners=("n4", "n5")))
    network.elect("n1")
    network.propose("n1", b"x")
    exchange(network, "n4", "n5")
    assert network["n1"].commit_index == 1
    network.deliver_all()
    network.heartbeat("n1")
    assert network["n4"].commands == network["n5"].commands == [b"x"]


def test_learners_are_not_asked_for_votes() -> None:
    """6: the same sentence, for elections."""
    network = Network(Configuration(THREE, learners=("n4",)))
    network.tick("n1")
    assert {packet.to for packet in network.wire} == {"n2", "n3"}


def test_a_learner_never_campaigns() -> None:
    """pitfall 21: a hundred timeouts change nothing."""
    network = Network(Configuration(THREE, learners=("n4",)))
    for _ in range(100):
        network.tick("n4")
    assert network.wire == []
    assert network["n4"].server.hard_state == HardState()


def test_a_learner_votes_when_it_is_asked() -> None:
    """A candidate may know a newer configuration, in which it is a voter. pitfall 20"""
    network = Network(Configuration(THREE, learners=("n4",)))
    network.inject("n1", "n4", rpcs.vote(1))
    assert network["n4"].durable.hard_state == HardState(1, "n1")


def test_a_candidate_that_nobody_knows_gets_an_answer() -> None:
    """Thesis 4.1: "a server accepts AppendEntries requests from a leader that is not part of the
    server's latest configuration", and "grants its vote to a candidate that is not part of" it."""
    network = Network(THREE)
    message = answer(network, rpcs.vote(1), "stranger")
    assert isinstance(message, RequestVoteResponse)
    assert message.vote_granted
    network.inject("stranger", "n1", rpcs.append(1, 0, 0, [1]))
    assert network["n1"].server.leader == "stranger"
    assert network["n1"].durable.last_index == 1


def test_a_configuration_without_voters_elects_nobody() -> None:
    """pitfall 46"""
    network = Network(Configuration((), learners=THREE))
    network.run(20)
    assert network.leaders == []
    assert network.sent(RequestVoteRequest) == []


def test_the_payload_of_a_configuration_entry() -> None:
    configuration = Configuration(("a",), ("b",), ("c",), {"a": "tcp://[::1]:7001"})
    assert decode(encode(configuration)) == configuration
    assert configuration.is_joint
    assert configuration.members == ("a", "b", "c")


# ---- 8


def test_a_leader_begins_its_term_with_a_no_op() -> None:
    """8: "Raft handles this by having each leader commit a blank no-op entry into the log at the
    start of its term"."""
    network = Network(THREE, logs={name: [1, 1] for name in THREE})
    network.elect("n1")
    (entry,) = network["n1"].durable.entries[2:]
    assert (entry.index, entry.term, entry.type) == (3, 2, EntryType.NO_OP)
    assert network["n1"].commit_index == 3


def test_an_index_alone_says_nothing() -> None:
    """A command is done when its index is committed in its term; another may have taken its
    place. pitfall 88"""
    network = Network(THREE)
    network.elect("n1")
    network.isolate("n1")
    index, term = network.propose("n1", b"lost")
    network.deliver_all()
    network.elect("n2")
    other_index, other_term = network.propose("n2", b"won", b"too")
    network.deliver_all()
    network.heal()
    network.heartbeat("n2")
    network.heartbeat("n2")
    assert network["n1"].commit_index >= index
    applied: Entry = network["n1"].applied[index - 1]
    assert (applied.index, applied.term) != (index, term)
    assert (other_index, other_term) == (3, 2)
    assert network["n1"].commands == [b"won", b"too"]
