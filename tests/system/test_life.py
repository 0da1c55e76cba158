"""The life of a cluster, from one node over many to none, and what comes after."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.history import Recorder
from tests.system.cluster import Cluster
from tests.system.load import Load
from tests.system.members import add, change, forget, members, replace
from tests.system.node import REPOSITORY, Node
from tests.system.test_disaster import contents, digest, raftd
from tests.system.test_members import finish, wait_until_removed
from tests.system.waiting import wait_until

pytestmark = pytest.mark.system


def test_a_life(tmp_path: Path) -> None:
    """pitfalls 43, 44, 47, 48: what was acknowledged is there to the end, and beyond it."""
    recorder = Recorder()
    backup = tmp_path / "backup"
    with Cluster(1).start() as cluster:
        _grow_renew_and_shrink(cluster, recorder)
        finish(cluster, recorder)
        _lose_the_majority_and_recover(cluster)
        finish(cluster, recorder)
        _save(cluster["new3"], backup)
        written = contents(cluster["new3"])
    with Cluster(3, label="restored") as restored:
        for node in restored:
            node.write_config()
            raftd("restore", backup, "--config", node.config)
        restored.start()
        assert contents(restored.wait_for_leader()) == written
        finish(restored, recorder)


def _grow_renew_and_shrink(cluster: Cluster, recorder: Recorder) -> None:
    """1 to 3 to 5; all five replaced, one by one; 3 again. Under load all the time."""
    live: list[Node] = list(cluster)
    with Load(live, recorder=recorder, clients=6) as load:
        load.wait_for_acknowledged(30)
        for number in range(2, 6):
            live.append(add(cluster, f"node{number}"))
            load.wait_for_acknowledged(20)
        assert sorted(members(cluster)) == [f"node{number}" for number in range(1, 6)]
        for number in range(1, 6):
            live.append(replace(cluster, f"node{number}", f"new{number}"))
            gone = cluster[f"node{number}"]
            live.remove(gone)
            load.wait_for_acknowledged(20)
            wait_until_removed(gone)
            forget(cluster, gone.name)
        assert sorted(members(cluster)) == [f"new{number}" for number in range(1, 6)]
        for name in ("new1", "new2"):
            change(cluster, "remove", name)
            live.remove(cluster[name])
            forget(cluster, name)
            load.wait_for_acknowledged(20)
    assert members(cluster) == {"new3": "voter", "new4": "voter", "new5": "voter"}


def _lose_the_majority_and_recover(cluster: Cluster) -> None:
    """Two of three are gone for good. The third goes on alone, and gets new company."""
    survivor = cluster["new3"]
    cluster.kill_all()
    for lost in ("new4", "new5"):
        forget(cluster, lost)
    plan = raftd("recover", survivor.data, status=2)
    raftd("recover", survivor.data, "--yes", digest(plan))
    survivor.start()
    wait_until(lambda: (survivor.status() or {}).get("writable"), "it can write alone")
    assert members(cluster) == {"new3": "voter"}
    for name in ("late1", "late2"):
        add(cluster, name)
    assert members(cluster) == {"late1": "voter", "late2": "voter", "new3": "voter"}


def _save(node: Node, file: Path) -> None:
    words = ("--socket", str(node.socket), "snapshot", "save", str(file))
    subprocess.run(
        [sys.executable, "-m", "raftctl", *words], cwd=REPOSITORY, timeout=60, check=True
    )
