"""A follower behind a slow link that lacks more than that carries in an election timeout."""

from __future__ import annotations

from tests.system.cluster import CALM, Cluster
from tests.system.network import Network
from tests.system.test_partitions import partitionable_cluster

KBIT = 500


def test_large_entries_arrive_and_so_does_every_heartbeat() -> None:
    """The first of them takes four times as long as a call that is not large may take."""
    with partitionable_cluster(**CALM) as (cluster, network):
        last = catch_up(cluster, network, [500_000, 100_000, 100_000, 100_000])
        assert "installs the snapshot" not in last


def test_a_snapshot_arrives_and_so_does_every_heartbeat() -> None:
    limits = {
        "segment_bytes": 300_000,
        "snapshot_log_bytes": 600_000,
        "log_tail_bytes": 0,
        "log_memory_bytes": 1 << 18,
        "append_bytes": 1 << 18,
        "entry_bytes": 200_000,
    }
    with partitionable_cluster(**CALM, limits=limits) as (cluster, network):
        last = catch_up(cluster, network, [150_000] * 10, ready="the log begins at")
        assert "installs the snapshot" in last


def catch_up(cluster: Cluster, network: Network, sizes: list[int], ready: str = "") -> str:
    """A follower lacks values of these sizes, and gets them through the slow link, from a leader
    whose log says `ready`; the follower's log."""
    leader = cluster.wait_for_leader()
    behind = cluster.others(leader)[0]
    behind.stop()
    with leader.client() as client:
        for number, size in enumerate(sizes):
            client.put(f"key{number % 4}", "x" * size)
    leader.wait_for_log(ready)
    term = leader.wait_until_up()["term"]
    network.slow_down(behind.name, KBIT)
    behind.start()
    cluster.wait_until_converged()
    assert "asks for pre-votes" not in behind.log_of_this_life
    assert leader.wait_until_up()["term"] == term
    return behind.log_of_this_life
