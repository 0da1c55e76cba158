"""Many seeds, over all cores, with a line that shows how far it is."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter

from tests.simulation.plan import plan
from tests.simulation.world import Result, World


def run_seed(seed: int) -> Result:
    return World(plan(seed)).run()


def one_line(result: Result) -> str:
    """What came of a run."""
    if not result.property:
        return (
            f"seed {result.seed}: all is well after {result.virtual_seconds:.1f} virtual seconds,"
            f" {result.events} events, {result.elections} elections, {result.answered} of"
            f" {result.operations} operations answered"
        )
    return (
        f"seed {result.seed} violates {result.property!r} after {result.virtual_seconds:.3f}"
        f" virtual seconds: {result.text}\n"
        f"  once more, with its trace: python -m tests.simulation {result.seed}"
    )


class Totals:
    """The sum of many results."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.runs = 0
        self.failed: list[Result] = []
        self.virtual_seconds = 0.0
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        self.runs += 1
        self.virtual_seconds += result.virtual_seconds
        for name in ("events", "messages", "operations", "answered", "committed", "elections"):
            self.counts[name] += getattr(result, name)
        self.faults.update(result.faults)
        if result.property:
            self.failed.append(result)

    def progress(self, wanted: int) -> str:
        seconds = max(1e-9, time.monotonic() - self.started)
        left = (wanted - self.runs) * seconds / max(1, self.runs)
        return (
            f"{self.runs}/{wanted} seeds, {len(self.failed)} failed,"
            f" {self.runs * 60 / seconds:.0f} seeds/min, {self.virtual_seconds / seconds:.0f}"
            f" virtual s/s, {self.counts['events'] / seconds:.0f} steps/s, {left:.0f} s left"
        )

    def report(self) -> str:
        lines = [
            f"{self.runs} seeds in {time.monotonic() - self.started:.1f} s:"
            f" {self.virtual_seconds:.0f} virtual seconds, "
            + ", ".join(f"{count} {name}" for name, count in self.counts.items()),
            "Faults and the like:",
            *(f"  {count:8}  {name}" for name, count in sorted(self.faults.items())),
        ]
        by_property = Counter(result.property for result in self.failed)
        lines += [f"FAILED {count} x {name}" for name, count in by_property.most_common()]
        return "\n".join(lines)


def main(first: int, seeds: int, jobs: int) -> int:
    """The exit status: 1 if any seed failed."""
    totals = Totals()
    shown = 0.0
    interactive = sys.stderr.isatty()
    with multiprocessing.Pool(min(jobs, seeds)) as pool:
        for result in pool.imap_unordered(run_seed, range(first, first + seeds), chunksize=4):
            totals.add(result)
            if result.property:
                print(f"\r\033[K{one_line(result)}" if interactive else one_line(result))
            now = time.monotonic()
            if now - shown > (0.2 if interactive else 30.0):
                shown = now
                end = "" if interactive else "\n"
                print(f"\r{totals.progress(seeds)}", end=end, file=sys.stderr, flush=True)
    if interactive:
        print(file=sys.stderr)
    print(totals.report())
    return 1 if totals.failed else 0
