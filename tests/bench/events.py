"""What happens rarely, and how long it takes: a dead leader, a restart; and `raftctl status`."""

from __future__ import annotations

import concurrent.futures
import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.results import Restart
from tests.bench.systems import Cluster
from tests.system.waiting import wait_until

EVERY_S = 0.02
PATIENCE_S = 60.0
_KEY = "cmFydA=="  # base64, as etcd's gateway wants it; for raftd any string will do


def failover(cluster: Cluster, nodes: int) -> float:
    """Seconds from SIGKILL of the leader to the first put that any of the rest acknowledges.

    They are asked again every EVERY_S, whether they have answered or not, so that the time does not
    depend on how long a call waits that came at the wrong moment. All nodes run again at the end.
    """
    leader = cluster.leader()
    left = [node for node in range(nodes) if node != leader]
    with concurrent.futures.ThreadPoolExecutor(max_workers=200) as pool:
        cluster.kill(leader)
        begin = time.monotonic()
        asked: set[concurrent.futures.Future[float | None]] = set()
        try:
            end = None
            while end is None:
                assert time.monotonic() < begin + PATIENCE_S, f"{cluster.name} takes no writes"
                node = left[len(asked) % len(left)]
                if len(asked) < 2000:
                    asked.add(pool.submit(_try, cluster, node))
                time.sleep(EVERY_S)
                end = min(
                    (at for each in asked if each.done() and (at := each.result()) is not None),
                    default=None,
                )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    cluster.start()
    _wait_until_applied(cluster, leader, cluster.applied(left[0]) or 0)
    return end - begin


def _try(cluster: Cluster, node: int) -> float | None:
    """When it was acknowledged."""
    return time.monotonic() if cluster.put(node, _KEY) else None


def restart(cluster: Cluster, entries: int, *, rebuild: bool) -> Restart | None:
    """Kill a follower, start it, and wait until it has applied what it had before."""
    leader = cluster.leader()
    node = 0 if leader != 0 else 1
    index = cluster.applied(leader)
    assert index is not None
    _wait_until_applied(cluster, node, index)
    cluster.kill(node)
    if rebuild and not cluster.forget_state(node):
        return None
    begin = time.monotonic()
    cluster.start_node(node)
    _wait_until_applied(cluster, node, index)
    return Restart(cluster.name, entries, rebuild, time.monotonic() - begin)


def _wait_until_applied(cluster: Cluster, node: int, index: int) -> None:
    wait_until(
        lambda: (cluster.applied(node) or 0) >= index,
        f"{cluster.name} has applied {index} entries",
        patience=600,
    )


def status_times(socket: Path, times: int) -> tuple[list[float], float]:
    """Seconds that `raftctl status` takes from start to exit; CPU seconds of one call."""
    command = [str(Path(sys.executable).with_name("raftctl")), "--socket", str(socket), "status"]
    taken = []
    before = _children_cpu_s()
    for _ in range(times):
        begin = time.monotonic()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        taken.append(time.monotonic() - begin)
    return taken, (_children_cpu_s() - before) / times


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
