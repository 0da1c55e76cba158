"""What is always true: the properties of the paper's Figure 3, over all servers of a cluster.

For simulations and tests. `Invariants.after_step` compares only what has changed since its last
call; what it saw stays in a `History`, so the properties hold over time and across lives:

    election safety        at most one leader can be elected in a given term
    leader append-only     a leader never overwrites or deletes entries in its log
    log matching           two logs with an entry of the same index and term are identical up to it
    leader completeness    what is committed in a term is in the logs of all leaders of higher terms
    state machine safety   no two servers apply different entries at one index

And what those rest on: one vote a term; durable terms, votes and entries are there in the next
life; the commit index never goes back; a leader counts, and commits, only what is on disks; the
configuration in force is the last one in the log or else the snapshot's (section 6).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import islice

from raftd.raft.configuration import Configuration
from raftd.raft.server import Server
from raftd.raft.state import HardState, Role, SnapshotMetadata

Runs = tuple[tuple[int, int], ...]


class InvariantViolated(AssertionError):  # noqa: N818 - it says what happened
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
        self.hard_state: HardState = server.hard_state
        self.persisted_hard_state: HardState = server.persisted_hard_state
        self.persisted_index: int = server.persisted_index
        self.commit_index: int = server.commit_index
        self.snapshot: SnapshotMetadata = server.snapshot
        self.configuration: Configuration = server.configuration
        self.base_index: int = log.base_index
        self.last_index: int = log.last_index
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
    """All that was ever seen, by the name of the server where there is one."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self.leaders: dict[int, Seen] = {}
        """term -> who led it, as it was when it was first seen to lead"""
        self.votes: dict[tuple[str, int], str] = {}
        """(server, term) -> its durable vote"""
        self.committed: dict[int, int] = {}
        """index -> term of the committed entry"""
        self.commits: list[tuple[int, int]] = []
        """(index, term in which everything up to it was first seen to be committed)"""
        self.entries: dict[tuple[int, int], tuple[int | None, bytes | None]] = {}
        """(index, term) -> (term of the entry in front of it, record)"""
        self.configurations: dict[tuple[int, int], Configuration] = {}
        """(index, term) -> what that CONFIGURATION entry says"""


class Invariants:
    """All properties, step by step. Servers that are down may be left out."""

    def __init__(self) -> None:
        self.history = History()

    def after_step(self, servers: Iterable[Server]) -> None:
        """Raises InvariantViolated."""
        history = self.history
        leaders: list[Server] = []
        changed: list[tuple[Server, Seen | None]] = []
        for server in servers:
            if server.role is Role.LEADER:
                leaders.append(server)
            before = history.seen.get(server.name)
            if before is not None and before.server is not server:
                durable_state_survives(server, before)
                before = None
            if before is None or before.differs(server):
                changed.append((server, before))
        if not changed:
            return
        old_leaders, old_commits = len(history.leaders), len(history.commits)
        for server, before in changed:
            check_server(server, before, history)
        for server, _ in changed:
            history.seen[server.name] = Seen(server)
        if len(history.leaders) > old_leaders or len(history.commits) > old_commits:
            leader_completeness(history, old_leaders, old_commits)
        for server in leaders:
            counts_only_what_is_durable(server, history)


def check_server(server: Server, before: Seen | None, history: History) -> None:
    """Everything that one changed server must fulfil against `before`, its last step in this
    life, and against all that was seen."""
    sound(server)
    terms_and_votes(server, before, history)
    first_change = before.first_change(server) if before is not None else server.log.first_index
    if before is not None:
        leader_append_only(server, before, first_change)
    log_matching(server, first_change, history)
    election_safety(server, before, history)
    state_machine_safety(server, before, first_change, history)
    configuration_in_force(server, history)


def sound(server: Server) -> None:
    """One server for itself."""
    log = server.log
    _check(
        server.persisted_index <= log.last_index,
        "persisted index",
        f"{server.name} has saved up to {server.persisted_index}, its log ends at {log.last_index}",
    )
    _check(
        log.base_index
        <= server.snapshot.last_included_index
        <= server.commit_index
        <= log.last_index,
        "order of indexes",
        f"{server.name}: log from {log.first_index}, snapshot up to"
        f" {server.snapshot.last_included_index}, commit index {server.commit_index},"
        f" log up to {log.last_index}",
    )
    runs = log.term_runs
    _check(
        all(one[0] < two[0] and one[1] < two[1] for one, two in zip(runs, runs[1:], strict=False))
        and (not runs or runs[0][0] == log.first_index),
        "terms rise along a log",
        f"{server.name} has runs {runs} from {log.first_index}",
    )
    _check(
        log.last_term <= server.current_term,
        "terms of entries",
        f"{server.name} in term {server.current_term} has an entry of term {log.last_term}",
    )


