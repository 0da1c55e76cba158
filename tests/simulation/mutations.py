"""Deliberate bugs, injected one at a time: a simulation that does not catch them is too weak.

Each is a few lines that take the place of the right ones. For each a seed is written down that
caught it when it was last looked for; should the code have changed so that it does not any more,
others are tried, up to `limit`.

Some bugs need so rare a coincidence (a leader led twice, with an answer or a read under way since
before) that thousands of seeds do not meet it. They are broken by hand, and seen, in tests/raft:
an answer of an older term believed, entries sent that were read for an earlier leadership, the
suffix behind a snapshot thrown away, an older snapshot in the place of a newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tests.simulation.plan import plan
from tests.simulation.world import Result, World

KNOWN_SEEDS = Path(__file__).with_name("known_seeds.json")
LIMIT = 300
"""Seeds within which each must be caught, unless it says otherwise."""


class Patches:
    """What a mutation has changed, so that it can be undone."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> Any:
        """Put `value` in the place of `owner.name`; the old one is returned."""
        old = owner.__dict__[name]
        self._undo.append((owner, name, old))
        setattr(owner, name, value)
        return old

    def undo(self) -> None:
        while self._undo:
            setattr(*self._undo.pop())


class Mutation(msgspec.Struct, frozen=True):
    """`inject` makes the bug; `text` says what it is."""

    name: str
    text: str
    inject: Callable[[Patches], None]
    limit: int = LIMIT


class Caught(msgspec.Struct, frozen=True):
    """By which seed, after how many."""

    result: Result
    tried: int


ALL: dict[str, Mutation] = {}


def mutation(
    text: str, limit: int = LIMIT
) -> Callable[[Callable[[Patches], None]], Callable[[Patches], None]]:
    """Registers a function as a mutation of its own name."""

    def register(inject: Callable[[Patches], None]) -> Callable[[Patches], None]:
        name = inject.__name__.replace("_", "-")
        assert name not in ALL, name
        ALL[name] = Mutation(name, text, inject, limit)
        return inject

    return register


def every() -> list[Mutation]:
    """All of them; their modules register them when they are imported."""
    from tests.simulation import (  # noqa: PLC0415
        mutants_elections,  # noqa: F401
        mutants_log,  # noqa: F401
        mutants_members,  # noqa: F401
        mutants_storage,  # noqa: F401
    )

    return list(ALL.values())


def find(name: str) -> Mutation:
    every()
    return ALL[name]


@contextmanager
def applied(bug: Mutation) -> Iterator[None]:
    """With the bug in place."""
    patches = Patches()
    try:
        bug.inject(patches)
        yield
    finally:
        patches.undo()


@cache
def is_clean(seed: int) -> bool:
    """Whether the seed finds nothing without a bug: else it says nothing about one."""
    return not World(plan(seed)).run().property


def hunt(bug: Mutation) -> Caught | None:
    """Try the known seed, then others until one catches it; None if none does."""
    known = known_seeds().get(bug.name)
    seeds = [*([] if known is None else [known]), *range(bug.limit)]
    for tried, seed in enumerate(seeds, start=1):
        with applied(bug):
            result = World(plan(seed)).run()
        if result.property and is_clean(seed):
            return Caught(result, tried)
    return None


@cache
def known_seeds() -> dict[str, int]:
    """By name of a mutation, the seed that caught it when it was last looked for."""
    return msgspec.json.decode(KNOWN_SEEDS.read_bytes(), type=dict[str, int])


def main(only: str | None, *, afresh: bool) -> int:
    """Print the table. The exit status: 1 if any is not caught.

    With `afresh` the known seeds are forgotten, found anew, and written down."""
    found: dict[str, int] = dict(known_seeds())
    bugs = [bug for bug in every() if only is None or only in bug.name]
    if afresh:
        for bug in bugs:
            known_seeds().pop(bug.name, None)
    missed = 0
    print(f"{'mutation':36} {'seeds':>5} {'seed':>5}  caught by")
    for bug in bugs:
        caught = hunt(bug)
        if caught is None:
            missed += 1
            print(f"{bug.name:36} {bug.limit:5} {'':5}  NOT CAUGHT: {bug.text}", flush=True)
            continue
        result = caught.result
        print(f"{bug.name:36} {caught.tried:5} {result.seed:5}  {result.property}", flush=True)
        found[bug.name] = result.seed
        if afresh:
            KNOWN_SEEDS.write_bytes(_lines(found))
    return 1 if missed else 0


def _lines(seeds: dict[str, int]) -> bytes:
    names = [bug.name for bug in every()]
    kept = {name: seeds[name] for name in names if name in seeds}
    return msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n"
