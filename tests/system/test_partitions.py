"""Networks that break: one node alone, and wires that carry one way only."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator
from typing import Any

import pytest

from tests.history import Recorder
from tests.system.client import CallError, NoAnswer
from tests.system.cluster import CALM, Cluster
from tests.system.load import Load, assert_linearizable, read_back
from tests.system.network import Network, require_namespaces
from tests.system.waiting import wait_until

NAMES = ("node1", "node2", "node3")
KEYS = [f"key{number}" for number in range(4)]
PORT = 7001


@contextlib.contextmanager
def partitionable_cluster(**settings: Any) -> Generator[tuple[Cluster, Network], None, None]:
    """Three nodes, each in a network namespace of its own."""
    require_namespaces()
    with Network(NAMES) as network:
        addresses = {name: f"tcp://{ip}:{PORT}" for name, ip in network.addresses.items()}
        with Cluster(3, addresses=addresses, allow_plaintext=True, **settings) as cluster:
            for node in cluster:
                node.wrapper = network.wrapper(node.name)
            yield cluster.start(), network


def test_leader_alone_neither_reads_nor_writes_and_converges_after_healing() -> None:
    """pitfall 18, 48, 80: the majority goes on; the old leader has to ask and cannot."""
    recorder = Recorder()
    with partitionable_cluster() as (cluster, network):
        with Load(list(cluster), recorder=recorder) as load:
            load.wait_for_acknowledged(50)
            old = cluster.wait_for_leader()
            majority = cluster.others(old)
            cluster.wait_until_writable(old, "fenced", "before")
            network.isolate(old.name)
            with old.client() as client, pytest.raises((CallError, NoAnswer)):
                client.get("fenced", 1500)
            with old.client() as client, pytest.raises((CallError, NoAnswer)):
                client.put("fenced", "from the minority", 1500)
            new = cluster.wait_for_leader(majority)
            cluster.wait_until_writable(new, "fenced", "from the majority")
            wait_until(
                lambda: (old.status() or {}).get("role") not in {None, "leader"},
                f"{old.name} gives up leadership",
            )
            status = old.wait_until_up()
            assert not status["writable"]
            assert status["reason"]
            with old.client() as client, pytest.raises(CallError, match="NoQuorum"):
                client.get("fenced", 1000)
            load.wait_for_acknowledged(50)
            network.heal()
            load.wait_for_acknowledged(50)
        cluster.wait_for_leader()
        cluster.wait_until_converged()
        for node in cluster:
            assert read_back(node, ["fenced"], Recorder()) == {"fenced": "from the majority"}
            read_back(node, KEYS, recorder)
    assert_linearizable(recorder.operations())


def test_isolated_follower_comes_back_into_the_same_term() -> None:
    """pitfall 18: however often it asked for votes in the meantime."""
    with partitionable_cluster(**CALM) as (cluster, network):
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        term = leader.wait_until_up()["term"]
        network.isolate(follower.name)
        wait_until(
            lambda: follower.log.count("asks for pre-votes") >= 3,
            f"{follower.name} has asked for votes many times",
        )
        cluster.wait_until_writable(leader, "a", "1")
        network.heal()
        assert cluster.wait_for_leader() is leader
        assert leader.wait_until_up()["term"] == term
        cluster.wait_until_converged()


def test_every_one_way_cut_leaves_a_majority_that_works() -> None:
    """pitfall 14, 22, 23: all six directed pairs; the node with both ways to all others works."""
    recorder = Recorder()
    with partitionable_cluster() as (cluster, network):
        with Load(list(cluster), recorder=recorder, clients=6) as load:
            for source, target in itertools.permutations(NAMES, 2):
                network.cut(source, target)
                whole = next(name for name in NAMES if name not in {source, target})
                cluster.wait_until_writable(cluster[whole], "probe", f"{source} {target}")
                term = cluster[whole].wait_until_up()["term"]
                load.wait_for_acknowledged(40)
                later = cluster[whole].wait_until_up()["term"]
                assert later <= term + 5, "elections without end"
                network.heal()
                cluster.wait_for_leader()
        cluster.wait_until_converged()
        for node in cluster:
            read_back(node, KEYS, recorder)
    assert_linearizable(recorder.operations())


def test_cut_between_two_followers_disturbs_nobody() -> None:
    """pitfall 23: both still hear the leader, so none of them may stand for election."""
    with partitionable_cluster(**CALM) as (cluster, network):
        leader = cluster.wait_for_leader()
        one, other = cluster.others(leader)
        term = leader.wait_until_up()["term"]
        network.cut(one.name, other.name)
        network.cut(other.name, one.name)
        for number in range(20):
            cluster.wait_until_writable(leader, "a", str(number))
            cluster.wait_until_writable(one, "b", str(number))
        status = leader.wait_until_up()
        assert status["role"] == "leader"
        assert status["term"] == term
        network.heal()
        cluster.wait_until_converged()