def terms_and_votes(server: Server, before: Seen | None, history: History) -> None:
    """Figure 2: current_term "increases monotonically"; 5.2: "each server will vote for at most
    one candidate in a given term"."""
    name, durable = server.name, server.persisted_hard_state
    if before is not None:
        old = before.hard_state
        _check(
            server.current_term >= old.current_term
            and durable.current_term >= before.persisted_hard_state.current_term,
            "terms never go back",
            f"{name} went from {old} to {server.hard_state}, durably {durable}",
        )
        _check(
            server.current_term > old.current_term or old.voted_for in {None, server.voted_for},
            "one vote a term",
            f"{name} had voted for {old.voted_for} in term {old.current_term},"
            f" now for {server.voted_for}",
        )
    if durable.voted_for is not None:
        vote = history.votes.setdefault((name, durable.current_term), durable.voted_for)
        _check(
            vote == durable.voted_for,
            "one vote a term",
            f"{name} voted for {vote} and for {durable.voted_for} in term {durable.current_term}",
        )


def durable_state_survives(server: Server, before: Seen) -> None:
    """A new life has what the last one knew to be on disk."""
    old, new = before.persisted_hard_state, server.hard_state
    _check(
        new.current_term > old.current_term
        or (new.current_term == old.current_term and old.voted_for in {None, new.voted_for}),
        "durable state survives",
        f"{server.name} had {old} on its disk and starts with {new}",
    )
    index, term = before.persisted_index, before.term(before.persisted_index)
    _check(
        index <= server.log.base_index
        or (index <= server.log.last_index and term in {None, server.log.term(index)}),
        "durable state survives",
        f"{server.name} had entry {index} of term {term} on its disk; its log now ends at"
        f" {server.log.last_index} and has term {server.log.term(index)} there",
    )


def election_safety(server: Server, before: Seen | None, history: History) -> None:
    """Figure 3: "at most one leader can be elected in a given term" (5.2)."""
    if server.role is not Role.LEADER:
        return
    known = history.leaders.setdefault(server.current_term, Seen(server))
    _check(
        known.server is server,
        "election safety",
        f"{known.server.name} and {server.name} both were elected in term {server.current_term}",
    )


def leader_append_only(server: Server, before: Seen, first_change: int) -> None:
    """Figure 3: "a leader never overwrites or deletes entries in its log; it only appends new
    entries" (5.3)."""
    leads_on = before.role is Role.LEADER and server.role is Role.LEADER
    if leads_on and before.hard_state.current_term == server.current_term:
        _check(
            first_change > before.last_index,
            "leader append-only",
            f"{server.name} changed its log at {first_change} while it led {server.current_term}",
        )


def log_matching(server: Server, first_change: int, history: History) -> None:
    """Figure 3: "if two logs contain an entry with the same index and term, then the logs are
    identical in all entries up through the given index" (5.3): by induction, entry for entry."""
    log = server.log
    for index in range(max(min(first_change, log.last_index), log.first_index), log.last_index + 1):
        term = log.term(index)
        assert term is not None
        entry, previous = log.entry(index), log.term(index - 1)
        record = entry.record if entry is not None else None
        known_previous, known_record = history.entries.get((index, term), (None, None))
        _check(
            (previous is None or known_previous in {None, previous})
            and (record is None or known_record in {None, record}),
            "log matching",
            f"{server.name} has an entry {index} of term {term}, behind one of term {previous},"
            f" that is not the one known, behind one of term {known_previous}",
        )
        history.entries[index, term] = (
            known_previous if previous is None else previous,
            known_record if record is None else record,
        )
        if entry is not None and entry.configuration is not None:
            history.configurations[index, term] = entry.configuration


def state_machine_safety(
    server: Server, before: Seen | None, first_change: int, history: History
) -> None:
    """Figure 3: "if a server has applied a log entry at a given index to its state machine, no
    other server will ever apply a different log entry for the same index" (5.4.3)."""
    name, log = server.name, server.log
    old = before.commit_index if before is not None else 0
    _check(
        server.commit_index >= old,
        "commit index never goes back",
        f"{name} went from {old} to {server.commit_index}",
    )
    _check(
        first_change > old or before is None,
        "state machine safety",
        f"{name} changed its log at {first_change}, committed up to {old}",
    )
    snapshot = server.snapshot
    terms = [(snapshot.last_included_index, snapshot.last_included_term)]
    terms += [
        (index, term)
        for index in range(max(old, log.base_index) + 1, server.commit_index + 1)
        if (term := log.term(index)) is not None
    ]
    for index, term in terms:
        known = history.committed.setdefault(index, term)
        _check(
            known == term,
            "state machine safety",
            f"{name} has committed entry {index} of term {term}, another server had one of"
            f" term {known}",
        )
    if server.commit_index in history.committed and (
        not history.commits or server.commit_index > history.commits[-1][0]
    ):
        history.commits.append((server.commit_index, server.current_term))


