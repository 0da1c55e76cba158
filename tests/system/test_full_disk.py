"""A disk without space: others take over, it is said, and it passes when there is space again."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import pytest

from raftd.exit_status import ExitStatus
from tests.history import Recorder
from tests.system.client import CallError, NoAnswer
from tests.system.cluster import Cluster
from tests.system.load import Load, assert_linearizable, read_back
from tests.system.node import Node
from tests.system.small_disk import fill, mounted
from tests.system.waiting import wait_until

LIMITS = {
    "entry_bytes": 64 << 10,
    "segment_bytes": 256 << 10,
    "append_bytes": 64 << 10,
    "snapshot_log_bytes": 256 << 20,
}
KEYS = [f"key{number}" for number in range(4)]


@contextlib.contextmanager
def small_cluster(kind: str) -> Generator[Cluster, None, None]:
    """Three nodes, each on a disk of its own that fills up soon."""
    with Cluster(3, limits=LIMITS) as cluster:
        for node in cluster:
            cluster.belongings.enter_context(mounted(kind, node.data, 16))
        yield cluster.start()


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_leader_without_space_gives_up_and_comes_back(kind: str) -> None:
    """pitfall 66, 67, 37: in mid-load; nothing acknowledged is lost, the log has no gap."""
    recorder = Recorder()
    with small_cluster(kind) as cluster:
        leader = cluster.wait_for_leader()
        others = cluster.others(leader)
        with Load(others, recorder=recorder, clients=4) as load:
            load.wait_for_acknowledged(50)
            fill(leader.data / "filler")
            with contextlib.suppress(CallError, NoAnswer), leader.client() as client:
                for _ in range(100):
                    client.put("big", "x" * 40_000, 1000)
            wait_until(
                lambda: "disk full" in _problem(leader), f"{leader.name} says its disk is full"
            )
            successor = cluster.wait_for_leader(others)
            assert successor is not leader
            load.wait_for_acknowledged(50)
            assert "disk full" in _problem(leader)
            (leader.data / "filler").unlink()
            wait_until(lambda: not _problem(leader), f"{leader.name} works again")
            load.wait_for_acknowledged(20)
        cluster.wait_until_converged()
        leader.kill()
        cluster.start()
        cluster.wait_until_converged()
        for node in cluster:
            read_back(node, KEYS, recorder)
    assert_linearizable(recorder.operations())


def test_start_on_a_full_disk() -> None:
    """pitfall 67: it starts, or ends, and says what is wrong; with space it works."""
    with small_cluster("tmpfs") as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        cluster.wait_until_writable(leader, "a", "1")
        cluster.wait_until_converged()
        follower.kill()
        fill(follower.data / "filler")
        follower.start()
        wait_until(lambda: not follower.running or follower.status(), "it starts, or does not")
        if follower.running:
            for number in range(30):
                cluster.wait_until_writable(leader, "b", f"{number}" + "x" * 20_000)
            wait_until(lambda: "disk full" in _problem(follower), "it says so")
        else:
            follower.wait_for_exit(ExitStatus.NO_SPACE)
            assert "No space left" in follower.log_of_this_life
            assert "Traceback" not in follower.log_of_this_life
            assert "damaged" not in follower.log_of_this_life
        cluster.wait_until_writable(leader, "a", "2")
        (follower.data / "filler").unlink()
        cluster.start()
        cluster.wait_until_converged()
        assert read_back(follower, ["a"], Recorder()) == {"a": "2"}


def _problem(node: Node) -> str:
    assert node.running, f"{node.name} ended with status {node.returncode}"
    status = node.status()
    if status is None:
        return ""
    own = next(each for each in status["members"] if each["name"] == node.name)
    return own["problem"] or ""
