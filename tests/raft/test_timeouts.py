"""What time brings: elections, heartbeats, check-quorum (thesis 6.2), deadlines."""

from __future__ import annotations

import pytest

from raftd.raft.messages import AppendEntriesRequest, AppendEntriesResponse
from raftd.raft.state import Role, Settings
from tests.raft.lone import FIVE, THREE, in_role
from tests.raft.network import Network


def test_a_leader_without_a_quorum_steps_down() -> None:
    """6.2: "a leader in Raft steps down if an election timeout elapses without a successful round
    of heartbeats to a majority of its cluster; this allows clients to retry their requests with
    another server"."""
    network = Network(FIVE)
    network.elect("n1")
    network.partition(["n1", "n2"], ["n3", "n4", "n5"])
    start = network.now
    for _ in range(50):
        if network.leaders == []:
            break
        network.tick("n1")
        network.deliver_all(only=lambda packet: {packet.sender, packet.to} == {"n1", "n2"})
        network.lose_all()
    low = network.settings.election_timeout[0]
    assert low <= network.now - start <= 2 * low
    assert network.leaders == []
    assert network["n1"].server.leader is None
    assert "n1 has lost its quorum in term 1" in network["n1"].texts


@pytest.mark.parametrize("alive", [("n2", "n3"), ("n4", "n5"), ("n2", "n5")])
def test_a_leader_with_a_quorum_leads_on(alive: tuple[str, ...]) -> None:
    """6.2: the same sentence; any majority will do."""
    network = Network(FIVE)
    network.elect("n1")
    for name in set(FIVE[1:]) - set(alive):
        network.crash(name)
    network.run(20)
    assert network.leaders == ["n1"]
    assert network["n1"].running.has_quorum(network.now)
    assert network["n1"].server.current_term == 1


def test_only_answers_of_its_own_term_keep_a_leader() -> None:
    network = Network(THREE)
    network.elect("n1")
    for _ in range(30):
        network.sleep(0.1)
        network["n1"].running.timed_out(network.now)
        network.settle("n1")
        network.lose_all()
        network.inject("n2", "n1", AppendEntriesResponse(0, success=True, request_id=1))
    assert network.leaders == []


def test_a_follower_has_no_quorum() -> None:
    network = Network(THREE)
    assert not network["n1"].running.has_quorum(network.now)


@pytest.mark.parametrize("role", list(Role))
def test_looking_at_the_clock_too_early_does_nothing(role: Role) -> None:
    """`timed_out` is harmless before the deadline."""
    network = in_role(role)
    before = network["n1"].deadline
    assert before > network.now
    network["n1"].running.timed_out(network.now)
    network.settle("n1")
    assert network["n1"].server.role is role
    assert network["n1"].deadline == before
    assert network.wire == []


@pytest.mark.parametrize("role", list(Role))
def test_a_deadline_that_has_passed_moves(role: Role) -> None:
    """Otherwise the driver would call for ever; also after a long sleep of the whole machine."""
    network = in_role(role)
    for silence in (0.0, 0.1, 3600.0):
        network.sleep(silence)
        network.tick("n1")
        network.lose_all()
        assert network["n1"].deadline > network.now


def test_after_a_long_sleep_a_leader_asks_before_it_leads_on() -> None:
    """A stopped and continued process: nobody has answered within an election timeout."""
    network = Network(THREE)
    network.elect("n1")
    network.sleep(60)
    network["n1"].running.timed_out(network.now)
    network.settle("n1")
    assert network.leaders == []


def test_heartbeats_are_left_out_where_entries_have_just_gone() -> None:
    network = Network(THREE)
    network.elect("n1")
    network.heartbeat("n1")
    network.sleep(0.099)
    network.propose("n1", b"x")
    network.lose_all(only=lambda packet: packet.to == "n3")
    network.deliver_all()
    network.sleep(0.001)
    network["n1"].running.timed_out(network.now + 0.001)
    network.settle("n1")
    assert [r for r in network.sent(AppendEntriesRequest, to="n2") if not r.entries] == []


def test_heartbeats_carry_no_more_than_a_follower_can_check() -> None:
    """They speak of what it is known to have: they never conflict, whatever is under way."""
    network = Network(THREE, logs={"n1": [1] * 9, "n2": [1] * 9, "n3": []})
    network.sleep(2)
    network.tick("n1")
    network.deliver_until(lambda: network.leaders == ["n1"])
    network.lose_all()
    network.tick("n1")
    beats = [request for request in network.sent(AppendEntriesRequest) if not request.entries]
    assert all((beat.prev_log_index, beat.prev_log_term) == (0, 0) for beat in beats)
    network.deliver_all()
    network.heartbeat("n1")
    network.tick("n1")
    for beat in network.sent(AppendEntriesRequest):
        assert (beat.prev_log_index, beat.prev_log_term) == (10, 2)


def test_a_cluster_of_one() -> None:
    network = Network(["n1"])
    network.run(3)
    assert network.leaders == ["n1"]
    network.propose("n1", b"x")
    assert network["n1"].commands == [b"x"]
    network.restart("n1")
    network.run(3)
    assert network.leaders == ["n1"]
    assert network["n1"].server.current_term == 2


@pytest.mark.parametrize("seed", range(5))
def test_time_alone_elects_a_leader(seed: int) -> None:
    """5.6: with messages much faster than the election timeout somebody wins soon."""
    network = Network(FIVE, seed=seed, settings=Settings(election_timeout=(0.15, 0.3)))
    network.run(1.5, latency=0.005)
    assert len(network.leaders) == 1
