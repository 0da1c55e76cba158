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
    except ImportError as error:
        raise Unavailable(
            "matplotlib is not installed (packaging/requirements-bench.txt)"
        ) from error
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = figure.subplots(2, 3)
    figure.suptitle(
        "raftd and etcd, three nodes on one machine, fsync on, 128-byte values\n"
        f"{found.machine.get('cpu', '')}",
    )
    for row, operation in zip(panels, ("put", "get"), strict=True):
        _bars(row[0], found, operation, "rate", f"{operation}s per second")
        _bars(row[1], found, operation, "p50_ms", f"{operation}: ms, median and p99")
        _bars(row[2], found, operation, "cpu_s_per_10k", f"{operation}: CPU s for 10,000")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(file, dpi=110)


def _bars(axes: Any, found: Results, operation: str, field: str, title: str) -> None:
    """A group of bars for each number of clients; ends of the whiskers are the extremes."""
    systems = found.systems()
    width = 0.8 / max(len(systems), 1)
    for number, system in enumerate(systems):
        for place, clients in enumerate(CLIENTS):
            samples = list(found.samples(f"{operation}-{clients}", system).values())
            if not samples:
                continue
            values = [float(getattr(sample, field)) for sample in samples]
            top = (
                statistics.median(sample.p99_ms for sample in samples)
                if field == "p50_ms"
                else max(values)
            )
            middle = statistics.median(values)
            low = 0.0 if field == "p50_ms" else middle - min(values)
            axes.bar(
                place + (number - (len(systems) - 1) / 2) * width,
                middle,
                width,
                yerr=[[low], [max(0.0, top - middle)]],
                color=COLOURS.get(system, "black"),
                error_kw={"elinewidth": 0.8, "capsize": 2, "ecolor": "#444444"},
                label=system if place == 0 else None,
            )
    axes.set_title(title, loc="left")
    axes.set_xticks(range(len(CLIENTS)), [f"{clients}" for clients in CLIENTS])
    axes.set_xlabel("clients, one call in flight each")
    if field == "p50_ms":
        axes.set_yscale("log")
