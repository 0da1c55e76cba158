"""Deliberate bugs, injected one at a time: a simulation that does not catch them is too weak.

Each is a few lines that take the place of the right ones. `known_seed` is one that caught it when
it was last looked for; should the code have changed so that it does not any more, others are
tried, up to `limit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from tests.simulation.plan import plan
from tests.simulation.world import Result, World

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
    from tests.simulation import mutants_elections, mutants_log, mutants_storage  # noqa: F401, PLC0415

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


def hunt(bug: Mutation, known_seed: int | None = None) -> Caught | None:
    """Try the known seed, then others until one catches it; None if none does."""
    seeds = [*([] if known_seed is None else [known_seed]), *range(bug.limit)]
    with applied(bug):
        for tried, seed in enumerate(seeds, start=1):
            result = World(plan(seed)).run()
            if result.property:
                return Caught(result, tried)
    return None


def main(only: str | None) -> int:
    """Print the table. The exit status: 1 if any is not caught."""
    missed = 0
    print(f"{'mutation':36} {'seeds':>5} {'seed':>5}  caught by")
    for bug in every():
        if only is not None and only not in bug.name:
            continue
        caught = hunt(bug)
        if caught is None:
            missed += 1
            print(f"{bug.name:36} {bug.limit:5} {'':5}  NOT CAUGHT: {bug.text}", flush=True)
        else:
            result = caught.result
            print(f"{bug.name:36} {caught.tried:5} {result.seed:5}  {result.property}", flush=True)
    return 1 if missed else 0
