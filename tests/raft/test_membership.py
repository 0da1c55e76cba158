"""How the members change, sentence by sentence (paper section 6; thesis 4). The stories in
scenarios/ (add_voter, remove_leader, replace, inherited_change, config_rolled_back, no_op_first,
name_reused) show the same in whole."""

from __future__ import annotations

import pytest

from raftd.raft.changes import (
    AddMember,
    Change,
    DemoteMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
    SetAddress,
)
from raftd.raft.configuration import Configuration
from raftd.raft.messages import AppendEntriesRequest, RequestVoteRequest, TimeoutNowRequest
from raftd.raft.raft import Busy, NotLeader, TransferRefused
from raftd.raft.state import Role
from tests.raft import rpcs
from tests.raft.lone import FIVE, THREE
from tests.raft.network import Network


def led(*names: str, learners: tuple[str, ...] = ()) -> Network:
    """n1 leads, and everybody knows its first entry as committed."""
    network = Network(Configuration(names, learners=learners))
    network.elect("n1")
    network.heartbeat("n1")
    return network


def change(network: Network, what: Change, *, by: str = "n1") -> int:
    """Done, and known to everybody; the index of its first entry."""
    index, _ = network.change(by, what)
    network.deliver_all()
    network.heartbeat(by)
    return index


def is_removed(network: Network, name: str) -> bool:
    return network[name].server.is_removed


def configuration(network: Network, name: str = "n1") -> Configuration:
    return network[name].server.configuration


def test_voters_change_by_a_joint_configuration() -> None:
    """6: "the cluster first switches to a transitional configuration we call joint consensus"."""
    network = led(*FIVE)
    network.change("n1", RemoveMember("n5"))
    assert configuration(network).outgoing_voters == FIVE
    assert configuration(network).voters == FIVE[:4]
    network.deliver_all()
    assert configuration(network) == Configuration(FIVE[:4])


def test_what_leaves_the_voters_alone_is_one_entry() -> None:
    network = led(*THREE)
    index = change(network, AddMember("n4", "x", voter=False))
    assert network["n1"].server.log.last_index == index
    assert not any(members.is_joint for _, members in network["n1"].server.configurations)


def test_the_old_majority_alone_commits_nothing_in_between() -> None:
    """6: "agreement requires separate majorities from both"; here the old one is n1, n2, n3, and
    the new one wants n4, which hears nothing."""
    network = led(*THREE, learners=("n4",))
    network.partition(THREE, ["n4"])
    network["n1"].server.progress["n4"].matched(1)
    network.change("n1", DemoteMember("n3"))
    network.deliver_all()
    assert configuration(network).voters == ("n1", "n2")
    network.change("n1", PromoteMember("n4"))
    network.deliver_all()
    assert configuration(network).voters == ("n1", "n2")
    assert not configuration(network).is_joint


def test_a_learner_that_does_not_answer_is_not_promoted() -> None:
    """pitfall 45: a node that was never started is a learner for as long as that lasts, and the
    cluster goes on."""
    network = led(*THREE)
    change(network, AddMember("n4", "x"))
    for _ in range(20):
        network.propose("n1", b"x")
        network.deliver_all()
        network.heartbeat("n1")
    assert configuration(network).learners == ("n4",)
    assert network["n1"].commit_index == network["n1"].server.log.last_index


def test_a_learner_is_promoted_by_whoever_leads() -> None:
    """pitfall 45: that it is to be a voter stands in the log, so no change of leaders, and no
    restart, forgets it."""
    network = led(*THREE)
    index = change(network, AddMember("n4", "x"))
    network.elect("n2")
    for name in THREE:
        network.restart(name, keep_state=False)
    network.elect("n3")
    network.join("n4", index)
    for _ in range(4):
        network.heartbeat("n3")
    assert configuration(network, "n3").voters == (*THREE, "n4")


