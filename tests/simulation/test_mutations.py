"""Every deliberate bug is caught: so the simulation can find bugs of these kinds."""

from __future__ import annotations

import pytest

from tests.simulation import mutations
from tests.simulation.mutations import Mutation


@pytest.mark.parametrize("bug", mutations.every(), ids=lambda bug: bug.name)
def test_it_is_caught(bug: Mutation) -> None:
    """By the seed written down for it, or within `limit` others."""
    caught = mutations.hunt(bug)
    assert caught is not None, f"{bug.limit} seeds do not notice: {bug.text}"


def test_there_are_enough() -> None:
    assert len(mutations.every()) >= 25
