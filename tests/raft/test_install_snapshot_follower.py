"""InstallSnapshot, the follower's end: paper section 7 and Figure 13."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from raftd.raft.configuration import Configuration
from raftd.raft.messages import (
    AppendEntriesResponse,
    InstallSnapshotResponse,
)
from raftd.raft.state import Role
from tests.raft import rpcs
from tests.raft.lone import THREE, answer, in_role
from tests.raft.network import Network

MEMBERS = Configuration(THREE)


def install(log: Sequence[int], snapshot: Sequence[int], *, commit: int = 0) -> Network:
    network = in_role(Role.FOLLOWER, log=log)
    if commit:
        network.inject("n2", "n1", rpcs.append(9, commit, log[commit - 1], leader_commit=commit))
    message = answer(network, rpcs.snapshot(9, snapshot, MEMBERS))
    assert isinstance(message, InstallSnapshotResponse)
    assert message.installed
    return network


def test_a_snapshot_of_something_else_replaces_the_whole_log() -> None:
    """7: "usually the snapshot will contain new information not already in the recipient's log. In
    this case, the follower discards its entire log; it is all superseded by the snapshot".
    Figure 13, 7."""
    for log in ([1, 1], [1, 1, 1, 1, 1, 1], []):
        network = install(log, [1, 1, 2, 3])
        node = network["n1"]
        assert (node.server.log.first_index, node.server.log.last_index) == (5, 4)
        assert node.server.log.last_term == 3
        assert (node.commit_index, len(node.applied), node.durable.entries) == (4, 4, [])


def test_a_snapshot_of_a_prefix_keeps_what_follows() -> None:
    """7: "if instead the follower receives a snapshot that describes a prefix of its log (due to
    retransmission or by mistake), then log entries covered by the snapshot are deleted but entries
    following the snapshot are still valid and must be retained". Figure 13, 6. pitfall 50"""
    network = install([1, 1, 2, 2, 3], [1, 1, 2])
    node = network["n1"]
    assert (node.server.log.first_index, node.server.log.term_runs) == (4, ((4, 2), (5, 3)))
    assert [entry.index for entry in node.durable.entries] == [4, 5]
    assert node.commit_index == 3
    network.restart("n1")
    assert node.server.log.last_index == 5


@pytest.mark.parametrize("covered", [1, 2, 3])
def test_a_snapshot_of_what_is_committed_changes_nothing(covered: int) -> None:
    """7: the same, when it is old. pitfall 50: suffix and commit index stay."""
    network = install([1, 1, 2, 2, 3], [1, 1, 2][:covered], commit=3)
    node = network["n1"]
    assert (node.server.log.first_index, node.server.log.last_index) == (1, 5)
    assert (node.commit_index, node.server.snapshot.last_included_index) == (3, 0)
    assert not any(update.snapshot_chunks for update in node.updates), "nor is it written"


def test_a_snapshot_restarts_the_election_timeout() -> None:
    """Figure 13 answers an AppendEntries' purpose too: it comes from the leader of the term."""
    network = in_role(Role.CANDIDATE)
    network.inject("n2", "n1", rpcs.snapshot(2, [1, 1], MEMBERS, size=10))
    server = network["n1"].server
    assert (server.role, server.leader) == (Role.FOLLOWER, "n2")
    assert network["n1"].deadline >= network.now + 1.0


def test_a_leader_refuses_a_snapshot_in_its_own_term() -> None:
    network = in_role(Role.LEADER)
    message = answer(network, rpcs.snapshot(2, [1, 1, 2], MEMBERS))
    assert isinstance(message, InstallSnapshotResponse)
    assert not message.installed
    assert network["n1"].server.role is Role.LEADER


def test_an_installed_snapshot_is_durable_before_the_answer_leaves() -> None:
    """Figure 13, with 5.1: an answer never speaks of what a crash would take back. pitfall 52"""
    network = in_role(Role.FOLLOWER, log=[1, 1])
    network["n1"].held.add("save")
    network.inject("n2", "n1", rpcs.snapshot(1, [1] * 9, MEMBERS))
    assert network["n1"].server.commit_index == 9
    assert network["n1"].commit_index == 0
    assert network.sent(InstallSnapshotResponse) == []
    network.inject("n2", "n1", rpcs.append(1, 9, 1, [1], leader_commit=10))
    network.restart("n1")
    assert (network["n1"].server.log.first_index, network["n1"].server.log.last_index) == (1, 2)


def test_entries_behind_an_installed_snapshot_are_saved_with_it() -> None:
    network = in_role(Role.FOLLOWER)
    network["n1"].held.add("save")
    network.inject("n2", "n1", rpcs.snapshot(1, [1] * 4, MEMBERS))
    network.inject("n2", "n1", rpcs.append(1, 4, 1, [1, 1], leader_commit=6))
    network.release("n1")
    assert len(network["n1"].applied) == 6
    network.restart("n1")
    assert (network["n1"].server.log.first_index, network["n1"].server.log.last_index) == (5, 6)
    assert network["n1"].server.log.last_term == 1