def leader_completeness(history: History, old_leaders: int, old_commits: int) -> None:
    """Figure 3: "if a log entry is committed in a given term, then that entry will be present in
    the logs of the leaders for all higher-numbered terms" (5.4). Looks at the leaders and the
    commits behind those numbers, against all others."""
    pairs = []
    for term in islice(history.leaders, old_leaders, None):
        earlier = (commit for commit in reversed(history.commits) if commit[1] < term)
        pairs += [(term, commit) for commit in islice(earlier, 1)]
    for commit in history.commits[old_commits:]:
        pairs += [(term, commit) for term in history.leaders if term > commit[1]]
    for term, (index, commit_term) in pairs:
        leader = history.leaders[term]
        entry_term = history.committed[index]
        _check(
            index <= leader.base_index or leader.term(index) == entry_term,
            "leader completeness",
            f"entry {index} of term {entry_term} was committed in term {commit_term}, but"
            f" {leader.server.name} was elected in term {term} with a log up to"
            f" {leader.last_index} that has term {leader.term(index)} there",
        )


def counts_only_what_is_durable(leader: Server, history: History) -> None:
    """A leader's match_index never exceeds what its follower has on disk, and what it commits is on
    the disks of a majority, of each half of a joint configuration (5.3, 6; thesis 10.2.1)."""
    for peer, progress in leader.progress.items():
        seen = history.seen.get(peer)
        if seen is None or seen.hard_state.current_term != leader.current_term:
            continue
        _check(
            progress.match_index <= max(seen.persisted_index, seen.snapshot.last_included_index),
            "acknowledged means durable",
            f"{leader.name} counts {peer} for {progress.match_index} in term"
            f" {leader.current_term}; its disk has {seen.persisted_index}",
        )
    index, term = leader.commit_index, leader.log.term(leader.commit_index)
    if term != leader.current_term or not all(
        name in history.seen for name in leader.configuration.members
    ):
        return
    for half in (leader.configuration.voters, leader.configuration.outgoing_voters):
        holders = [name for name in half if history.seen[name].has_durably(index, term)]
        _check(
            not half or 2 * len(holders) > len(half),
            "committed means on a majority's disks",
            f"{leader.name} commits {index} in term {term}; of {', '.join(half)} it is on the"
            f" disks of {', '.join(holders) or 'none'}",
        )


def configuration_in_force(server: Server, history: History) -> None:
    """Section 6: "a server always uses the latest configuration in its log, regardless of whether
    the entry is committed"; a snapshot has that of its last included index (section 7)."""
    log, snapshot = server.log, server.snapshot
    for index, configuration in server.configurations[1:]:
        term = log.term(index)
        if term is not None and log.entry(index) is None:
            history.configurations.setdefault((index, term), configuration)
    latest, expected = snapshot.last_included_index, snapshot.configuration
    included, in_snapshot = 0, snapshot.configuration
    for (index, term), configuration in history.configurations.items():
        if index > latest and log.term(index) == term:
            latest, expected = index, configuration
        elif (
            included < index <= snapshot.last_included_index
            and history.committed.get(index) == term
        ):
            included, in_snapshot = index, configuration
    _check(
        server.configuration == expected,
        "configuration in force",
        f"{server.name} uses {server.configuration}; entry {latest} says {expected}",
    )
    _check(
        snapshot.configuration == in_snapshot,
        "configuration of a snapshot",
        f"{server.name}: the snapshot up to {snapshot.last_included_index} says"
        f" {snapshot.configuration}; committed entry {included} says {in_snapshot}",
    )


def _clipped(runs: Runs, base: int, last: int) -> list[tuple[int, int]]:
    """The part of `runs` above `base` and up to `last`."""
    clipped = [(max(first, base + 1), term) for first, term in runs if first <= last]
    return [
        run
        for position, run in enumerate(clipped)
        if position + 1 == len(clipped) or clipped[position + 1][0] > base + 1
    ]


def _check(holds: bool, name: str, text: str) -> None:
    if not holds:
        raise InvariantViolated(name, text)
