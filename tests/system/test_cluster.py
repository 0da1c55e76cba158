"""Real processes in good times and bad: election, replication, crashes, pauses, restarts."""

from __future__ import annotations

import contextlib
import random
import signal

import pytest

from tests.history import Recorder
from tests.system.client import CallError, decode, encode
from tests.system.cluster import CALM, Cluster
from tests.system.load import Load, assert_linearizable, assert_same_state, read_back
from tests.system.node import Node
from tests.system.waiting import wait_until

KEYS = [f"key{number}" for number in range(4)]


def test_three_nodes_elect_replicate_and_serve_from_any_node() -> None:
    with Cluster(3).start() as cluster:
        for number, node in enumerate(cluster):
            with node.client() as client:
                client.put(f"at {node.name}", str(number))
        for node in cluster:
            with node.client() as client:
                values = [client.get(f"at {name}") for name in cluster.nodes]
                assert values == ["0", "1", "2"], f"read at {node.name}"
                assert client.get("never written") is None
        cluster.wait_until_converged()
        for node in cluster:
            with node.client() as client:
                assert client.get("at node1", stale=True) == "0"


def test_cluster_of_one() -> None:
    with Cluster(1).start() as cluster:
        node = cluster["node1"]
        with node.client() as client:
            client.put("a", "1")
        node.kill()
        cluster.start()
        with node.client() as client:
            assert client.get("a") == "1"
        node.stop()
        cluster.start()
        with node.client() as client:
            assert client.get("a") == "1"


def test_kill_of_the_leader_under_load_loses_nothing() -> None:
    """pitfall 48, 64, 79, 86: every acknowledged write stays, and the history is linearizable."""
    recorder = Recorder()
    with Cluster(3).start() as cluster:
        with Load(list(cluster), recorder=recorder) as load:
            for _ in range(3):
                load.wait_for_acknowledged(100)
                leader = cluster.wait_for_leader()
                leader.kill()
                cluster.wait_for_leader()
                load.wait_for_acknowledged(100)
                leader.start()
                leader.wait_until_up()
            load.wait_for_acknowledged(100)
        for node in cluster:
            read_back(node, KEYS, recorder)
        assert_same_state(cluster)
    assert_linearizable(recorder.operations())


@pytest.mark.parametrize("append_bytes", [64 << 10, 1 << 20])
def test_follower_far_behind_catches_up_by_a_snapshot(append_bytes: int) -> None:
    """pitfall 50, 52, 59: the log it needs is gone; also after a kill, and with new writes.

    Whatever the limits are: a chunk of a snapshot is no larger than what a peer takes.
    """
    limits = {
        "entry_bytes": 64 << 10,
        "append_bytes": append_bytes,
        "log_memory_bytes": append_bytes,
        "segment_bytes": 128 << 10,
        "snapshot_log_bytes": 512 << 10,
    }
    with Cluster(3, limits=limits).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        cluster.wait_until_converged()
        behind = _member(leader, follower.name)["last_index"]
        assert isinstance(behind, int)
        follower.kill()
        with leader.client() as client:
            for number in range(90):
                client.put(f"key{number % 7}", f"{number} " + "x" * 30_000)
        wait_until(
            lambda: _first_index(leader) > behind + 1, "the log is cut off behind a snapshot"
        )
        follower.start()
        assert_same_state(cluster)
        assert _first_index(follower) > behind + 1
        follower.kill()
        cluster.start()
        cluster.wait_until_writable(follower, "key1", "new")
        assert_same_state(cluster)


def test_reads_resume_after_a_kill_without_any_write() -> None:
    """pitfall 85: a new leader answers reads though nobody writes."""
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        with leader.client() as client:
            client.put("a", "1")
        leader.kill()
        for node in cluster.running:
            assert read_back(node, ["a"], Recorder()) == {"a": "1"}


def test_paused_leader_answers_no_stale_read() -> None:
    """pitfall 80, 83: it comes back believing that it leads, and must ask before it answers."""
    recorder = Recorder()
    with Cluster(3).start() as cluster:
        with Load(list(cluster), recorder=recorder) as load:
            for _ in range(2):
                load.wait_for_acknowledged(50)
                leader = cluster.wait_for_leader()
                leader.pause()
                try:
                    cluster.wait_for_leader(cluster.others(leader))
                    load.wait_for_acknowledged(30)
                finally:
                    leader.resume()
                load.wait_for_acknowledged(50)
        assert_same_state(cluster)
        for node in cluster:
            read_back(node, KEYS, recorder)
    assert_linearizable(recorder.operations())


def test_read_that_waited_in_a_paused_leader_is_not_stale() -> None:
    """pitfall 80, 81, 83: the question is in its socket before it learns that time has passed."""
    with Cluster(3).start() as cluster, contextlib.ExitStack() as connections:
        old = cluster.wait_for_leader()
        cluster.wait_until_writable(old, "a", "old")
        clients = [connections.enter_context(old.client()) for _ in range(20)]
        old.pause()
        try:
            for client in clients:
                client.send("KV.Get", key=encode("a"), timeout_ms=5000)
            new = cluster.wait_for_leader(cluster.others(old))
            cluster.wait_until_writable(new, "a", "new")
        finally:
            old.resume()
        for client in clients:
            try:
                value = decode(client.receive()["item"]["value"])
            except CallError as error:
                assert error.name == "NoQuorum"
            else:
                assert value == "new"


