"""Majorities, of one set of voters or of both halves of a joint configuration (paper section 6)."""

from __future__ import annotations

from collections.abc import Callable, Collection

from raftd.raft.configuration import Configuration


def size(voters: Collection[str]) -> int:
    """How many of `voters` are a majority."""
    return len(voters) // 2 + 1


def has_majority(configuration: Configuration, agrees: Callable[[str], bool]) -> bool:
    """True when `agrees` holds for a majority of each half. An empty half asks for nothing, but
    a configuration without any voter never agrees."""
    for half in (configuration.voters, configuration.outgoing_voters):
        if half and sum(map(agrees, half)) < size(half):
            return False
    return bool(configuration.voters or configuration.outgoing_voters)


def can_still_win(configuration: Configuration, refused: Collection[str]) -> bool:
    """False when so many have refused that no majority is left."""
    return has_majority(configuration, lambda name: name not in refused)


def committed(configuration: Configuration, match_index: Callable[[str], int]) -> int:
    """The largest index that a majority of each half has (paper 5.3, Figure 2: match_index)."""
    return min(
        [
            sorted(map(match_index, half), reverse=True)[size(half) - 1]
            for half in (configuration.voters, configuration.outgoing_voters)
            if half
        ],
        default=0,
    )