def test_a_slow_round_does_not_promote() -> None:
    """Thesis 4.2.1: "if the last round lasts less than an election timeout, then the leader adds
    the new server to the cluster"."""
    network = led(*THREE)
    index = change(network, AddMember("n4", "x"))
    timeout = network.settings.election_timeout[0]
    network.join("n4", index)
    progress = network["n1"].server.progress["n4"]
    progress.round_end, progress.round_started = 1, network.now - 2 * timeout
    network.deliver_all()
    while progress.match_index < 1:
        network.sleep(network.settings.heartbeat_interval)
        network["n1"].running.timed_out(network.now)
        network.settle("n1")
        assert configuration(network).learners == ("n4",)
        network.deliver_all()
    network.heartbeat("n1")
    network.heartbeat("n1")
    assert configuration(network).voters == (*THREE, "n4")


@pytest.mark.parametrize("promote", [False, True])
def test_nobody_else_is_promoted(promote: bool) -> None:
    """pitfall 45: a learner by choice stays one, whatever else is changed."""
    network = led(*THREE, learners=("n4", "n5"))
    if promote:
        change(network, PromoteMember("n5"))
    change(network, SetAddress("n2", "y"))
    change(network, RemoveMember("n3"))
    network.run(5)
    leader = network.leaders[0]
    assert "n4" in configuration(network, leader).learners
    assert ("n5" in configuration(network, leader).voters) is promote


def test_one_change_at_a_time() -> None:
    """Thesis 4.1 and pitfall 39: the second waits for the first."""
    network = led(*FIVE)
    network.change("n1", RemoveMember("n5"))
    with pytest.raises(Busy, match="entry 2 is still under way"):
        network.change("n1", RemoveMember("n4"))
    network.deliver_all()
    network.change("n1", RemoveMember("n4"))


def test_a_new_leader_commits_an_entry_of_its_term_first() -> None:
    """pitfall 39: the bug of July 2015 needs a leader that begins a change before."""
    network = led(*THREE)
    network.sleep(2)
    network.tick("n2")
    network.deliver_until(lambda: "n2" in network.leaders)
    with pytest.raises(Busy, match="n2 has not committed an entry of its own term yet"):
        network.change("n2", RemoveMember("n1"))


def test_only_a_leader_changes_members() -> None:
    with pytest.raises(NotLeader):
        led(*THREE).change("n2", RemoveMember("n1"))


def test_no_change_while_leadership_is_handed_over() -> None:
    network = led(*THREE)
    network.isolate("n1")
    network.transfer("n1", "n2")
    with pytest.raises(Busy, match="hands leadership over to n2"):
        network.change("n1", RemoveMember("n3"))


@pytest.mark.parametrize("after", range(0, 40, 3))
def test_whenever_the_leader_dies_the_change_ends_one_way_or_the_other(after: int) -> None:
    """pitfall 43: after each message of a replacement the leader dies; the next one takes up what
    is in the log, and the cluster is whole."""
    network = led(*THREE)
    index = change(network, ReplaceMember("n3", "n4", "x"))
    network.join("n4", index)
    network.sleep(network.settings.heartbeat_interval)
    network["n1"].running.timed_out(network.now)
    network.settle("n1")
    for _, packet in zip(range(after), network.packets(), strict=False):
        network.deliver(packet)
    network.crash("n1")
    network.run(20)
    (leader,) = network.leaders
    assert configuration(network, leader).voters == ("n1", "n2", "n4")
    assert not configuration(network, leader).is_joint


def test_a_leader_removes_itself() -> None:
    """6: "there will be a period of time (while it is committing C_new) when the leader is managing
    a cluster that does not include itself; it replicates log entries but does not count itself in
    majorities". What is in flight survives. pitfalls 28 and 47"""
    network = led(*THREE)
    network.change("n1", RemoveMember("n1"))
    network.propose("n1", b"in flight")
    network.deliver_all(only=lambda packet: {packet.sender, packet.to} == {"n1", "n2"})
    assert configuration(network).is_joint
    assert network["n1"].commit_index == 1  # of n2 and n3 only n2 has anything
    network.deliver_all()
    network.run(3)
    assert network.leaders in (["n2"], ["n3"])
    assert network["n2"].commands == network["n3"].commands == [b"in flight"]
    assert configuration(network, "n2").voters == ("n2", "n3")


