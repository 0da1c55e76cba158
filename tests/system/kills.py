"""Kill the leader again and again while clients write; nothing acknowledged may be lost.

    python -m tests.system.kills --count 50

Every write has a key of its own. At the end every acknowledged one must be on every node with its
value, every failed one on none, and all nodes must be the same. Exit status 1 if not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.history import Recorder
from tests.system.cluster import Cluster
from tests.system.load import WRITES, Load, assert_all_there, assert_linearizable, summary

WRITES_BETWEEN = 60


def kill_leaders(count: int, clients: int = 8) -> str:
    """`count` kills; the end of it as a sentence. AssertionError if anything was lost."""
    recorder = Recorder()
    longest = 0.0
    with Cluster(3, log="info").start() as cluster:
        with Load(list(cluster), recorder=recorder, clients=clients, keys=0, kinds=WRITES) as load:
            for number in range(count):
                load.wait_for_acknowledged(WRITES_BETWEEN)
                leader = cluster.wait_for_leader()
                leader.kill()
                began = time.monotonic()
                successor = cluster.wait_for_leader()
                longest = max(longest, time.monotonic() - began)
                print(f"kill {number + 1}: {leader.name}, then {successor.name} leads", flush=True)
                load.wait_for_acknowledged(WRITES_BETWEEN)
                leader.start()
                leader.wait_until_up()
            load.wait_for_acknowledged(WRITES_BETWEEN)
        operations = recorder.operations()
        assert_all_there(cluster, operations)
    assert_linearizable(operations)
    return f"{count} kills; {summary(operations)}; longest time without a leader {longest:.1f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Kill leaders under writes; lose nothing.")
    parser.add_argument("--count", type=int, default=50, help="how many kills (50)")
    parser.add_argument("--clients", type=int, default=8, help="how many clients write (8)")
    options = parser.parse_args(arguments)
    print(f"nothing was lost: {kill_leaders(options.count, options.clients)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
