"""Deliberate bugs in how members change, each caught; see test_mutations."""

from __future__ import annotations

import pytest

from tests.simulation import mutations
from tests.simulation.campaign import run_seed

KNOWN_SEEDS = {
    "no-joint-configuration": 3,
    "newer-half-alone-decides": 27,
    "older-half-alone-commits": 3,
    "joint-halves-are-one": 3,
    "removed-leader-counts-itself": 3,
    "learner-counted": 19,
    "learner-campaigns": 31,
    "removed-node-campaigns": 19,
    "several-changes-at-once": 3,
    "change-before-the-no-op": 3,
    "leaves-joint-too-early": 3,
    "inherited-change-is-not-finished": 31,
    "removed-leader-stays": 3,
    "new-members-are-not-fed": 15,
}


@pytest.mark.parametrize("name", KNOWN_SEEDS)
def test_the_simulation_catches(name: str) -> None:
    """pitfalls 28, 39, 42, 43, 48, 49"""
    bug = mutations.find(name)
    caught = mutations.hunt(bug, KNOWN_SEEDS[name])
    assert caught is not None, f"{bug.text}: not caught by {bug.limit} seeds"


def test_members_change_and_all_is_well() -> None:
    """pitfalls 40, 43, 44, 48, 49: every fourth seed adds, removes, replaces, promotes and demotes,
    with everything else that goes wrong."""
    changes = 0
    for seed in range(43, 83, 4):
        result = run_seed(seed)
        assert not result.property, f"seed {seed}: {result.property}: {result.text}"
        changes += result.faults.get("membership", 0)
    assert changes > 10
