"""States of real nodes: one that differs, snapshots that are saved, a node that is far behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.client import CallError
from tests.system.cluster import CALM, Cluster
from tests.system.node import REPOSITORY, Node
from tests.system.waiting import wait_until

pytestmark = pytest.mark.system


def raftctl(node: Node, *arguments: object, status: int = 0) -> str:
    """Standard output and error of the command, which must end with `status`."""
    done = subprocess.run(
        [sys.executable, "-m", "raftctl", "--socket", str(node.socket), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == status, output
    return output


def fill(node: Node, count: int, size: int = 100, prefix: str = "key") -> dict[str, str]:
    written = {f"{prefix}{number}": f"{number}".ljust(size, "v") for number in range(count)}
    with node.client() as client:
        for key, value in written.items():
            client.put(key, value)
    return written


def _first_index(node: Node) -> int:
    members = (node.status() or {}).get("members", [])
    return max((each.get("first_index") or 0 for each in members), default=0)


def problem(node: Node) -> str:
    status = node.status()
    own = [each for each in (status or {}).get("members", []) if each["name"] == node.name]
    return (own[0].get("problem") or "") if own else ""


def test_a_node_whose_state_differs_says_so_and_is_mended() -> None:
    """pitfall 91"""
    with Cluster(3, check_interval_ms=200, **CALM).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        wait_until(
            lambda: "features" in raftctl(leader, "log", "tail", "-n", "50"), "checks are used"
        )
        fill(leader, 5)
        cluster.wait_until_converged()
        follower.stop()
        database = sqlite3.connect(follower.data / "state" / "kv.db")
        database.execute("DELETE FROM items WHERE key = ?", (b"key3",))
        database.commit()
        database.close()
        follower.start()
        follower.wait_until_up()
        fill(leader, 5)
        wait_until(lambda: "differs from the cluster's" in problem(follower), "it finds out")
        follower.wait_for_log("serves no reads and takes no writes")
        with follower.client() as client, pytest.raises(CallError, match="Refused"):
            client.get("key3")
        assert "ask another node" in raftctl(follower, "kv", "put", "a", "b", status=6)
        assert problem(leader) == ""
        follower.kill()
        follower.start()
        wait_until(lambda: "differs from the cluster's" in problem(follower), "it still knows")
        assert "has the leader's state" in raftctl(follower, "reseed")
        wait_until(lambda: not problem(follower), "it is well again")
        cluster.wait_until_converged()
        with follower.client() as client:
            assert client.get("key3")


def test_saved_inspected_and_opened_with_sqlite(tmp_path: Path) -> None:
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        written = fill(leader, 50)
        cluster.wait_until_converged()
        node = cluster.others(leader)[0]
        file = tmp_path / "backup"
        assert "saved all up to entry" in raftctl(node, "snapshot", "save", file)
        assert "there already" in raftctl(node, "snapshot", "save", file, status=1)
        assert "whole" in raftctl(node, "snapshot", "inspect", file)
        connection = sqlite3.connect(file)
        rows = connection.execute("SELECT key, value FROM items").fetchall()
        connection.close()
        assert {k.decode(): v.decode() for k, v in rows if k.startswith(b"key")} == written
        last = raftctl(leader, "snapshot", "list").splitlines()
        assert last
        index = int(raftctl(leader, "kv", "put", "key0", "changed").split()[1])
        then = raftctl(leader, "state", "--at", index - 1, "key0")
        assert "changed" not in then
        assert "changed" in raftctl(leader, "state", "--at", index, "key0")
        assert "no state behind" in raftctl(leader, "state", "--at", index + 999, status=5)


def test_a_node_that_is_far_behind_comes_back() -> None:
    """pitfall 55, 56"""
    limits = {"segment_bytes": 1 << 20, "snapshot_log_bytes": 2 << 20, "log_tail_bytes": 0}
    limits |= {"log_memory_bytes": 1 << 20, "entry_bytes": 1 << 18}
    with Cluster(3, limits=limits).start() as cluster:
        leader = cluster.wait_for_leader()
        behind = cluster.others(leader)[0]
        fill(leader, 3, prefix="first")
        cluster.wait_until_converged()
        behind.kill()
        fill(leader, 150, size=100_000)
        wait_until(lambda: _first_index(leader) > 10, "the log begins later")
        behind.start()
        cluster.wait_until_converged()
        assert "snapshot" in behind.log_of_this_life


def test_stopped_while_a_snapshot_is_made() -> None:
    """pitfall 58, 60: it ends in time, and what was half made is gone at the next start."""
    with Cluster(1).start() as cluster:
        node = cluster["node1"]
        fill(node, 60, size=500_000)
        with node.client() as client:
            client.send("Snapshots.Take")
            node.signal(signal.SIGTERM)
            node.wait_for_exit(0)
        node.start()
        node.wait_until_up()
        assert not list((node.data / "snapshots").glob("*.tmp*"))
        cluster.wait_for_leader()
        raftctl(node, "snapshot", "take")
