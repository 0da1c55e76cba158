"""Majorities, against counting by hand."""

from __future__ import annotations

from itertools import product

import pytest

from raftd.raft import quorum
from raftd.raft.configuration import Configuration

NAMES = ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(("voters", "size"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4)])
def test_more_than_half_is_a_majority(voters: int, size: int) -> None:
    assert quorum.size(NAMES[:voters] if voters < 6 else (*NAMES, "f")) == size


@pytest.mark.parametrize("voters", [NAMES[:count] for count in range(1, 6)])
def test_has_majority_counts_each_voter_once(voters: tuple[str, ...]) -> None:
    configuration = Configuration(voters, learners=("x", "y", "z"))
    for answers in product((True, False), repeat=len(voters)):
        yes = {name for name, answer in zip(voters, answers, strict=True) if answer}
        expected = len(yes) > len(voters) / 2
        assert quorum.has_majority(configuration, lambda name: name in yes) is expected  # noqa: B023
        no = set(voters) - yes
        assert quorum.can_still_win(configuration, no) is expected


def test_learners_and_strangers_count_for_nothing() -> None:
    configuration = Configuration(("a", "b", "c"), learners=("x", "y"))
    assert not quorum.has_majority(configuration, lambda name: name in {"a", "x", "y", "stranger"})


def test_both_halves_of_a_joint_configuration_must_agree() -> None:
    """Section 6: "agreement (for elections and entry commitment) requires separate majorities from
    both the old and new configurations"."""
    configuration = Configuration(("a", "b", "c"), outgoing_voters=("c", "d", "e"))
    for answers in product((True, False), repeat=5):
        yes = {name for name, answer in zip(NAMES, answers, strict=True) if answer}
        expected = len(yes & {"a", "b", "c"}) >= 2 and len(yes & {"c", "d", "e"}) >= 2
        assert quorum.has_majority(configuration, lambda name: name in yes) is expected  # noqa: B023


def test_nobody_is_no_majority() -> None:
    """pitfall 46: a configuration without voters agrees to nothing, and commits nothing."""
    configuration = Configuration((), learners=("a", "b"))
    assert not quorum.has_majority(configuration, lambda name: True)
    assert not quorum.can_still_win(configuration, ())
    assert quorum.committed(configuration, lambda name: 7) == 0


def test_a_voter_that_is_also_a_learner_is_one_member() -> None:
    """pitfall 46: it counts once, as a voter."""
    configuration = Configuration(("a", "b"), learners=("b",))
    assert configuration.members == ("a", "b")
    assert configuration.is_voter("b")
    assert quorum.size(configuration.voters) == 2


@pytest.mark.parametrize("voters", [NAMES[:count] for count in range(1, 6)])
def test_committed_is_what_a_majority_has(voters: tuple[str, ...]) -> None:
    """Figure 2: "a majority of match_index[i] >= N"."""
    configuration = Configuration(voters)
    for matches in product(range(3), repeat=len(voters)):
        match_index = dict(zip(voters, matches, strict=True))
        expected = max(
            index
            for index in range(3)
            if sum(match >= index for match in matches) > len(voters) / 2
        )
        assert quorum.committed(configuration, match_index.__getitem__) == expected


def test_committed_in_a_joint_configuration_is_what_both_halves_have() -> None:
    configuration = Configuration(("a", "b", "c"), outgoing_voters=("c", "d", "e"))
    match_index = {"a": 9, "b": 8, "c": 7, "d": 3, "e": 2}
    assert quorum.committed(configuration, match_index.__getitem__) == 3
