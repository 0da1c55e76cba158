"""Files that are not what was written to them: cut if a crash explains it, else refused."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.history import Recorder
from tests.system.cluster import Cluster
from tests.system.load import read_back
from tests.system.node import Node
from tests.system.tracing import Trace, require_strace

WRITES = "pwrite64,pwritev,pwritev2,fdatasync"


def test_torn_tail_is_cut_and_fetched_again() -> None:
    """pitfall 69, 72: killed before its fdatasync, a follower misses half of its write."""
    require_strace()
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        cluster.wait_until_writable(leader, "a", "1")
        cluster.wait_until_converged()
        segment, data = _killed_before_its_sync(cluster, leader, follower)
        end = len(data.rstrip(b"\0"))
        segment.write_bytes(data[: end - 700] + bytes(len(data) - end + 700))
        cluster.start()
        assert "torn" in follower.log_of_this_life
        assert segment.name in follower.log_of_this_life
        cluster.wait_until_converged()
        assert read_back(follower, ["key"], Recorder()) == {"key": "x" * 2000}


def test_loss_of_what_was_applied_is_refused() -> None:
    """pitfall 70: the same hole in an entry that was acknowledged and applied is no torn write."""
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        cluster.wait_until_writable(leader, "key", "x" * 2000)
        cluster.wait_until_converged()
        follower.kill()
        segment = _newest_segment(follower)
        data = segment.read_bytes()
        end = len(data.rstrip(b"\0"))
        damaged = data[: end - 700] + bytes(len(data) - end + 700)
        segment.write_bytes(damaged)
        follower.start()
        follower.wait_for_exit(4)
        assert "were applied" in follower.log_of_this_life
        assert segment.read_bytes() == damaged, "nothing was changed, it says"
        segment.write_bytes(data)
        cluster.start()
        cluster.wait_until_converged()


def test_damage_in_the_log_is_refused_and_nothing_changed() -> None:
    """pitfall 70: status 4 with file, offset, index range and the way out; undamaged it starts."""
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        for number in range(5):
            cluster.wait_until_writable(leader, f"key{number}", "x" * 500)
        cluster.wait_until_converged()
        follower.kill()
        segment = _newest_segment(follower)
        data = segment.read_bytes()
        place = data.index(b"x" * 500) + 100
        damaged = data[:place] + b"y" + data[place + 1 :]
        segment.write_bytes(damaged)
        for _ in range(2):
            follower.start()
            follower.wait_for_exit(4)
            assert segment.name in follower.log_of_this_life
            assert "byte" in follower.log_of_this_life
            assert "in doubt" in follower.log_of_this_life
            assert "Traceback" not in follower.log_of_this_life
            assert segment.read_bytes() == damaged
        segment.write_bytes(data)
        cluster.start()
        cluster.wait_until_converged()


def test_damaged_term_and_vote_are_refused() -> None:
    """pitfall 1, 70: never term 0 and an empty vote."""
    with Cluster(1).start() as cluster:
        node = cluster["node1"]
        node.kill()
        file = node.data / "hard-state"
        data = file.read_bytes()
        file.write_bytes(bytes(len(data)))
        node.start()
        node.wait_for_exit(4)
        assert "hard-state" in node.log_of_this_life
        file.write_bytes(data)
        cluster.start()


def test_damaged_state_machine_is_only_a_view() -> None:
    """pitfall 53, 61: the database may be thrown away; it is made again from the log."""
    with Cluster(1).start() as cluster:
        node = cluster["node1"]
        cluster.wait_until_writable(node, "a", "1")
        node.kill()
        for file in (node.data / "state").iterdir():
            file.unlink()
        cluster.start()
        assert read_back(node, ["a"], Recorder()) == {"a": "1"}


def _killed_before_its_sync(cluster: Cluster, leader: Node, follower: Node) -> tuple[Path, bytes]:
    """The segment with an entry that `follower` wrote and never acknowledged, and its content."""
    with Trace(follower, WRITES, "fdatasync:signal=SIGKILL:when=1"):
        cluster.wait_until_writable(leader, "key", "x" * 2000)
        follower.wait_for_exit(-signal.SIGKILL)
    segment = _newest_segment(follower)
    data = segment.read_bytes()
    assert b"x" * 2000 in data
    return segment, data


def _newest_segment(node: Node) -> Path:
    """The last file of the log that has entries: behind it there may be one made ahead."""
    used = [
        path for path in sorted((node.data / "wal").glob("*.seg")) if any(path.read_bytes()[512:])
    ]
    return used[-1]
