"""The one way out: what an update holds, and the order law.

Nothing in `messages` speaks of what is not durable; what does waits in `messages_after_save`
(paper 5.1, Figure 2; thesis 10.2.1). The network checks every message that leaves against the
disk of its sender; here the cases are walked through one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftd.raft.messages import (
    AppendEntriesResponse,
    Message,
    RequestVoteRequest,
    RequestVoteResponse,
)
from raftd.raft.state import HardState, Role, Settings
from raftd.raft.update import Update
from tests.raft import rpcs
from tests.raft.lone import FIVE, THREE, in_role
from tests.raft.network import Network
from tests.raft.node import Node


def taken(network: Network, call: Callable[[Node], None]) -> Update:
    """What n1 says after `call`, with its saves held."""
    node = network["n1"]
    node.held.add("save")
    call(node)
    network.settle("n1")
    return node.updates[-1]


def receive(network: Network, message: Message) -> Callable[[Node], None]:
    def call(node: Node) -> None:
        node.owed["n2", message.request_id] += 1
        node.running.receive(network.now, "n2", message)

    return call


def test_nothing_new_is_nothing() -> None:
    network = in_role(Role.FOLLOWER, log=[1])
    update = taken(network, lambda node: None)
    assert update.messages == update.messages_after_save == ()
    assert not update.needs_save
    assert update.notes == ()


def test_notes_of_detail_are_made_for_those_who_want_them() -> None:
    network = in_role(Role.FOLLOWER)
    call = receive(network, rpcs.append(3, 0, 0, [3], leader_commit=1))
    assert [note.level for note in taken(network, call).notes] == ["info", "debug"]
    network = in_role(Role.FOLLOWER)
    network["n1"].running.set_details(False)
    assert [note.level for note in taken(network, call).notes] == ["info"]


def test_an_update_is_given_once() -> None:
    network = in_role(Role.FOLLOWER)
    first = taken(network, receive(network, rpcs.append(3, 0, 0, [3])))
    second = taken(network, lambda node: None)
    assert (first.hard_state, len(first.entries)) == (HardState(3), 1)
    assert (second.hard_state, second.entries, second.messages_after_save) == (None, (), ())


@pytest.mark.parametrize(
    "message",
    [
        rpcs.vote(3),
        rpcs.append(3),
        rpcs.append(1, 0, 0, [1]),
        rpcs.vote(1),
        rpcs.timeout_now(3),
    ],
    ids=["vote in a new term", "a new term", "an entry", "vote in this term", "timeout now"],
)
def test_what_speaks_of_something_new_waits_for_the_save(message: Message) -> None:
    """pitfalls 2 and 38"""
    network = in_role(Role.FOLLOWER)
    update = taken(network, receive(network, message))
    assert update.messages == ()
    assert update.messages_after_save != ()
    assert update.needs_save


@pytest.mark.parametrize(
    "message",
    [rpcs.vote(0), rpcs.append(0), rpcs.append(1, 1, 1), rpcs.vote(2, 9, 9, pre_vote=True)],
    ids=["stale vote", "stale append", "a heartbeat", "a pre-vote"],
)
def test_what_speaks_of_nothing_new_leaves_at_once(message: Message) -> None:
    network = in_role(Role.FOLLOWER, log=[1])
    network.inject("n2", "n1", rpcs.append(1))
    network.sleep(5)
    update = taken(network, receive(network, message))
    assert update.messages_after_save == ()
    assert len(update.messages) == 1
    assert not update.needs_save


def test_a_refusal_waits_too_while_its_term_is_unsaved() -> None:
    """A refusal that names a term is a word about that term."""
    network = in_role(Role.FOLLOWER, log=[1])
    first = taken(network, receive(network, rpcs.vote(5)))
    second = taken(network, receive(network, rpcs.append(2)))
    assert first.messages == second.messages == ()
    (out,) = second.messages_after_save
    assert isinstance(out.message, AppendEntriesResponse)
    assert (out.message.success, out.message.term) == (False, 5)


def test_a_leaders_entries_leave_while_it_saves_them() -> None:
    """10.2.1: "the leader can write to its disk in parallel with replicating to the followers and
    them writing to their disks"."""
    network = Network(THREE)
    network.elect("n1")
    update = taken(network, lambda node: node.running.propose(network.now, [b"x"]) and None)
    assert len(update.entries) == 1
    assert {out.to for out in update.messages} == {"n2", "n3"}
    assert update.messages_after_save == ()


def test_a_leader_counts_itself_only_for_what_it_has_saved() -> None:
    """10.2.1: its own disk is one of the majority, not a given."""
    network = Network(THREE)
    network.elect("n1")
    network["n1"].held.add("save")
    network.propose("n1", b"x")
    network.deliver_all(only=lambda packet: "n3" not in {packet.sender, packet.to})
    assert network["n1"].server.commit_index == 1
    network.release("n1")
    assert network["n1"].server.commit_index == 2


def test_a_majority_without_the_leader_commits() -> None:
    """10.2.1: "the leader may even commit an entry before it has been written to its own disk, if a
    majority of followers have written it to their disks; this is still safe". It applies it only
    once it has it."""
    network = Network(FIVE)
    network.elect("n1")
    network["n1"].held.add("save")
    network.propose("n1", b"x")
    network.deliver_all()
    assert network["n1"].server.commit_index == 2
    assert network["n1"].commit_index == 1
    assert network["n1"].commands == []
    network.release("n1")
    assert network["n1"].commands == [b"x"]


