"""How cost grows: `python -m tests.bench.growth`, or `make bench-growth`.

raftd alone, a table for each of: keys, size of values, connections, nodes, size of the log, uptime.
Sizes are bounded so that all of it takes about a quarter of an hour; with --full they go as far as
raftd is meant to go, which takes an hour and a half, and 40 GB of disk. Tables are kept in
build/bench, too.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from raftd.kv.store import KeyValueStore
from tests.bench import events, generator
from tests.bench.generator import Sample
from tests.bench.processes import MIB, memory
from tests.bench.scenarios import WINDOW
from tests.bench.soak import soak
from tests.bench.systems import Raftd
from tests.bench.tables import Table

WHOLE_LOG = {"snapshot_log_bytes": 1 << 36}
LOG_VALUE = 16 << 10
FILL_S = 7200
LARGE_S = 5.0
"""For values of which few go in a second."""


class Growth:
    """`tables` are made one after the other, by the methods that have their names."""

    def __init__(self, directory: Path, build: Path, seconds: float, *, full: bool) -> None:
        self._directory = directory
        self._command = generator.command("raftd", build)
        self._seconds = seconds
        self._full = full
        self._made = 0

    def _sizes(self, bounded: Sequence[int], full: Sequence[int]) -> list[int]:
        return [*bounded, *(full if self._full else ())]

    @contextmanager
    def _cluster(self, nodes: int = 3, **settings: Any) -> Iterator[Raftd]:
        self._made += 1
        cluster = Raftd(self._directory / str(self._made), nodes, **settings)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.close()

    def _load(self, cluster: Raftd, node: int | None = None, **options: object) -> Sample:
        leader = cluster.leader() if node is None else node
        seconds = FILL_S if "operations" in options else self._seconds
        options = {"duration": f"{seconds}s", **options}
        pids = ",".join(map(str, cluster.pids()))
        return generator.run(self._command, cluster.target(leader), pids=pids, **options)

    def keys(self) -> Iterator[Table]:
        """As many keys as there are, written once each, then rewritten and read at random."""
        table = Table(
            "Keys (128-byte values)",
            [
                "keys",
                "fill/s",
                "put-100/s",
                "get-100/s",
                "CPU s/10k puts",
                "leader MiB",
                "peak MiB",
                "state MiB",
                "snapshot s",
                "restart s",
                "rebuild s",
            ],
        )
        for keys in self._sizes((10_000, 100_000), (1_000_000, 10_000_000)):
            with self._cluster(limits=WHOLE_LOG) as cluster:
                fill = self._load(cluster, pipeline=WINDOW, keys=keys, operations=keys)
                put = self._load(cluster, clients=100, keys=keys)
                get = self._load(cluster, clients=100, keys=keys, operation="get")
                own = memory(cluster.pids()[cluster.leader()])
                restarted = events.restart(cluster, keys, rebuild=False)
                rebuilt = events.restart(cluster, keys, rebuild=True)
                size, seconds = _snapshot(cluster, self._directory / "snapshot")
                assert restarted is not None
                assert rebuilt is not None
                table.add(
                    keys, fill.rate, put.rate, get.rate, put.cpu_s_per_10k, own.anonymous / MIB,
                    own.peak / MIB, size / MIB, seconds, restarted.seconds, rebuilt.seconds,
                )  # fmt: skip
            yield table

    def values(self) -> Iterator[Table]:
        """16 clients, so that the largest values stay below what a leader takes at a time."""
        table = Table(
            "Size of values (16 clients)",
            [
                "bytes",
                "puts/s",
                "MiB/s",
                "p50 ms",
                "p99 ms",
                "CPU s/10k",
                "gets/s",
                "leader MiB",
                "peak MiB",
                "errors",
            ],
        )
        for size in self._sizes((16, 128, 1 << 10, 16 << 10, 128 << 10, 1 << 20), ()):
            with self._cluster(limits={"entry_bytes": 2 << 20}) as cluster:
                keys = 100 if size > LOG_VALUE else 1000
                self._load(cluster, pipeline=16, keys=keys, operations=keys, size=size)
                load: dict[str, Any] = {"clients": 16, "keys": keys, "size": size}
                if size > LOG_VALUE:
                    load["duration"] = f"{max(self._seconds, LARGE_S)}s"
                put = self._load(cluster, **load)
                get = self._load(cluster, **load, operation="get")
                own = memory(cluster.pids()[cluster.leader()])
                table.add(
                    size, put.rate, put.rate * size / MIB, put.p50_ms, put.p99_ms,
                    put.cpu_s_per_10k, get.rate, own.anonymous / MIB, own.peak / MIB,
                    put.errors + get.errors,
                )  # fmt: skip
            yield table

    def connections(self) -> Iterator[Table]:
        """Each with one call in flight, all at the leader."""
        table = Table(
            "Connections (128-byte values)",
            [
                "connections",
                "puts/s",
                "p50 ms",
                "p99 ms",
                "CPU s/10k",
                "gets/s",
                "p50 ms",
                "leader MiB",
                "peak MiB",
                "errors",
            ],
        )
        for clients in self._sizes((1, 10, 100, 1_000), (3_000, 10_000)):
            with self._cluster(limits={"connections": 10_100}) as cluster:
                self._load(cluster, pipeline=WINDOW, operations=10_000)
                warm = f"{1 + clients / 1000}s"
                put = self._load(cluster, clients=clients, warm=warm)
                get = self._load(cluster, clients=clients, warm=warm, operation="get")
                own = memory(cluster.pids()[cluster.leader()])
                table.add(
                    clients, put.rate, put.p50_ms, put.p99_ms, put.cpu_s_per_10k, get.rate,
                    get.p50_ms, own.anonymous / MIB, own.peak / MIB, put.errors + get.errors,
                )  # fmt: skip
            yield table

    def nodes(self) -> Iterator[Table]:
        """All on this machine, which has to do all their work."""
        table = Table(
            "Nodes (128-byte values, all on this machine)",
            [
                "nodes",
                "put-1 p50 ms",
                "put-1 CPU s/10k",
                "put-100/s",
                "p99 ms",
                "CPU s/10k",
                "leader's CPU s",
                "leader MiB",
            ],
        )
        for nodes in self._sizes((3, 5, 7), ()):
            with self._cluster(nodes) as cluster:
                leader = cluster.leader()
                one = self._load(cluster, clients=1)
                many = self._load(cluster, clients=100)
                own = memory(cluster.pids()[leader])
                table.add(
                    nodes, one.p50_ms, one.cpu_s_per_10k, many.rate, many.p99_ms,
                    many.cpu_s_per_10k, many.server_cpu_s[leader] * 1e4 / many.operations,
                    own.anonymous / MIB,
                )  # fmt: skip
            yield table

    def log(self) -> Iterator[Table]:
        """Never cut short by a snapshot. Values of 16 KiB on 1,000 keys: the state stays small."""
        table = Table(
            "Size of the log (16 KiB values)",
            [
                "log MiB",
                "entries",
                "fill MiB/s",
                "put-16/s",
                "p99 ms",
                "leader MiB",
                "peak MiB",
                "restart s",
                "rebuild s",
                "peak MiB after",
            ],
        )
        for size in self._sizes((64, 256, 1024), (4096, 10_240)):
            with self._cluster(limits=WHOLE_LOG) as cluster:
                entries = size * MIB // LOG_VALUE
                fill = self._load(
                    cluster, pipeline=64, keys=1000, operations=entries, size=LOG_VALUE
                )
                put = self._load(cluster, clients=16, keys=1000, size=LOG_VALUE)
                own = memory(cluster.pids()[cluster.leader()])
                restarted = events.restart(cluster, entries, rebuild=False)
                rebuilt = events.restart(cluster, entries, rebuild=True)
                assert restarted is not None
                assert rebuilt is not None
                after = max(memory(pid).peak for pid in cluster.pids())
                table.add(
                    size, entries, fill.rate * LOG_VALUE / MIB, put.rate, put.p99_ms,
                    own.anonymous / MIB, own.peak / MIB, restarted.seconds, rebuilt.seconds,
                    after / MIB,
                )  # fmt: skip
            yield table

    def uptime(self) -> Iterator[Table]:
        """Writes, reads, new connections, snapshots: nothing may grow."""
        limits = {  # so small that a snapshot is taken every few seconds
            "entry_bytes": 64 << 10,
            "log_memory_bytes": 1 << 20,
            "segment_bytes": 256 << 10,
            "snapshot_log_bytes": 1 << 20,
        }
        with self._cluster(limits=limits) as cluster:

            def load(number: int) -> float:
                node = number % len(cluster.nodes)
                operation = "get" if number % 3 == 2 else "put"
                sample = self._load(
                    cluster, node, clients=50, keys=1000, operation=operation, duration="2s"
                )
                return sample.rate

            yield from soak(cluster, load, 1800 if self._full else 60)


TABLES: dict[str, Callable[[Growth], Iterator[Table]]] = {
    "keys": Growth.keys,
    "values": Growth.values,
    "connections": Growth.connections,
    "nodes": Growth.nodes,
    "log": Growth.log,
    "uptime": Growth.uptime,
}


def _snapshot(cluster: Raftd, path: Path) -> tuple[int, float]:
    """Bytes of a snapshot of the whole state, and the seconds it takes to write it."""
    node = (cluster.leader() + 1) % len(cluster.nodes)
    cluster.kill(node)
    store = KeyValueStore(cluster.nodes[node].data / "state")
    begin = time.monotonic()
    store.snapshot(path)
    seconds = time.monotonic() - begin
    store.close()
    size = path.stat().st_size
    path.unlink()
    return size, seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench-growth", description=__doc__)
    parser.add_argument("--full", action="store_true", help="as far as it is meant to go; long")
    parser.add_argument("--only", default=",".join(TABLES), metavar="NAME,…", help="these tables")
    parser.add_argument("--seconds", type=float, default=2.0, help="each measurement takes (2)")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where data goes")
    options = parser.parse_args()
    wanted = options.only.split(",")
    for name in wanted:
        if name not in TABLES:
            parser.error(f"there is no table {name!r}; there are {', '.join(TABLES)}")
    directory = Path(tempfile.mkdtemp(prefix="raftd-bench-", dir=options.directory))
    build = Path("build/bench")
    tables: list[Table] = []
    try:
        growth = Growth(directory, build, options.seconds, full=options.full)
        for name in wanted:
            shown = 0
            for table in TABLES[name](growth):
                if shown == 0:
                    tables.append(table)
                for line in table.lines()[shown:]:
                    print(line, flush=True)
                shown = len(table.lines())
            print(flush=True)
            (build / "growth.json").write_bytes(
                msgspec.json.format(msgspec.json.encode(tables), indent=1)
            )
    except (generator.Failed, AssertionError) as error:
        sys.exit(f"bench-growth: {error}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    failures = [table.failure for table in tables if table.failure]
    if failures:
        print(*failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
