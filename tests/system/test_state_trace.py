"""A real cluster writes its steps down, and the specification allows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftd.state_trace.file import VARIABLE
from tests.state_trace.specification import judge
from tests.system.cluster import CALM, Cluster
from tests.system.node import Node
from tests.system.waiting import wait_until

pytestmark = pytest.mark.system


def test_election_writes_restart_and_hand_over(tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    with Cluster(3, **CALM, state_trace=str(traces)) as cluster:
        leader = cluster.start().wait_for_leader()
        _write(leader, 10)
        follower = cluster.others(leader)[0]
        _wait_until_known(leader, follower)
        follower.stop()
        _write(leader, 3)
        follower.start()
        follower.wait_until_up()
        cluster.wait_until_converged()
        leader.stop()
        _write(cluster.wait_for_leader(), 3)
        cluster.kill_all()
    paths = sorted(traces.glob("*.ndjson"))
    assert [path.stem for path in paths] == ["node1", "node2", "node3"]
    lines = [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]
    counts = judge(sorted(lines, key=lambda line: line.split(b":", 2)[2]))
    assert counts["Replicate"] >= 16
    assert counts["BecomeLeader"] >= 2
    assert counts["InitState"] == 4


def test_off_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable stands in for the setting; with neither there is no file."""
    with Cluster(1) as cluster:
        cluster.start()
        assert not list(cluster.directory.rglob("*.ndjson"))
        node = cluster["node1"]
        node.stop()
        monkeypatch.setenv(VARIABLE, str(tmp_path))
        cluster.start()
        assert (tmp_path / "node1.ndjson").stat().st_size


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Cluster(1, state_trace=str(tmp_path / "file")) as cluster:
        node = cluster["node1"]
        node.start()
        node.wait_for_exit(2)
        assert "state_trace: cannot write" in node.log


def _wait_until_known(leader: Node, follower: Node) -> None:
    """The leader knows all that the follower has: it will send nothing twice, for which the
    specification has no words (raftd/state_trace)."""

    def known() -> bool:
        members = leader.wait_until_up()["members"]
        of = {each["name"]: each for each in members}
        return bool(of[follower.name]["match_index"] == of[leader.name]["last_index"])

    wait_until(known, f"{leader.name} knows what {follower.name} has")


def _write(node: Node, count: int) -> None:
    with node.client() as client:
        for number in range(count):
            client.put(f"key{number}", "value", 5000)