def test_what_is_not_saved_stays_in_memory() -> None:
    """Even if it is committed: no disk has it for a follower that is behind. pitfall 33"""
    network = Network(FIVE, settings=Settings(tail_bytes=0))
    network.elect("n1")
    node = network["n1"]
    node.held.add("save")
    network.isolate("n5")
    network.propose("n1", b"x")
    network.deliver_all()
    assert node.server.commit_index == 2
    network.heal()
    network.heartbeat("n1")
    network.heartbeat("n1")
    assert network["n5"].server.log.last_index == 2
    assert node.server.log.entry(2) is not None
    network.release("n1")
    assert node.server.log.entry(2) is None


def test_a_leader_that_crashes_before_its_save_loses_nothing_committed() -> None:
    """10.2.1: the same, and then the leader's disk never gets it."""
    network = Network(FIVE)
    network.elect("n1")
    network["n1"].held.add("save")
    network.propose("n1", b"x")
    network.deliver_all()
    network.restart("n1")
    network["n1"].held.clear()
    assert network["n1"].durable.last_index == 1
    network.elect("n3")
    network.heartbeat("n3")
    network.heartbeat("n3")
    assert all(node.commands == [b"x"] for node in network.up)


def test_a_follower_applies_only_what_it_has_saved() -> None:
    network = in_role(Role.FOLLOWER)
    node = network["n1"]
    node.held.add("save")
    network.inject("n2", "n1", rpcs.append(1, 0, 0, [1, 1], leader_commit=2))
    assert node.server.commit_index == 2
    assert node.updates[-1].commit_index == 0
    network.release("n1")
    assert len(node.applied) == 2


def test_several_updates_may_be_waiting_to_be_saved() -> None:
    """Each save releases what waits for it, in order."""
    network = in_role(Role.FOLLOWER)
    node = network["n1"]
    node.held.add("save")
    for index in range(3):
        network.inject("n2", "n1", rpcs.append(1, index, int(index > 0), [1]))
    seen = []
    while node.waiting:
        network.save("n1")
        seen.append([message.match_index for message in network.sent(AppendEntriesResponse)])
    assert seen[:3] == [[1], [1, 2], [1, 2, 3]]


def test_many_calls_share_one_update() -> None:
    """Group commit: one save for all that came in, and every answer waits for it, in order."""
    network = in_role(Role.FOLLOWER)
    node = network["n1"]
    node.held.add("update")
    for index in range(3):
        network.inject("n2", "n1", rpcs.append(1, index, int(index > 0), [1]))
    network.sleep(5)
    network.inject("n3", "n1", rpcs.vote(4, 9, 1))
    network.inject("n3", "n1", rpcs.append(4, 1, 1, [4]))
    network.release("n1")
    update = next(update for update in node.updates if update.needs_save)
    assert update.hard_state == HardState(4, "n3")
    assert [(entry.index, entry.term) for entry in update.entries] == [(1, 1), (2, 4)]
    assert update.messages == ()
    assert [out.message.term for out in update.messages_after_save] == [1, 1, 1, 4, 4]
    assert sum(update.needs_save for update in node.updates) == 1


def test_a_save_of_an_older_vote_does_not_elect() -> None:
    """Two elections while one save is under way: only the newest vote counts, when it is saved."""
    network = in_role(Role.FOLLOWER)
    node = network["n1"]
    node.held.add("save")
    network.inject("n2", "n1", rpcs.timeout_now(1))
    network.inject("n2", "n1", rpcs.append(2))
    network.inject("n2", "n1", rpcs.timeout_now(2))
    assert (node.server.role, node.server.hard_state) == (Role.CANDIDATE, HardState(3, "n1"))
    for _ in range(2):
        assert node.server.votes == {}
        network.save("n1")
    assert node.server.votes == {}
    network.release("n1")
    assert node.server.votes == {"n1": True}


def test_a_crash_before_the_save_takes_back_everything() -> None:
    """pitfall 2: nothing had been said, so nothing is lost."""
    network = in_role(Role.FOLLOWER, log=[1])
    node = network["n1"]
    node.held.add("save")
    network.inject("n2", "n1", rpcs.append(5, 1, 1, [5, 5]))
    network.inject("n3", "n1", rpcs.vote(6, 9, 9))
    assert network.wire == []
    network.restart("n1")
    assert (node.server.hard_state, node.server.log.last_index) == (HardState(1), 1)


def test_half_a_save_is_a_shorter_log() -> None:
    """A torn write: the first of three entries is there."""
    network = in_role(Role.FOLLOWER)
    node = network["n1"]
    node.held.add("save")
    network.inject("n2", "n1", rpcs.append(4, 0, 0, [4, 4, 4]))
    node.save_partly(1)
    network.restart("n1")
    assert (node.server.hard_state, node.server.log.last_index) == (HardState(4), 1)


def test_requests_for_votes_wait_for_the_candidates_own_vote() -> None:
    network = in_role(Role.PRE_CANDIDATE)
    answer = RequestVoteResponse(2, True, 1, pre_vote=True)
    update = taken(network, lambda node: node.running.receive(network.now, "n2", answer))
    assert update.messages == ()
    assert [type(out.message) for out in update.messages_after_save] == [RequestVoteRequest] * 2
