"""Seeds: see simulation.py, which also runs thousands by hand."""

from __future__ import annotations

import pytest

from tests.raft.simulation import run_seed


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens(seed: int) -> None:
    """The properties of Figure 3 at every step, linearizable reads, and an end to all troubles
    once the faults stop. pitfalls 22, 26, 27, 40, 52, 80, 81, 82, 92, 93, 96"""
    run_seed(seed, steps=400)


def test_seeds_do_something() -> None:
    """A simulation in which nothing happens would always be green."""
    simulations = [run_seed(seed, steps=400) for seed in range(0, 60, 3)]
    assert sum(len(simulation.acknowledged) for simulation in simulations) > 60
    assert sum(simulation.reads_answered for simulation in simulations) > 20
    assert sum(simulation.changes for simulation in simulations) > 8
    terms = [len(s.network.invariants.history.leaders) for s in simulations]
    assert max(terms) > 2


def test_the_same_seed_is_the_same_run() -> None:
    one, other = (run_seed(7, steps=300) for _ in range(2))
    assert [node.applied for node in one.network.up] == [node.applied for node in other.network.up]
    assert one.network.now == other.network.now