@pytest.mark.parametrize("what", [RemoveMember("n1"), DemoteMember("n1")])
def test_a_leader_that_is_no_voter_any_more_hands_over(what: Change) -> None:
    """6: "the leader steps down once it has committed the C_new log entry"; who takes over need not
    wait for an election timeout. A demoted leader counts itself no more. pitfall 28"""
    network = led(*THREE)
    network.change("n1", what)
    began = network.now
    network.deliver_all()
    assert network.now == began
    (leader,) = [name for name in network.leaders if name != "n1"]
    network.propose(leader, b"x")
    network.deliver_all()
    network.run(3)
    assert network.leaders == [leader]
    assert network["n1"].server.role is Role.FOLLOWER
    assert not network["n1"].server.may_campaign


def test_a_leader_alone_that_is_demoted_with_its_successor_silent_goes_anyway() -> None:
    network = led("n1", "n2")
    network.change("n1", DemoteMember("n1"))
    network.deliver_until(lambda: not configuration(network).is_joint)
    network.deliver_until(lambda: network["n1"].server.transfer is not None)
    network.crash("n2")
    network.run(2)
    assert network.leaders == []
    network.start("n2")
    network.run(5)
    assert network.leaders == ["n2"]


def test_who_is_removed_learns_it_and_disturbs_nobody() -> None:
    """6: "the third issue is that removed servers can disrupt the cluster". pitfalls 18 and 49"""
    network = led(*THREE)
    network.partition(["n1", "n2"], ["n3"])
    change(network, RemoveMember("n3"))
    network.run(10)
    assert "n3 asks for pre-votes for term 2" in network["n3"].texts
    term = network["n1"].server.current_term
    network.heal()
    network.run(10)
    assert is_removed(network, "n3")
    assert not network["n3"].server.may_campaign
    assert {node.server.current_term for node in network.up} == {term}
    network.restart("n3")
    assert is_removed(network, "n3"), "a restart remembers"


def test_who_is_removed_knows_it_by_its_own_log() -> None:
    network = led(*THREE)
    network.inject("n2", "n3", rpcs.append(2, 1, 1, leader_commit=1))
    new = rpcs.configuration_entry(2, 2, Configuration(("n1", "n2")))
    network.inject("n2", "n3", rpcs.append(2, 1, 1, [new], leader_commit=1))
    assert not is_removed(network, "n3")
    network.inject("n2", "n3", rpcs.append(2, 2, 2, leader_commit=2))
    assert is_removed(network, "n3")
    for _ in range(100):
        network.tick("n3")
    assert network.sent(RequestVoteRequest) == []


def test_a_new_member_does_not_take_the_past_for_its_removal() -> None:
    """Its log begins with configurations that do not know it yet. pitfall 8"""
    network = led(*THREE)
    change(network, RemoveMember("n3"))
    index = change(network, AddMember("n3", "x"))
    network.join("n3", index)
    for _ in range(6):
        network.heartbeat("n1")
        assert not is_removed(network, "n3")
    assert configuration(network).voters == THREE


def test_a_node_that_was_never_fed_elects_nobody() -> None:
    """pitfall 8: an empty node knows of no configuration, and is no majority by itself."""
    network = led(*THREE)
    index = change(network, AddMember("n4", "x"))
    network.join("n4", index)
    network.isolate("n4")
    network.run(20)
    assert network["n4"].server.current_term == 0
    assert not is_removed(network, "n4")


def test_what_another_life_of_a_name_says_counts_for_nothing() -> None:
    """n4 has been removed and admitted again, and n3, which has heard of neither, asks for votes:
    the new n4 answers (pitfalls 20 and 44), but in n3's configuration it is nobody. pitfall 7"""
    four = ("n1", "n2", "n3", "n4")
    network = led(*four)
    network.partition(["n1", "n2", "n4"], ["n3"])
    change(network, RemoveMember("n4"))
    index = change(network, AddMember("n4", "x"))
    network.join("n4", index)
    server = network["n3"].server
    assert not server.counts("n4", index)
    assert server.counts("n4", 0)
    assert not server.has_removed("n4", index)
    assert not server.has_removed("n4", 0)
    assert network["n1"].server.has_removed("n4", 0)
    assert network["n1"].server.counts("n4", index)