def test_a_save_of_entries_that_a_snapshot_replaced_makes_nothing_durable() -> None:
    """They were being written when the whole log went; what stands at their indexes now is not on
    disk, and is not acknowledged. pitfalls 2 and 52"""
    network = in_role(Role.FOLLOWER)
    node = network["n1"]
    node.held.add("save")
    network.inject("n2", "n1", rpcs.append(1, 0, 0, [1] * 8))
    network.inject("n3", "n1", rpcs.snapshot(2, [1, 1, 2, 2], MEMBERS))
    network.inject("n3", "n1", rpcs.append(2, 4, 2, [2, 2, 2]))
    network.save("n1")
    assert node.durable.last_index == 8
    assert node.server.persisted_index == 0
    assert network.sent(AppendEntriesResponse, to="n3") == []
    network.release("n1")
    assert node.server.persisted_index == node.durable.last_index == 7


def test_a_snapshot_whose_sender_was_deposed_meanwhile_is_not_installed() -> None:
    """The chunk was written while a newer term began."""
    network = in_role(Role.FOLLOWER)
    network["n1"].held.add("write")
    network.inject("n2", "n1", rpcs.snapshot(1, [1] * 4, MEMBERS))
    network.sleep(2)
    network.inject("n3", "n1", rpcs.vote(5, 9, 5))
    network.release("n1")
    (message,) = network.sent(InstallSnapshotResponse)
    assert (message.term, message.installed) == (5, False)
    assert network["n1"].server.snapshot.last_included_index == 0


def test_two_copies_of_the_last_chunk_install_once() -> None:
    """pitfall 54: both are answered, the second for what it is."""
    network = in_role(Role.FOLLOWER)
    network["n1"].held.add("write")
    first, second = (rpcs.snapshot(1, [1] * 4, MEMBERS) for _ in range(2))
    network.inject("n2", "n1", first)
    network.inject("n2", "n1", second)
    network.release("n1")
    assert [message.installed for message in network.sent(InstallSnapshotResponse)] == [True, True]
    assert len([text for text in network["n1"].texts if "installs" in text]) == 1


def test_the_configuration_comes_with_the_snapshot() -> None:
    """7 and Figure 13, 8: "reset state machine using snapshot contents (and load snapshot's cluster
    configuration)". An uncommitted one in the log goes with the log. pitfalls 40 and 42"""
    pending, newer = Configuration(("n1",)), Configuration(("n1", "n2", "n3", "n4"))
    network = in_role(Role.FOLLOWER)
    entry = rpcs.configuration_entry(2, 1, pending)
    network.inject("n2", "n1", rpcs.append(1, 0, 0, [1, entry]))
    assert network["n1"].server.configuration == pending
    network.inject("n2", "n1", rpcs.snapshot(2, [1, 2, 2], newer))
    assert network["n1"].server.configurations == [(3, newer)]


def test_a_pending_configuration_stays_behind_a_snapshot_of_the_prefix() -> None:
    """pitfall 42: a snapshot has the configuration of its last included index, not the latest."""
    pending = Configuration(("n1",))
    network = in_role(Role.FOLLOWER)
    entry = rpcs.configuration_entry(3, 1, pending)
    network.inject("n2", "n1", rpcs.append(1, 0, 0, [1, 1, entry], leader_commit=2))
    network.take_snapshot("n1")
    assert network["n1"].server.snapshot.configuration == MEMBERS
    assert network["n1"].server.configurations == [(2, MEMBERS), (3, pending)]
    network.restart("n1")
    assert network["n1"].server.configuration == pending
    network.inject("n3", "n1", rpcs.append(2, 2, 1, [2]))
    assert network["n1"].server.configuration == MEMBERS


def test_an_install_keeps_a_pending_configuration_that_follows_it() -> None:
    pending = Configuration(("n1",))
    network = in_role(Role.FOLLOWER)
    entry = rpcs.configuration_entry(3, 1, pending)
    network.inject("n2", "n1", rpcs.append(1, 0, 0, [1, 1, entry]))
    network.inject("n2", "n1", rpcs.snapshot(1, [1, 1], MEMBERS))
    assert network["n1"].server.configurations == [(2, MEMBERS), (3, pending)]


def test_an_append_that_was_answered_before_the_snapshot_comes_again() -> None:
    """pitfall 29: what stands below the log's start, or reaches into it, agrees; nothing is
    truncated."""
    network = install([1, 1, 2, 2, 3], [1, 1, 2])
    for prev, entries, match in (
        ((0, 0), [1], 1),
        ((0, 0), [1, 1, 2, 2], 4),
        ((1, 1), [1, 2], 3),
        ((2, 1), [], 2),
        ((3, 2), [2, 3], 5),
    ):
        message = answer(network, rpcs.append(9, *prev, entries=entries))
        assert isinstance(message, AppendEntriesResponse)
        assert (message.success, message.match_index) == (True, match)
    assert network["n1"].server.log.term_runs == ((4, 2), (5, 3))
