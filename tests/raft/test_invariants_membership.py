"""The checker of members: whatever is broken by hand, it says so, by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftd.raft import invariants_membership, membership
from raftd.raft.changes import AddMember, RemoveMember
from raftd.raft.configuration import Configuration
from raftd.raft.history import InvariantViolated
from raftd.raft.log import EntryType
from raftd.raft.state import Role
from tests.raft.lone import FIVE, THREE
from tests.raft.network import Network

Break = Callable[[Network], None]


def led() -> Network:
    network = Network(Configuration(THREE, learners=("n4",)))
    network.elect("n1")
    network.heartbeat("n1")
    return network


def adopt(network: Network, members: Configuration, name: str = "n1") -> None:
    """Without a look at what is allowed."""
    membership._adopt(network[name].server, network.now, members)
    network.settle(name)


def no_joint_configuration(network: Network) -> None:
    adopt(network, Configuration(("n1", "n2")))


def a_joint_configuration_from_other_voters(network: Network) -> None:
    adopt(network, Configuration(THREE, outgoing_voters=("n1", "n2")))


def out_of_joint_into_something_else(network: Network) -> None:
    adopt(network, Configuration(("n1", "n2"), outgoing_voters=THREE))
    adopt(network, Configuration(("n1",)))


def a_voter_that_is_a_learner(network: Network) -> None:
    adopt(network, Configuration(THREE, learners=("n3",)))


def nobody_is_a_voter(network: Network) -> None:
    adopt(network, Configuration((), outgoing_voters=THREE, learners=THREE))


def who_is_to_be_promoted_is_no_learner(network: Network) -> None:
    adopt(network, Configuration(THREE, promotions={"n9": ""}))


def admitted_since_another_entry(network: Network) -> None:
    adopt(network, Configuration(THREE, learners=("n4", "n5"), since={"n5": 1}))


def two_changes_at_once(network: Network) -> None:
    network.change("n1", AddMember("n5", "x"))
    adopt(network, Configuration(THREE, learners=("n4",)))


def a_change_before_the_no_op(network: Network) -> None:
    network.sleep(2)
    network.tick("n2")
    network.deliver_until(lambda: "n2" in network.leaders)
    adopt(network, Configuration(THREE), "n2")


def a_change_as_the_first_entry_of_a_term(network: Network) -> None:
    server = network["n1"].server
    server.current_term += 1
    network.settle("n1")
    adopt(network, Configuration(THREE))


def elected_by_one_half(network: Network) -> None:
    network.crash("n1")
    server = network["n2"].server
    server.role = Role.LEADER
    server.current_term += 1
    server.voted_for = "n2"


def a_learner_campaigns(network: Network) -> None:
    network["n4"].server.role = Role.PRE_CANDIDATE


def who_is_removed_campaigns(network: Network) -> None:
    network.change("n1", RemoveMember("n3"))
    network.deliver_all()
    server = network["n3"].server
    server.configurations.append((3, Configuration(("n1", "n2"))))
    server.commit_index = server.log.last_index
    server.configurations = [(0, Configuration(("n1", "n2")))]
    server.role = Role.CANDIDATE


def a_leader_leads_on(network: Network) -> None:
    server = network["n1"].server
    server.transfer = None
    server.configurations.append((1, Configuration(("n2", "n3"))))


@pytest.mark.parametrize(
    ("break_it", "name"),
    [
        (no_joint_configuration, "orderly changes"),
        (a_joint_configuration_from_other_voters, "orderly changes"),
        (out_of_joint_into_something_else, "orderly changes"),
        (a_voter_that_is_a_learner, "orderly changes"),
        (nobody_is_a_voter, "orderly changes"),
        (who_is_to_be_promoted_is_no_learner, "orderly changes"),
        (admitted_since_another_entry, "orderly changes"),
        (two_changes_at_once, "one change at a time"),
        (a_change_before_the_no_op, "one change at a time"),
        (a_change_as_the_first_entry_of_a_term, "one change at a time"),
        (elected_by_one_half, "majorities of both"),
    ],
)
def test_what_is_broken_is_found(break_it: Break, name: str) -> None:
    network = led()
    with pytest.raises(InvariantViolated) as found:
        break_it(network)
        network.invariants.after_step([node.server for node in network.up])
    assert found.value.name == name


@pytest.mark.parametrize(
    ("break_it", "name"),
    [
        (a_learner_campaigns, "voters only campaign"),
        (who_is_removed_campaigns, "voters only campaign"),
        (a_leader_leads_on, "a leader that must go"),
    ],
)
def test_who_must_not_lead_is_found(break_it: Break, name: str) -> None:
    network = led()
    network.checking = False
    break_it(network)
    with pytest.raises(InvariantViolated) as found:
        for node in network.up:
            invariants_membership.voters_only_campaign(node.server)
            invariants_membership.a_leader_that_must_go(node.server)
    assert found.value.name == name


def test_entry_types_are_what_the_log_says() -> None:
    """The configuration of an entry the leader makes is the one in its payload."""
    network = Network(FIVE)
    network.elect("n1")
    network.change("n1", RemoveMember("n5"))
    entry = network["n1"].durable.entries[-1]
    assert entry.type is EntryType.CONFIGURATION
    network.restart("n1")
    assert network["n1"].server.configuration == entry.configuration
