"""A cluster that has lost its majority, or all of it, and what is left to go on with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.cluster import Cluster
from tests.system.node import REPOSITORY, Node
from tests.system.waiting import wait_until

pytestmark = pytest.mark.system


def raftd(*arguments: object, status: int = 0) -> str:
    """Standard output and error of the command, which must end with `status`."""
    done = subprocess.run(
        [sys.executable, "-m", "raftd", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == status, output
    assert "Traceback" not in output
    return output


def digest(shown: str) -> str:
    found = re.search(r"--yes (\w+)", shown)
    assert found is not None
    return found[1]


def filled(cluster: Cluster, count: int = 30) -> dict[str, str]:
    leader = cluster.wait_for_leader()
    written = {f"key{number}": f"value{number}" for number in range(count)}
    with leader.client() as client:
        for key, value in written.items():
            client.put(key, value)
    cluster.wait_until_converged()
    return written


def contents(node: Node) -> dict[str, str]:
    with node.client() as client:
        return {key: value for key, (value, _) in client.items("key").items()}


def test_one_survivor_becomes_a_cluster_and_the_dead_stay_out() -> None:
    with Cluster(3).start() as cluster:
        written = filled(cluster)
        cluster.kill_all()
        survivor, dead, _ = cluster
        shown = raftd("recover", survivor.data, status=2)
        raftd("recover", survivor.data, "--yes", digest(shown))
        survivor.start()
        wait_until(lambda: (survivor.status() or {}).get("writable"), "it can write alone")
        assert contents(survivor) == written
        with survivor.client() as client:
            client.put("key-new", "x")
        dead.start()  # its disk was not so dead after all
        dead.wait_for_log("refuse")
        assert "another cluster" in dead.log_of_this_life + survivor.log_of_this_life
        assert contents(survivor) == written | {"key-new": "x"}
        status = survivor.status()
        assert status is not None
        assert [member["name"] for member in status["members"]] == [survivor.name]


def test_a_backup_of_the_last_disk_becomes_a_whole_cluster(tmp_path: Path) -> None:
    file = tmp_path / "backup"
    with Cluster(3).start() as old:
        written = filled(old)
        old.kill_all()
        raftd("recover", old["node2"].data, "--to", file)
        raftd("inspect", old["node2"].data)
    with Cluster(3, label="restored") as new:
        for node in new:
            node.write_config()
            raftd("restore", file, "--config", node.config)
        new.start()
        assert contents(new.wait_for_leader()) == written
        new.wait_until_writable(new["node1"], "key-new")
        new.wait_until_converged()
        new.kill_all()
        new.start()
        assert contents(new["node3"]).items() >= written.items()


def test_a_damaged_last_disk_is_repaired_and_then_recovered() -> None:
    """pitfall 70: what a repair has made shorter never comes back as a member."""
    with Cluster(3).start() as cluster:
        written = filled(cluster)
        node = cluster["node2"]
        cluster.kill_all()
        segment = max((node.data / "wal").glob("*.seg"))
        data = bytearray(segment.read_bytes())
        data[len(data.rstrip(b"\0")) // 2] ^= 1
        segment.write_bytes(data)
        shown = raftd("repair", node.data, status=2)
        assert "WOULD BE MISSING" in shown
        raftd("repair", node.data, "--yes", digest(shown))
        node.start()
        node.wait_for_exit(4)
        assert "cannot keep what it promised" in node.log_of_this_life
        raftd("recover", node.data, "--yes", digest(raftd("recover", node.data, status=2)))
        node.start()
        wait_until(lambda: (node.status() or {}).get("writable"), "it can write alone")
        left = contents(node)
        assert 0 < len(left) < len(written)
        assert left.items() <= written.items()
