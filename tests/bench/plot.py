"""The results as a picture, with matplotlib, which only this needs."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from tests.bench.results import Results

COLOURS = {"raftd": "#1565c0", "etcd": "#ef6c00", "pysyncobj": "#757575", "other": "#2e7d32"}
CLIENTS = (1, 16, 100, 400)


class Unavailable(Exception):
    """matplotlib is not there."""


def plot(found: Results, file: Path) -> None:
    """Write a PNG. Raises Unavailable."""
    try:
        import matplotlib as mpl  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
        from matplotlib.patches import Patch  # noqa: PLC0415
        from matplotlib.ticker import LogLocator  # noqa: PLC0415
    except ImportError as error:
        raise Unavailable(
            "matplotlib is not installed (packaging/requirements-bench.txt)"
        ) from error
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = figure.subplots(2, 3)
    figure.suptitle(
        "raftd and etcd, three nodes on one machine, fsync on, 128-byte values\n"
        f"{found.machine.get('cpu', '')}"
        + ("; PySyncObj never syncs" if "pysyncobj" in found.systems() else ""),
    )
    for row, operation in zip(panels, ("put", "get"), strict=True):
        _bars(row[0], found, operation, "rate", f"{operation}s per second")
        _bars(row[1], found, operation, "p50_ms", f"{operation}: ms, median and p99")
        _bars(row[2], found, operation, "cpu_s_per_10k", f"{operation}: servers' CPU s for 10,000")
        for axes in row[1:]:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
            axes.grid(axis="y", linewidth=0.3)
    handles = [Patch(color=COLOURS.get(name, "black"), label=name) for name in found.systems()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(file, dpi=110)


def _bars(axes: Any, found: Results, operation: str, field: str, title: str) -> None:
    """A group for each number of clients; whiskers end at the extremes, for times at the p99."""
    systems = found.systems()
    width = 0.8 / max(len(systems), 1)
    times = field == "p50_ms"
    for number, system in enumerate(systems):
        for place, clients in enumerate(CLIENTS):
            samples = list(found.samples(f"{operation}-{clients}", system).values())
            if not samples:
                continue
            values = [float(getattr(sample, field)) for sample in samples]
            middle = statistics.median(values)
            low, high = min(values), max(values)
            if times:
                low, high = middle, statistics.median(sample.p99_ms for sample in samples)
            at = place + (number - (len(systems) - 1) / 2) * width
            colour = COLOURS.get(system, "black")
            if field != "rate":  # a bar would have no foot on a logarithmic axis
                axes.plot(at, middle, "o", color=colour)
            else:
                axes.bar(at, middle, width * 0.95, color=colour)
            error = [[max(0.0, middle - low)], [max(0.0, high - middle)]]
            axes.errorbar(at, middle, error, color="#444444", elinewidth=0.8, capsize=2)
    axes.set_title(title, loc="left")
    axes.set_xticks(range(len(CLIENTS)), [f"{clients}" for clients in CLIENTS])
    axes.set_xlim(-0.6, len(CLIENTS) - 0.4)
    axes.set_xlabel("clients, one call in flight each")
