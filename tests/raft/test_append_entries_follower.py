"""AppendEntries, the follower's end: late, doubled and contradicting requests, hints."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raftd.raft.log import Log
from raftd.raft.messages import AppendEntriesResponse
from raftd.raft.state import Role, Settings
from tests.raft import rpcs
from tests.raft.durable import log_of
from tests.raft.lone import THREE, answer, in_role
from tests.raft.network import Network


def leading() -> Network:
    network = Network(THREE)
    network.elect("n1")
    network.heartbeat("n1")
    return network


def test_a_late_double_after_compaction_truncates_nothing() -> None:
    """pitfall 29: "previous entry already purged" is no conflict; below the commit index nothing
    is looked at."""
    network = leading()
    network.propose("n1", b"x", b"y")
    old = next(packet for packet in network.wire if packet.to == "n2")
    network.double(old)
    network.deliver_all(only=lambda packet: packet is not network.wire[-1])
    network.lose_all(only=lambda packet: packet.to != "n2")
    for _ in range(3):
        network.propose("n1", b"z")
        network.heartbeat("n1")
    network.take_snapshot("n2")
    before = network["n2"].server.log.term_runs, network["n2"].server.log.last_index
    network.inject("n1", "n2", old.message)
    assert (network["n2"].server.log.term_runs, network["n2"].server.log.last_index) == before


def test_a_leader_that_compacted_answers_a_follower_that_lags() -> None:
    """pitfall 30: heartbeats and entries to a peer whose match index is below the leader's log."""
    network = leading()
    network.isolate("n3")
    network.propose("n1", *[b"x"] * 10)
    network.deliver_all()
    network.take_snapshot("n1", trailing=2)
    for _ in range(3):
        network.heartbeat("n1")
    network.heal()
    network.heartbeat("n1")
    network.heartbeat("n1")
    assert network["n3"].applied == network["n1"].applied


@given(
    own=st.lists(st.integers(1, 6), max_size=12).map(sorted),
    prev=st.tuples(st.integers(0, 15), st.integers(0, 7)),
)
@settings(max_examples=150, deadline=None)
def test_a_hint_is_never_beyond_the_log(own: list[int], prev: tuple[int, int]) -> None:
    """pitfall 32: and it leads back, to a place whose term it names."""
    network = Network(THREE, logs={"n1": own})
    message = answer(network, rpcs.append(7, *prev))
    assert isinstance(message, AppendEntriesResponse)
    log: Log = network["n1"].server.log
    if message.success:
        assert prev[0] == 0 or log.term(prev[0]) == prev[1]
    else:
        assert message.conflict_index <= min(log.last_index, prev[0] - 1)
        assert message.conflict_term == log.term(message.conflict_index)
        assert message.conflict_term <= prev[1] or message.conflict_index == 0


@given(
    leader=st.lists(st.integers(1, 9), max_size=30).map(sorted),
    follower=st.lists(st.integers(1, 9), max_size=30).map(sorted),
    shared=st.integers(0, 30),
    max_bytes=st.sampled_from([1, 100, 10_000]),
)
@settings(max_examples=60, deadline=None)
def test_any_two_logs_become_one(
    leader: list[int], follower: list[int], shared: int, max_bytes: int
) -> None:
    """pitfall 33: with byte-limited requests too, and with one exchange for each term at most.
    The logs share a prefix and have different terms behind it, as Raft makes them."""
    prefix = leader[:shared]
    mine = prefix + [2 * term for term in leader[shared:] if not prefix or term >= prefix[-1]]
    other = prefix + [2 * t + 1 for t in follower if not prefix or t >= prefix[-1]]
    network = Network(
        THREE,
        settings=Settings(max_append_bytes=max_bytes),
        logs={"n1": mine, "n2": mine, "n3": other},
        terms=dict.fromkeys(THREE, 30),
    )
    network.elect("n1")
    network.heartbeat("n1")
    assert network["n3"].durable.entries == network["n1"].durable.entries
    refusals = sum("has no entry" in text for text in network["n3"].texts)
    assert refusals <= len(set(mine)) + len(set(other)) + 1


def test_entries_that_contradict_committed_ones_are_refused() -> None:
    """pitfall 27: whoever sends them, what is committed stays, and it is said."""
    network = in_role(Role.FOLLOWER, log=[1, 1, 1])
    network.inject("n2", "n1", rpcs.append(1, 3, 1, leader_commit=3))
    message = answer(network, rpcs.append(5, 1, 1, [4, 4]), "n3")
    assert isinstance(message, AppendEntriesResponse)
    assert not message.success
    assert [entry.term for entry in network["n1"].durable.entries] == [1, 1, 1]
    _says_once(network, "contradicts")
    assert network["n1"].server.contradiction is not None


def test_a_leader_whose_log_contradicts_what_is_committed_is_not_told_that_it_matches() -> None:
    """Not even where it ends: it would count what is another entry here."""
    network = in_role(Role.FOLLOWER, log=[1, 1, 1])
    network.inject("n2", "n1", rpcs.append(1, 3, 1, leader_commit=3))
    for _ in range(3):
        message = answer(network, rpcs.append(5, 2, 2), "n3")
        assert isinstance(message, AppendEntriesResponse)
        assert not message.success
    _says_once(network, "contradicts")


def _says_once(network: Network, text: str) -> None:
    said = [note for note in network["n1"].notes if text in note.text]
    assert [note.level for note in said] == ["error"]


def test_requests_of_a_deposed_leader_are_refused() -> None:
    """pitfall 35: what it had sent arrives after a new term began; and it sends nothing in a term
    that is not its own (the network checks that of every message)."""
    network = leading()
    network.propose("n1", b"late")
    late = [packet for packet in network.wire if packet.to == "n2"]
    network.deliver_all(only=lambda packet: packet not in late and packet.to != "n2")
    network.isolate("n1")
    network.sleep(2)
    network.tick("n3")
    network.deliver_all(only=lambda packet: packet not in late)
    assert "n3" in network.leaders
    network.heal()
    before = list(network["n2"].durable.entries)
    network.deliver(late[0])
    assert network["n2"].durable.entries == before
    network.deliver_all()
    assert network.leaders == ["n3"]


def test_a_heartbeat_reports_no_more_than_is_saved() -> None:
    """pitfall 38: the entries it speaks about are still being written."""
    network = in_role(Role.FOLLOWER, log=[1])
    network["n1"].held.add("save")
    network.inject("n2", "n1", rpcs.append(1, 1, 1, [1, 1, 1]))
    message = answer(network, rpcs.append(1, 4, 1))
    assert isinstance(message, AppendEntriesResponse)
    assert (message.success, message.match_index) == (True, 1)


def test_an_entry_saved_twice_over_another_is_acknowledged_only_then() -> None:
    """pitfall 31, on the follower's side: saved (7, t1), replaced by (7, t2), and by (7, t1) again:
    the first save proves nothing any more."""
    network = in_role(Role.FOLLOWER, log=[1])
    node = network["n1"]
    node.held.add("save")
    first = log_of([1, 2])[1:]
    network.inject("n2", "n1", rpcs.append(2, 1, 1, first))
    network.inject("n3", "n1", rpcs.append(3, 1, 1, [3]))
    network.inject("n2", "n1", rpcs.append(4, 1, 1, first))
    assert len([update for update in node.waiting if update.entries]) == 3
    network.save("n1")
    assert node.server.persisted_index == 1
    network.save("n1")
    assert node.server.persisted_index == 1
    network.release("n1")
    assert node.server.persisted_index == 2
