"""Members that change in whole simulated clusters; mutants_members has what must be caught."""

from __future__ import annotations

from tests.simulation.campaign import run_seed


def test_members_change_and_all_is_well() -> None:
    """pitfalls 40, 43, 44, 48, 49: every fourth seed adds, removes, replaces, promotes and demotes,
    with everything else that goes wrong."""
    changes = 0
    for seed in range(43, 83, 4):
        result = run_seed(seed)
        assert not result.property, f"seed {seed}: {result.property}: {result.text}"
        changes += result.faults.get("membership", 0)
    assert changes > 10
