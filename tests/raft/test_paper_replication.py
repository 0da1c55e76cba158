"""The paper, sentence by sentence: sections 5.3 and 5.5, log replication."""

from __future__ import annotations

import pytest

from raftd import record
from raftd.raft.messages import AppendEntriesRequest, AppendEntriesResponse, RequestVoteResponse
from raftd.raft.state import Role, Settings
from tests.raft import rpcs
from tests.raft.lone import FIVE, THREE, answer, in_role
from tests.raft.network import Network

FIGURE_7 = {
    "n1": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


def test_a_command_is_appended_and_sent_to_all_in_parallel() -> None:
    """5.3: "the leader appends the command to its log as a new entry, then issues AppendEntries
    RPCs in parallel to each of the other servers to replicate the entry"."""
    network = Network(FIVE)
    network.elect("n1")
    index, term = network.propose("n1", b"x")
    assert (index, term) == (2, 1)
    assert network["n1"].server.log.last_index == 2
    assert {packet.to for packet in network.wire} == set(FIVE[1:])
    for request in network.sent(AppendEntriesRequest):
        assert [record.payload(entry) for entry in request.entries] == [b"x"]


def test_commands_that_come_together_leave_together() -> None:
    """Many calls, one update: one save and one AppendEntries for each follower."""
    network = Network(THREE)
    network.elect("n1")
    for payload in (b"a", b"b", b"c"):
        network["n1"].running.propose(network.now, [payload])
    network.settle("n1")
    assert [len(request.entries) for request in network.sent(AppendEntriesRequest)] == [3, 3]
    assert len(network["n1"].updates[-2].entries) == 3


def test_a_request_names_what_stands_in_front() -> None:
    """5.3: "when sending an AppendEntries RPC, the leader includes the index and term of the entry
    in its log that immediately precedes the new entries"."""
    network = in_role(Role.LEADER, log=[1, 1, 3])
    network.propose("n1", b"x")
    for request in network.sent(AppendEntriesRequest):
        assert [entry.index for entry in request.entries] == [5]
        assert (request.prev_log_index, request.prev_log_term) == (4, 4)


@pytest.mark.parametrize("members", [THREE[:1], THREE[:2], THREE, FIVE[:4], FIVE])
def test_an_entry_is_committed_once_a_majority_has_it(members: tuple[str, ...]) -> None:
    """5.3: "a log entry is committed once the leader that created the entry has replicated it on a
    majority of the servers"."""
    network = Network(members)
    network.elect("n1")
    index, _ = network.propose("n1", b"x")
    copies = 1
    for peer in members[1:]:
        assert (network["n1"].commit_index >= index) is (copies > len(members) / 2)
        network.deliver_all(only=lambda packet: peer in {packet.to, packet.sender})  # noqa: B023
        copies += 1
    assert network["n1"].commands == [b"x"]


def test_all_in_front_of_a_committed_entry_is_committed() -> None:
    """5.3: "this also commits all preceding entries in the leader's log, including entries created
    by previous leaders"."""
    network = Network(THREE, logs={"n1": [1, 2, 2], "n2": [1, 2, 2], "n3": []})
    network.elect("n1")
    assert network["n1"].commit_index == 4
    assert network["n1"].commands == [b"1.1", b"2.2", b"3.2"]


def test_followers_learn_the_commit_index_from_heartbeats_too() -> None:
    """5.3: "the leader keeps track of the highest index it knows to be committed, and it includes
    that index in future AppendEntries RPCs (including heartbeats) so that the other servers
    eventually find out"."""
    network = Network(THREE)
    network.elect("n1")
    network.propose("n1", b"x")
    network.deliver_all()
    assert network["n2"].commands == []
    network.heartbeat("n1")
    assert network["n2"].commands == network["n3"].commands == [b"x"]


def test_entries_are_applied_in_the_order_of_the_log() -> None:
    """5.3: "once a follower learns that a log entry is committed, it applies the entry to its local
    state machine (in log order)"."""
    network = Network(THREE)
    network.elect("n1")
    for number in range(10):
        network.propose("n1", b"%d" % number)
        network.deliver_all()
    network.heartbeat("n1")
    for node in network.up:
        assert [entry.index for entry in node.applied] == list(range(1, 12))
        assert node.commands == [b"%d" % number for number in range(10)]


@pytest.mark.parametrize(
    ("prev", "agrees"), [((0, 0), True), ((2, 1), True), ((3, 1), False), ((4, 2), False)]
)
def test_the_consistency_check(prev: tuple[int, int], agrees: bool) -> None:
    """5.3: "if the follower does not find an entry in its log with the same index and term, then it
    refuses the new entries"."""
    network = in_role(Role.FOLLOWER, log=[1, 1, 2])
    message = answer(network, rpcs.append(3, *prev, entries=[3]))
    assert isinstance(message, AppendEntriesResponse)
    assert message.success is agrees
    assert message.match_index == (prev[0] + 1 if agrees else 0)
    if not agrees:
        assert network["n1"].server.log.last_index == 3


def test_conflicting_entries_are_overwritten() -> None:
    """5.3: "this means that conflicting entries in follower logs will be overwritten with entries
    from the leader's log". Figure 2: "if an existing entry conflicts with a new one (same index but
    different terms), delete the existing entry and all that follow it"."""
    network = in_role(Role.FOLLOWER, log=[1, 1, 2, 2, 2])
    network.inject("n2", "n1", rpcs.append(3, 2, 1, [3]))
    assert network["n1"].server.log.term_runs == ((1, 1), (3, 3))
    assert [entry.term for entry in network["n1"].durable.entries] == [1, 1, 3]


def test_a_new_leader_starts_behind_its_last_entry() -> None:
    """5.3: "when a leader first comes to power, it initializes all next_index values to the index
    just after the last one in its log". Figure 2: match_index "initialized to 0"."""
    network = in_role(Role.CANDIDATE, log=[1, 1, 2])
    network.inject("n2", "n1", RequestVoteResponse(3, vote_granted=True, request_id=1))
    for request in network.sent(AppendEntriesRequest):
        assert (request.prev_log_index, request.prev_log_term) == (3, 2)
    assert {p.match_index for p in network["n1"].server.progress.values()} == {0}


@pytest.mark.parametrize("follower", list("abcdef"))
def test_figure_7(follower: str) -> None:
    """5.3, Figure 7: "the leader handles inconsistencies by forcing the followers' logs to
    duplicate its own"; "one AppendEntries RPC will be required for each term with conflicting
    entries, rather than one RPC per entry". pitfall 33"""
    network = Network(FIGURE_7, logs=FIGURE_7, terms=dict.fromkeys(FIGURE_7, 7))
    network.elect("n1")
    assert network["n1"].server.current_term == 8
    network.heartbeat("n1")
    for node in (network["n1"], network[follower]):
        assert [entry.term for entry in node.durable.entries] == [*FIGURE_7["n1"], 8]
        assert len(node.applied) == 11
    refusals = [text for text in network[follower].texts if "has no entry" in text]
    assert len(refusals) <= 3


def test_a_long_conflict_takes_few_messages() -> None:
    """5.3: the same, with a thousand entries of ten terms and requests of one entry. pitfall 33"""
    settings = Settings(max_append_bytes=1)
    leader = [1] * 50 + [21] * 2
    follower = [1] * 50 + [term for term in range(2, 12) for _ in range(100)]
    logs = {"n1": leader, "n2": leader, "n3": follower}
    network = Network(THREE, settings=settings, logs=logs, terms=dict.fromkeys(THREE, 21))
    network.elect("n1")
    network.heartbeat("n1")
    assert network["n3"].durable.entries == network["n1"].durable.entries
    assert len([text for text in network["n3"].texts if "has no entry" in text]) <= 3


def test_the_leader_retries_until_all_have_everything() -> None:
    """5.3: "if followers crash or run slowly, or if network packets are lost, the leader retries
    AppendEntries RPCs indefinitely (even after it has responded to the client) until all followers
    eventually store all log entries"."""
    network = Network(THREE)
    network.elect("n1")
    network.isolate("n3")
    network.propose("n1", b"x")
    for _ in range(20):
        network.heartbeat("n1")
        assert network["n3"].commands == []
    assert network["n1"].commands == [b"x"]
    network.heal()
    network.heartbeat("n1")
    network.heartbeat("n1")
    assert network["n3"].commands == [b"x"]


def test_a_slow_follower_holds_up_nobody() -> None:
    """5.3: "a single slow follower will not impact performance"; "Raft can accept, replicate, and
    apply new log entries as long as a majority of the servers are up"."""
    network = Network(FIVE)
    network.elect("n1")
    network.crash("n4")
    network.crash("n5")
    for number in range(5):
        network.propose("n1", b"%d" % number)
        network.deliver_all()
        assert len(network["n1"].commands) == number + 1
    network.crash("n3")
    network.propose("n1", b"no")
    network.deliver_all()
    assert len(network["n1"].commands) == 5


def test_a_leader_never_overwrites_its_own_entries() -> None:
    """5.3: "a leader never overwrites or deletes entries in its own log". pitfall 93"""
    network = in_role(Role.LEADER, log=[1, 1])
    before = network["n1"].server.log.term_runs
    message = answer(network, rpcs.append(2, 1, 1, [2]))
    assert isinstance(message, AppendEntriesResponse)
    assert not message.success
    assert network["n1"].server.log.term_runs == before
    assert network["n1"].server.role is Role.LEADER
    assert network["n1"].notes[-1].text.startswith("n1 refuses")


def test_rpcs_are_idempotent() -> None:
    """5.5: "if a follower receives an AppendEntries request that includes log entries already
    present in its log, it ignores those entries in the new request". Also when it has more."""
    network = in_role(Role.FOLLOWER, log=[1, 1, 1, 2])
    before = list(network["n1"].durable.entries)
    for entries in ([1], [1, 1], [1, 1, 1, 2]):
        message = answer(network, rpcs.append(2, 0, 0, entries))
        assert isinstance(message, AppendEntriesResponse)
        assert (message.success, message.match_index) == (True, len(entries))
    assert network["n1"].durable.entries == before
    assert not any(update.entries for update in network["n1"].updates)


def test_a_crashed_follower_is_caught_up() -> None:
    """5.5: "if a follower or candidate crashes, then future RequestVote and AppendEntries RPCs sent
    to it will fail. Raft handles these failures by retrying indefinitely; if the crashed server
    restarts, then the RPC will complete successfully"."""
    network = Network(THREE)
    network.elect("n1")
    network.crash("n3")
    network.propose("n1", *[b"%d" % number for number in range(20)])
    network.run(0.5)
    network.start("n3")
    network.run(0.5)
    assert network["n3"].applied == network["n1"].applied
    assert network.leaders == ["n1"]


def test_a_server_that_answered_and_crashed_is_asked_again() -> None:
    """5.5: "if a server crashes after completing an RPC but before responding, then it will receive
    the same RPC again after it restarts"."""
    network = Network(THREE[:2])
    network.elect("n1")
    network.propose("n1", b"x")
    network.deliver(network.wire[0])
    network.restart("n2")
    network.lose_all()
    assert network["n2"].durable.last_index == 2
    network.heartbeat("n1")
    assert network["n1"].commands == [b"x"]
    assert network["n2"].durable.last_index == 2
