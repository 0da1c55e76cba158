"""`python -m tests.bench`: how fast raftd is, and how fast etcd is beside it.

Prints tables, and writes results.json and results.png into build/bench.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import msgspec

from tests.bench import generator
from tests.bench.comparison import EVENTS, Plan, compare
from tests.bench.plot import Unavailable, plot
from tests.bench.report import report
from tests.bench.results import Results, filesystem, read
from tests.bench.scenarios import SCENARIOS

NAMES = [*(each.name for each in SCENARIOS), *EVENTS]


def main() -> int:
    plan, show = _options()
    if show:
        print(*report(show), sep="\n")
        return 0
    if not plan.directory.is_dir():
        sys.exit(f"bench: there is no directory {plan.directory}; name another --directory")
    if filesystem(plan.directory) in {"tmpfs", "ramfs"}:
        sys.exit(f"bench: {plan.directory} is memory, not a disk; name another --directory")
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:5.0f} s  {text}", file=sys.stderr, flush=True)

    try:
        found = compare(plan, say)
    except (generator.Failed, AssertionError) as error:
        sys.exit(f"bench: {error}")
    results = plan.build / "results.json"
    found.write(results)
    print(*report(found), sep="\n")
    print(f"Written to {results}", end="")
    try:
        plot(found, results.with_suffix(".png"))
        print(f" and {results.with_suffix('.png')}.")
    except Unavailable as error:
        print(f"; no plot: {error}.")
    return 0


def _options() -> tuple[Plan, Results | None]:
    """What to do, or results that are only to be shown. Exits with 2 if the options are wrong."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="what goals speak of, in a minute")
    parser.add_argument("--only", default="", metavar="NAME,…", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, help="5; 3 with --quick")
    parser.add_argument("--seconds", type=float, help="a sample takes: 2; 0.7 with --quick")
    parser.add_argument("--entries", type=int, default=100_000, help="for restarts (100,000)")
    parser.add_argument("--limit", type=float, default=600, help="seconds for everything (600)")
    parser.add_argument("--without-etcd", action="store_true")
    parser.add_argument("--source", type=Path, metavar="TREE", help="run the raftd of that tree")
    parser.add_argument(
        "--against", type=Path, metavar="TREE", help="run the raftd of that tree beside this one's"
    )
    parser.add_argument(
        "--directory", type=Path, default=Plan().directory, help="on the disk to be measured"
    )
    parser.add_argument("--show", type=Path, metavar="FILE", help="only show an earlier run's JSON")
    options = parser.parse_args()
    shown = None
    if options.show:
        try:
            shown = read(options.show)
        except (OSError, msgspec.ValidationError, msgspec.DecodeError) as error:
            parser.error(f"{options.show} has no results that this version can show: {error}")
    only = [name for name in options.only.split(",") if name]
    for name in only:
        if name not in NAMES:
            parser.error(f"there is no {name!r}; there are {', '.join(NAMES)}")
    plan = Plan(
        only=only,
        quick=options.quick,
        rounds=options.rounds or (3 if options.quick else 5),
        seconds=options.seconds or (0.7 if options.quick else 2.0),
        entries=options.entries,
        limit=options.limit,
        with_etcd=not options.without_etcd,
        source=options.source,
        against=options.against,
        directory=options.directory,
    )
    return plan, shown


if __name__ == "__main__":
    sys.exit(main())