def test_pause_of_a_follower_disturbs_nobody() -> None:
    """pitfall 18: with pre-vote it comes back into the same term, under the same leader."""
    with Cluster(3, **CALM).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        before = leader.wait_until_up()["term"]
        follower.pause()
        try:
            wait_until(
                lambda: not _member(leader, follower.name)["reachable"],
                f"{leader.name} misses {follower.name}",
            )
            cluster.wait_until_writable(leader)
        finally:
            follower.resume()
        assert cluster.wait_for_leader() is leader
        assert leader.wait_until_up()["term"] == before


def test_restart_of_all_after_kill_of_all() -> None:
    recorder = Recorder()
    with Cluster(3).start() as cluster:
        with Load(list(cluster), recorder=recorder) as load:
            for _ in range(2):
                load.wait_for_acknowledged(150)
                cluster.kill_all()
                cluster.start()
            load.wait_for_acknowledged(100)
        for node in cluster:
            read_back(node, KEYS, recorder)
    assert_linearizable(recorder.operations())


def test_staggered_restarts_never_lower_a_term() -> None:
    """pitfall 1: terms and votes survive; every acknowledged key is there after each round."""
    dice = random.Random(1)
    terms = dict.fromkeys(["node1", "node2", "node3"], 0)
    with Cluster(3).start() as cluster:
        for number in range(3):
            with cluster.wait_for_leader().client() as client:
                client.put(f"key{number}", str(number))
            cluster.kill_all()
            nodes = list(cluster)
            dice.shuffle(nodes)
            for node in nodes:
                node.start()
                term = node.wait_until_up()["term"]
                assert term >= terms[node.name], f"{node.name} was in term {terms[node.name]}"
                terms[node.name] = term
            cluster.wait_for_leader()
            for node in nodes:
                term = node.wait_until_up()["term"]
                assert term >= terms[node.name]
                terms[node.name] = term
                expected = {f"key{each}": str(each) for each in range(number + 1)}
                assert read_back(node, list(expected), Recorder()) == expected


def test_calls_without_quorum_end_with_a_clear_error() -> None:
    """pitfall 87: no quorum is an answer, not a hang; status works, and nothing was done."""
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        with leader.client() as client:
            client.put("a", "1")
        for node in cluster.others(leader):
            node.kill()
        status = wait_until(
            lambda: (found := leader.status()) and found["role"] != "leader" and found,
            f"{leader.name} notices that it is alone",
        )
        assert status
        assert not status["writable"]
        assert status["reason"]
        assert status["failures_tolerated"] == 0
        with leader.client() as client:
            for call in (lambda: client.put("a", "2", 1000), lambda: client.get("a", 1000)):
                with pytest.raises(CallError, match="NoQuorum") as caught:
                    call()
                assert caught.value.parameters["reason"]
            assert client.get("a", stale=True) == "1"
        cluster.start()
        assert read_back(leader, ["a"], Recorder()) == {"a": "1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_leader_hands_over_before_it_stops(number: signal.Signals) -> None:
    """pitfall 92, 93: the next term begins because it asked for it, under load."""
    recorder = Recorder()
    with Cluster(3).start() as cluster:
        with Load(list(cluster), recorder=recorder, clients=4) as load:
            load.wait_for_acknowledged(50)
            leader = cluster.wait_for_leader()
            leader.signal(number)
            leader.wait_for_exit(0)
            load.wait_for_acknowledged(50)
            successor = cluster.wait_for_leader()
        assert successor is not leader
        assert "hands leadership" in leader.log_of_this_life
        leader.start()
        cluster.wait_for_leader()
        cluster.wait_until_converged()
    assert_linearizable(recorder.operations())


def test_sigterm_ends_followers_candidates_and_single_nodes() -> None:
    """pitfall 58, 97: status 0 from every role; that of the leader is tested above."""
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        follower, other = cluster.others(leader)
        follower.stop()
        other.kill()
        cluster.wait_until_converged([leader])
        leader.stop()
        leader.start()
        leader.wait_until_up()
        wait_until(
            lambda: (leader.status() or {}).get("role") in {"pre-candidate", "candidate"},
            f"{leader.name} stands for election, alone",
        )
        leader.stop()
    with Cluster(1).start() as single:
        single["node1"].stop()


def test_sigterm_right_after_the_start_ends_it() -> None:
    """pitfall 97: while its peers are away, and the first election has not even begun."""
    with Cluster(3) as cluster:
        node = cluster["node1"]
        for _ in range(3):
            node.start()
            node.wait_for_log("node1 runs raftd")
            node.stop()


def test_sighup_reads_levels_again() -> None:
    with Cluster(1, log="warning").start() as cluster:
        node = cluster["node1"]
        assert "debug" not in node.log_of_this_life.lower()
        node.settings["log"] = "debug"
        node.write_config()
        node.signal(signal.SIGHUP)
        node.wait_for_log("log levels are debug now")
        node.settings["log"] = "nonsense"
        node.write_config()
        node.signal(signal.SIGHUP)
        node.wait_for_log("kept the log levels")
        cluster.wait_until_writable(node)


def _first_index(node: Node) -> int:
    index = _member(node, node.name)["first_index"]
    assert isinstance(index, int)
    return index


def _member(node: Node, name: str) -> dict[str, object]:
    members = node.wait_until_up()["members"]
    return next(each for each in members if each["name"] == name)
