"""What a watcher has seen of a cluster's servers: the memory behind raftd.raft.invariants.

For simulations and tests; nothing here decides anything.
"""

from __future__ import annotations

from bisect import bisect_right

from raftd.raft.configuration import Configuration
from raftd.raft.server import Server
from raftd.raft.state import Role

Runs = tuple[tuple[int, int], ...]
Who = tuple[str, int]
"""A name and the membership index it came with: a name that comes back is somebody else."""


def who(server: Server) -> Who:
    return server.name, server.membership_index


class InvariantViolated(AssertionError):
    """`name`: the property; `text`: what was found, with servers, terms and indexes."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class Seen:
    """A server as a step left it."""

    def __init__(self, server: Server) -> None:
        log = server.log
        self.server = server
        self.role: Role = server.role
        self.hard_state = server.hard_state
        self.persisted_hard_state = server.persisted_hard_state
        self.persisted_index = server.persisted_index
        self.commit_index = server.commit_index
        self.snapshot = server.snapshot
        self.configuration = server.configuration
        self.base_index = log.base_index
        self.last_index = log.last_index
        self.last_entry = log.entry(log.last_index)
        self.runs: Runs = log.term_runs

    def term(self, index: int) -> int | None:
        """The term its log had at `index`, above its base."""
        if not self.base_index < index <= self.last_index:
            return None
        return self.runs[bisect_right(self.runs, index, key=lambda run: run[0]) - 1][1]

    def has_durably(self, index: int, term: int) -> bool:
        if self.snapshot.last_included_index >= index:
            return True
        return self.persisted_index >= index and self.term(index) in {term, None}

    def differs(self, server: Server) -> bool:
        log = server.log
        return (
            self.role is not server.role
            or self.hard_state.current_term != server.current_term
            or self.hard_state.voted_for != server.voted_for
            or self.persisted_hard_state is not server.persisted_hard_state
            or self.persisted_index != server.persisted_index
            or self.commit_index != server.commit_index
            or self.snapshot is not server.snapshot
            or self.configuration is not server.configuration
            or self.base_index != log.base_index
            or self.last_index != log.last_index
            or self.last_entry is not log.entry(log.last_index)
        )

    def first_change(self, server: Server) -> int:
        """The lowest index at which the server's log is not what it was; one behind the end if it
        is. What has been compacted is not looked at."""
        log = server.log
        base = max(self.base_index, log.base_index)
        last = min(self.last_index, log.last_index)
        old, new = _clipped(self.runs, base, last), _clipped(log.term_runs, base, last)
        for one, other in zip(old, new, strict=False):
            if one != other:
                return one[0] if one[0] == other[0] else min(one[0], other[0])
        if len(old) != len(new):
            return max(old, new, key=len)[min(len(old), len(new))][0]
        return max(base, last) + 1


class History:
    """All that was ever seen, by the server where there is one."""

    def __init__(self) -> None:
        self.seen: dict[Who, Seen] = {}
        self.leaders: dict[int, Seen] = {}
        """term -> who led it, as it was when it was first seen to lead"""
        self.votes: dict[tuple[Who, int], str] = {}
        """(server, term) -> its durable vote"""
        self.committed: dict[int, int] = {}
        """index -> term of the committed entry"""
        self.commits: list[tuple[int, int]] = []
        """(index, term in which everything up to it was first seen to be committed)"""
        self.entries: dict[tuple[int, int], tuple[int | None, bytes | None]] = {}
        """(index, term) -> (term of the entry in front of it, record)"""
        self.configurations: dict[tuple[int, int], Configuration] = {}
        """(index, term) -> what that CONFIGURATION entry says"""

    @property
    def commit_index(self) -> int:
        """Everything up to here was seen to be committed."""
        return self.commits[-1][0] if self.commits else 0

    def member(self, configuration: Configuration, name: str) -> Seen | None:
        """That member of the configuration, if it was ever seen."""
        return self.seen.get((name, configuration.since.get(name, 0)))


def _clipped(runs: Runs, base: int, last: int) -> list[tuple[int, int]]:
    """The part of `runs` above `base` and up to `last`."""
    clipped = [(max(first, base + 1), term) for first, term in runs if first <= last]
    return [
        run
        for position, run in enumerate(clipped)
        if position + 1 == len(clipped) or clipped[position + 1][0] > base + 1
    ]
