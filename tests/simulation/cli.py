"""The command line of the simulation."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from tests.simulation import campaign, mutations
from tests.simulation.plan import plan
from tests.simulation.state_trace import StateTrace
from tests.simulation.world import World


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0 if all was well."""
    options = _parse(arguments)
    if options.mutations:
        return mutations.main(options.only, afresh=options.afresh)
    if options.seeds is not None:
        return campaign.main(options.first, options.seeds, options.jobs)
    if options.seed is None:
        print("Which seed? `python -m tests.simulation SEED`, or `--seeds N` for many.")
        return 2
    return replay(options.seed, options.last, options.mutation, options.state_trace)


def replay(
    seed: int, last: int | None, mutation: str | None, state_trace: Path | None = None
) -> int:
    """One seed, with its trace: the same every time."""
    trace = StateTrace() if state_trace else None
    world = World(plan(seed), state_trace=trace)
    if mutation is None:
        result = world.run()
    else:
        with mutations.applied(mutations.find(mutation)):
            result = world.run()
    if state_trace is not None and trace is not None:
        state_trace.write_bytes(b"".join(trace.lines))
    print(world.plan)
    print(world.trace.text(last))
    print(campaign.one_line(result))
    return 1 if result.property else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="replay this seed and print its trace")
    parser.add_argument("--last", type=int, help="with SEED: only so many lines of the trace")
    parser.add_argument("--mutation", help="with SEED: with this deliberate bug")
    parser.add_argument(
        "--state-trace", type=Path, metavar="FILE", help="with SEED: write its state trace there"
    )
    parser.add_argument("--seeds", type=int, help="run so many seeds")
    parser.add_argument("--first", type=int, default=0, help="with --seeds: from this one on")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="with --seeds: processes"
    )
    parser.add_argument(
        "--mutations", action="store_true", help="inject each deliberate bug until it is caught"
    )
    parser.add_argument(
        "--afresh", action="store_true", help="with --mutations: forget the seeds written down"
    )
    parser.add_argument("--only", help="with --mutations: only those with this in their name")
    return parser.parse_args(arguments)
