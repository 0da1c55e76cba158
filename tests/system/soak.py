"""Everything that can go wrong, for hours, under load, and every answer checked.

    python -m tests.system.soak --minutes 60 --history FILE

Runs three (or --nodes) daemons in rounds. In each round clients work on keys of their own while
faults happen (tests.system.faults): kills, pauses, restarts, transfers; as root also partitions,
one-way cuts, lost packets and full disks; with strace syncs that fail; with libfaketime jumps of
clocks. Behind each round the cluster must converge, all nodes must have the same state, and the
round's history must be linearizable. FILE gets all operations, as tests.history describes. Exit
status 1 at the first fault of raftd's; the daemons' logs are then printed and kept.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.history import Recorder
from tests.system.certified import issue
from tests.system.clock import WallClock, find_library
from tests.system.cluster import KEEP, Cluster, free_port
from tests.system.faults import Faults
from tests.system.load import Load, assert_linearizable, assert_same_state, read_back, summary
from tests.system.network import Network, require_namespaces
from tests.system.small_disk import mounted
from tests.system.tracing import require_strace

FAULTS_PER_ROUND = 15
DISK_MB = 64
LIMITS = {
    "entry_bytes": 64 << 10,
    "append_bytes": 1 << 20,
    "log_memory_bytes": 1 << 20,
    "segment_bytes": 128 << 10,
    "snapshot_log_bytes": 256 << 10,
}
"""So small that snapshots are taken and sent all the time."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Faults in a loop, under load, all checked.")
    parser.add_argument("--minutes", type=float, default=60, help="for how long (60)")
    parser.add_argument("--history", type=Path, help="file that gets every operation")
    parser.add_argument("--nodes", type=int, default=3, help="how many nodes (3)")
    parser.add_argument("--clients", type=int, default=10, help="how many clients (10)")
    parser.add_argument("--tls", action="store_true", help="nodes encrypt what they say")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the faults")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    recorder = Recorder(options.history)
    try:
        dice = random.Random(options.seed)
        with _surroundings(options.nodes, dice, encrypted=options.tls) as (cluster, faults):
            end = time.monotonic() + options.minutes * 60
            number = 0
            while time.monotonic() < end:
                number += 1
                _round(number, cluster, faults, recorder, options.clients)
    finally:
        recorder.close()
    return 0


@contextlib.contextmanager
def _surroundings(
    size: int, dice: random.Random, *, encrypted: bool
) -> Generator[tuple[Cluster, Faults], None, None]:
    """A cluster, with as much around it as this machine can do."""
    names = [f"node{number}" for number in range(1, size + 1)]
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(names)) if _possible(require_namespaces) else None
        settings: dict[str, Any] = {"limits": LIMITS, "log": "info"}
        hosts = (
            {name: f"{ip}:7001" for name, ip in network.addresses.items()}
            if network
            else {name: f"127.0.0.1:{free_port()}" for name in names}
        )
        scheme = "tls+tcp" if encrypted else "tcp"
        settings["addresses"] = {name: f"{scheme}://{host}" for name, host in hosts.items()}
        settings["allow_plaintext"] = not encrypted
        cluster = stack.enter_context(Cluster(size, **settings))
        if encrypted:
            issue(cluster)
        library = find_library()
        clocks = {node.name: WallClock(node, library) for node in cluster} if library else {}
        small_disks = _possible(lambda: _mount_all(cluster))
        for node in cluster:
            node.wrapper = network.wrapper(node.name) if network else ()
        can_trace = _possible(require_strace)
        print(
            f"partitions: {bool(network)}, clocks: {bool(clocks)}, full disks: {small_disks}, "
            f"failing syncs: {can_trace}; everything is in {cluster.directory}",
            flush=True,
        )
        faults = Faults(
            cluster,
            dice,
            network=network,
            clocks=clocks,
            small_disks=small_disks,
            can_trace=can_trace,
        )
        cluster.start()
        try:
            yield cluster, faults
        except BaseException:
            os.environ[KEEP] = "1"
            cluster.kill_all()
            for node in cluster:  # what is on a small disk goes away with it
                shutil.copytree(node.data, node.directory / "data-kept", dirs_exist_ok=True)
            raise


def _mount_all(cluster: Cluster) -> None:
    for node in cluster:
        cluster.belongings.enter_context(mounted("tmpfs", node.data, DISK_MB))


def _possible(requirement: Callable[[], None]) -> bool:
    """Does `requirement()` not skip?"""
    try:
        requirement()
    except pytest.skip.Exception as reason:
        print(f"left out: {reason}", flush=True)
        return False
    return True


def _round(number: int, cluster: Cluster, faults: Faults, recorder: Recorder, clients: int) -> None:
    prefix = f"{number}."
    keys = [f"{prefix}key{each}" for each in range(5)]
    with Load(
        list(cluster), clients=clients, keys=5, prefix=prefix, recorder=recorder, seed=number
    ) as load:
        for _ in range(FAULTS_PER_ROUND):
            print(f"{time.strftime('%H:%M:%S')} round {number}: {faults.happen()}", flush=True)
            if len(cluster.running) == len(cluster.nodes):
                load.wait_for_acknowledged(50)
            cluster.check_health()
    cluster.wait_for_leader()
    assert_same_state(cluster)
    for node in cluster:
        read_back(node, keys, recorder)
    operations = recorder.take()
    assert_linearizable(operations)
    print(f"round {number} is right: {summary(operations)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
