"""Nothing grows with uptime: memory, file descriptors, threads and disk under load, over time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.processes import MIB, memory, open_files
from tests.bench.systems import Raftd
from tests.bench.tables import Table

WARM_SHARE = 1 / 3
"""Of the rows, at the beginning: caches and arenas fill up."""
MEMORY_MAY_GROW = 1.1
DISK_MAY_GROW = 1.5
"""It goes up until a snapshot is taken, and down again."""
REST_S = 0.5
"""For a node to see that clients have gone."""
OPEN_FILES_MAY_GROW = 4
"""A snapshot or a segment may be open just now."""


def soak(cluster: Raftd, load: Callable[[int], float], seconds: float) -> Iterator[Table]:
    """Call `load` (its number -> operations a second) until the time is over; look after each.

    Gives the same table again and again, with one more row; at its end `failure` is set if
    something grew.
    """
    table = Table(
        f"Uptime ({seconds:.0f} s): the largest of all nodes",
        ["seconds", "op/s", "MiB", "peak MiB", "open files", "threads", "disk MiB"],
    )
    begin = time.monotonic()
    number = 0
    while time.monotonic() < begin + seconds or len(table.rows) < 3:
        rate = load(number)
        number += 1
        time.sleep(REST_S)
        memories = [memory(pid) for pid in cluster.pids()]
        table.add(
            int(time.monotonic() - begin),
            rate,
            max(each.anonymous for each in memories) / MIB,
            max(each.peak for each in memories) / MIB,
            max(open_files(pid) for pid in cluster.pids()),
            max(sum(1 for _ in Path(f"/proc/{pid}/task").iterdir()) for pid in cluster.pids()),
            max(_size(node.data) for node in cluster.nodes) / MIB,
        )
        yield table
    table.failure = judge(table)
    yield table


def judge(table: Table) -> str:
    """What grew between the middle and the end; empty if nothing did."""
    rows = table.rows[int(len(table.rows) * WARM_SHARE) :]
    middle, end = rows[: (len(rows) + 1) // 2], rows[len(rows) // 2 :]

    def medians(column: str) -> tuple[float, float]:
        place = table.columns.index(column)
        return (
            statistics.median(row[place] for row in middle),
            statistics.median(row[place] for row in end),
        )

    grew = []
    for column, allowed in (("MiB", MEMORY_MAY_GROW), ("disk MiB", DISK_MAY_GROW)):
        was, now = medians(column)
        if now > was * allowed:
            grew.append(f"{column} from {was:.1f} to {now:.1f}")
    for column in ("open files", "threads"):
        was, now = medians(column)
        if now > was + OPEN_FILES_MAY_GROW:
            grew.append(f"{column} from {was:.0f} to {now:.0f}")
    return f"grew with uptime: {', '.join(grew)}" if grew else ""


def _size(directory: Path) -> int:
    """Bytes of the files in it. Files may go away meanwhile."""
    size = 0
    for path in directory.rglob("*"):
        try:
            size += path.stat().st_size
        except FileNotFoundError:
            continue
    return size