def test_a_voter_that_was_cut_off_while_members_changed_does_not_block_elections() -> None:
    """pitfall 44: n4 and n5 were added while n3 was away, and n1 is dead: n3 is needed."""
    network = led(*THREE)
    network.partition(["n1", "n2", "n4", "n5"], ["n3"])
    for name in ("n4", "n5"):
        index = change(network, AddMember(name, name))
        network.join(name, index)
        network.partition(["n1", "n2", "n4", "n5"], ["n3"])
        for _ in range(4):
            network.heartbeat("n1")
    assert configuration(network).voters == FIVE
    network.crash("n1")
    network.crash("n5")
    network.heal()
    network.run(10)
    assert network.leaders[0] in {"n2", "n4"}
    assert configuration(network, "n3").voters == FIVE


def test_an_election_in_a_joint_configuration_ends() -> None:
    """pitfall 16: the longest log is in an older term than a shorter one, six voters in two halves;
    someone is elected."""
    members = Configuration(("n4", "n5", "n6"), outgoing_voters=("n1", "n2", "n3"))
    logs = {"n1": [1, 1, 1, 1], "n2": [1, 1, 2], "n3": [1], "n4": [1, 1, 1, 1], "n5": [1, 1, 2]}
    network = Network(members, logs=logs, terms=dict.fromkeys(members.members, 3))
    network.run(20)
    assert len(network.leaders) == 1


def test_who_led_before_is_recognised_when_it_asks_again() -> None:
    """pitfall 22: while members change, a leader that lost its quorum for a moment stands again;
    its followers had heard of it just now."""
    network = led(*THREE, learners=("n4",))
    network.change("n1", PromoteMember("n4"))
    network.deliver_all()
    network.isolate("n1")
    network.run(1.1)
    network.heal()
    network.run(10)
    assert len(network.leaders) == 1


@pytest.mark.parametrize("target", ["n4", "n9"])
def test_leadership_goes_to_voters_only(target: str) -> None:
    """pitfall 94"""
    network = led(*THREE, learners=("n4",))
    with pytest.raises(TransferRefused, match=f"{target} is no voter"):
        network.transfer("n1", target)


def test_a_learner_does_not_stand_when_told_to() -> None:
    """pitfalls 21 and 94"""
    network = led(*THREE, learners=("n4",))
    network.inject("n1", "n4", rpcs.timeout_now(1))
    assert network["n4"].server.role is Role.FOLLOWER


def test_the_best_successor_is_the_preferred_one() -> None:
    network = led(*THREE)
    network["n1"].running.rank({"n2": 5, "n3": 1})
    network.partition(["n1", "n3"], ["n2"])
    network.propose("n1", b"x")
    network.deliver_all()
    network.heal()
    network.heartbeat("n1")
    assert network.transfer("n1") == "n2"


def test_nobody_hands_over_to_rank_0() -> None:
    network = led(*THREE)
    network["n1"].running.rank({"n2": 0, "n3": 0})
    with pytest.raises(TransferRefused, match="no other voter answers"):
        network.transfer("n1")
    assert network.transfer("n1", "n2") == "n2", "unless it is told to"


def test_entries_go_to_new_members_from_the_change_on() -> None:
    network = led(*THREE)
    network.change("n1", AddMember("n4", "x"))
    assert len(network.sent(AppendEntriesRequest, to="n4")) == 1
    network.deliver_all()
    network.change("n1", RemoveMember("n4"))
    assert "n4" not in network["n1"].server.progress
    assert network.sent(TimeoutNowRequest) == []


def test_a_pending_configuration_is_in_no_snapshot() -> None:
    """pitfall 42: n1 takes a snapshot while its change is not committed, then loses the change."""
    network = led(*THREE)
    network.isolate("n1")
    network.change("n1", RemoveMember("n3"))
    network.take_snapshot("n1")
    assert network["n1"].server.snapshot.configuration == Configuration(THREE)
    network.elect("n2")
    network.heal()
    network.heartbeat("n2")
    network.heartbeat("n2")
    network.restart("n1", keep_state=False)
    assert configuration(network) == Configuration(THREE)
