"""A bounded number of seeds; `make simulate SEEDS=...` runs more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation import cli, mutations
from tests.simulation.campaign import one_line, run_seed
from tests.simulation.plan import FAULTS, THEMES, plan
from tests.simulation.world import World

BATCH = 10
BATCHES = 6
FOUND = (
    1024,  # a frame that the disk was too full for was not taken back as a whole
    106017,  # a false alarm of tests/linearizability.py
    102179,  # entries to be applied that a snapshot has overtaken
)
"""Seeds that found bugs, mended since."""
_faults: Counter[str] = Counter()


@pytest.mark.parametrize("batch", range(BATCHES))
def test_seeds(batch: int) -> None:
    """Everything that may happen to a cluster, and what must hold at every step (see checker.py).

    Pitfalls 1, 2, 3, 4, 5, 6, 7, 23, 25, 26, 27, 31, 38, 40, 50, 51, 52, 64, 65, 66, 67, 68, 69,
    70, 78, 79, 80, 81, 82, 85, 88, 91, 92, 93. mutations.py shows that these are found.
    """
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        result = run_seed(seed)
        assert not result.property, one_line(result)
        assert result.committed
        _faults.update(result.faults)


@pytest.mark.parametrize("seed", FOUND)
def test_seeds_that_found_something(seed: int) -> None:
    result = run_seed(seed)
    assert not result.property, one_line(result)


def test_every_kind_of_fault_has_happened() -> None:
    """In the seeds above: else they test less than they say."""
    if sum(_faults.values()) == 0:
        pytest.skip("only after test_seeds")
    missing = [fault for fault in FAULTS if not _faults[fault]]
    assert not missing
    for situation in ("entries truncated", "two leaders at once", "snapshot installed"):
        assert _faults[situation], f"no seed comes to: {situation}"


def test_the_same_seed_is_the_same_run() -> None:
    """Also in another interpreter, with another order of sets."""
    seeds = _one_of_each_theme()
    here = [run_seed(seed).digest for seed in seeds]
    assert run_seed(seeds[0]).digest == here[0]
    assert len(set(here)) == len(here)
    program = (
        "import sys; from tests.simulation.campaign import run_seed;"
        "print(*[run_seed(int(seed)).digest for seed in sys.argv[1:]])"
    )
    there = subprocess.run(
        [sys.executable, "-c", program, *map(str, seeds)],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=120,
    )
    assert there.stdout.split() == here


def _one_of_each_theme() -> list[int]:
    first: dict[str, int] = {}
    seed = 1000
    while len(first) < len(THEMES):
        first.setdefault(plan(seed).theme, seed)
        seed += 1
    return list(first.values())


def test_a_failure_tells_its_seed_and_its_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["0", "--mutation", "majority-off-by-one", "--last", "20"]) == 1
    story = capsys.readouterr().out
    assert "VIOLATION of elected by a majority" in story
    assert "seed 0 violates 'elected by a majority'" in story
    assert "python -m tests.simulation 0" in story
    assert "leads term " in story


def test_a_mutation_leaves_nothing_behind() -> None:
    clean = World(plan(3)).run().digest
    for bug in mutations.every():
        with mutations.applied(bug):
            pass
    assert World(plan(3)).run().digest == clean
