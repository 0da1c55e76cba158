"""Wall clocks that jump: nothing may depend on them but what is shown to people."""

from __future__ import annotations

import time

from tests.history import Recorder
from tests.system.clock import WallClock, require_library
from tests.system.cluster import CALM, Cluster
from tests.system.load import Load, assert_linearizable, read_back
from tests.system.node import Node
from tests.system.waiting import wait_until

DAY = 86_400


def test_jumps_of_wall_clocks_change_nothing() -> None:
    """pitfall 83: no lease, timeout or election is measured with the wall clock."""
    library = require_library()
    recorder = Recorder()
    with Cluster(3, **CALM) as cluster:
        clocks = {node.name: WallClock(node, library) for node in cluster}
        cluster.start()
        leader = cluster.wait_for_leader()
        term = leader.wait_until_up()["term"]
        with Load(list(cluster), recorder=recorder, clients=3) as load:
            for offset in (DAY, -DAY, 400 * DAY, 0):
                for name, clock in clocks.items():
                    clock.set(offset if name == leader.name else -offset)
                _wait_for_jump(cluster, leader, offset)
                load.wait_for_acknowledged(30)
        status = leader.wait_until_up()
        assert (status["role"], status["term"]) == ("leader", term)
        for node in cluster:
            read_back(node, ["key0", "key1"], recorder)
    assert_linearizable(recorder.operations())


def test_clock_of_the_daemon_does_jump() -> None:
    """The tool itself works: an entry made behind a jump carries the new time."""
    library = require_library()
    with Cluster(1) as cluster:
        node = cluster["node1"]
        clock = WallClock(node, library)
        cluster.start()
        cluster.wait_until_writable(node)
        clock.set(10 * DAY)
        _wait_for_jump(cluster, node, 10 * DAY)


def _wait_for_jump(cluster: Cluster, leader: Node, offset_s: int) -> None:
    """Until a new entry carries the leader's new time."""

    def jumped() -> bool:
        cluster.wait_until_writable(leader)
        with leader.client() as client:
            entries = client.call("Node.ReadLog", count=1)["entries"]
        ahead_s = int(entries[-1]["time_ms"]) / 1000 - time.time()
        return abs(ahead_s - offset_s) < DAY / 2

    wait_until(jumped, "new entries carry the new time")
