"""What is always true: the properties of the paper's Figure 3, over all servers of a cluster.

For simulations and tests. `Invariants.after_step` compares only what has changed since its last
call; what it saw stays in a `History`, so the properties hold over time and across lives:

    election safety        at most one leader can be elected in a given term
    leader append-only     a leader never overwrites or deletes entries in its log
    log matching           two logs with an entry of the same index and term are identical up to it
    leader completeness    what is committed in a term is in the logs of all leaders of higher terms
    state machine safety   no two servers apply different entries at one index

And what those rest on: one vote a term; durable terms, votes and entries are there in the next
life; the commit index never goes back; a leader counts, and commits, only what is on disks; and
what raftd.raft.invariants_membership says of configurations (section 6).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, pairwise

from raftd.raft import invariants_membership
from raftd.raft.configuration import Configuration
from raftd.raft.history import History, InvariantViolated, Seen, who
from raftd.raft.server import Server
from raftd.raft.state import Role


class Invariants:
    """All properties, step by step. Servers that are down may be left out."""

    def __init__(self) -> None:
        self.history = History()
        self.checks_changes = True
        """False where somebody puts votes or configurations in from outside."""

    def after_step(self, servers: Iterable[Server]) -> None:
        """Raises InvariantViolated."""
        history = self.history
        leaders: list[Server] = []
        changed: list[tuple[Server, Seen | None]] = []
        for server in servers:
            if server.role is Role.LEADER:
                leaders.append(server)
            before = history.seen.get(who(server))
            if before is not None and before.server is not server:
                durable_state_survives(server, before)
                before = None
            if before is None or before.differs(server):
                changed.append((server, before))
        old_leaders, old_commits = len(history.leaders), len(history.commits)
        for server, before in changed:
            check_server(server, before, history, changes=self.checks_changes)
        for server, _ in changed:
            history.seen[who(server)] = Seen(server)
        if len(history.leaders) > old_leaders or len(history.commits) > old_commits:
            leader_completeness(history, old_leaders, old_commits)
        for server in leaders:
            acknowledged_means_durable(server, history)
        for server, before in changed:
            committed_means_on_disks(server, before, history)


def check_server(
    server: Server, before: Seen | None, history: History, *, changes: bool = True
) -> None:
    """All that one changed server must fulfil against `before`, its last step in this life, and
    against everything that was seen."""
    sound(server)
    terms_and_votes(server, before, history)
    first_change = before.first_change(server) if before is not None else server.log.first_index
    if before is not None:
        leader_append_only(server, before, first_change)
    log_matching(server, first_change, history)
    election_safety(server, history)
    state_machine_safety(server, before, first_change, history)
    invariants_membership.configuration_in_force(server, history)
    if changes:
        invariants_membership.check_changes(server, before, history)


def sound(server: Server) -> None:
    """One server for itself."""
    name, log, snapshot = server.name, server.log, server.snapshot.last_included_index
    if server.persisted_index > log.last_index:
        raise InvariantViolated(
            "persisted index",
            f"{name} has saved up to {server.persisted_index}, its log ends at {log.last_index}",
        )
    if not log.base_index <= snapshot <= server.commit_index <= log.last_index:
        raise InvariantViolated(
            "order of indexes",
            f"{name} has a log from {log.first_index} to {log.last_index}, a snapshot up to"
            f" {snapshot}, and commit index {server.commit_index}",
        )
    runs = log.term_runs
    rising = all(one[0] < two[0] and one[1] < two[1] for one, two in pairwise(runs))
    if not rising or (runs and runs[0][0] != log.first_index):
        raise InvariantViolated(
            "terms rise along a log", f"{name} has runs {runs} from {log.first_index} on"
        )
    if log.last_term > server.current_term:
        raise InvariantViolated(
            "terms of entries",
            f"{name} in term {server.current_term} has an entry of term {log.last_term}",
        )


def terms_and_votes(server: Server, before: Seen | None, history: History) -> None:
    """Figure 2: current_term "increases monotonically"; 5.2: "each server will vote for at most
    one candidate in a given term"."""
    name, now, durable = server.name, server.hard_state, server.persisted_hard_state
    if before is not None:
        then, then_durable = before.hard_state, before.persisted_hard_state
        if now.current_term < then.current_term or (
            durable.current_term < then_durable.current_term
        ):
            raise InvariantViolated(
                "terms never go back",
                f"{name} went from {then}, durably {then_durable}, to {now}, durably {durable}",
            )
        if now.current_term == then.current_term and then.voted_for not in {None, now.voted_for}:
            raise InvariantViolated("one vote a term", f"{name} went from {then} to {now}")
    if durable.voted_for is not None:
        vote = history.votes.setdefault((who(server), durable.current_term), durable.voted_for)
        if vote != durable.voted_for:
            raise InvariantViolated(
                "one vote a term",
                f"{name} voted for {vote} and {durable.voted_for} in term {durable.current_term}",
            )


def durable_state_survives(server: Server, before: Seen) -> None:
    """A new life has what the last one knew to be on disk."""
    old, new, log = before.persisted_hard_state, server.hard_state, server.log
    if new.current_term < old.current_term or (
        new.current_term == old.current_term and old.voted_for not in {None, new.voted_for}
    ):
        raise InvariantViolated(
            "durable state survives", f"{server.name} had {old} on its disk, and starts with {new}"
        )
    index, term = before.persisted_index, before.term(before.persisted_index)
    if index > log.last_index or (index > log.base_index and term not in {None, log.term(index)}):
        raise InvariantViolated(
            "durable state survives",
            f"{server.name} had entry {index} of term {term} on its disk, and starts with a log"
            f" up to {log.last_index} that has term {log.term(index)} there",
        )


def election_safety(server: Server, history: History) -> None:
    """Figure 3: "at most one leader can be elected in a given term" (5.2)."""
    if server.role is not Role.LEADER:
        return
    term = server.current_term
    if term not in history.leaders:
        history.leaders[term] = Seen(server)
    known = history.leaders[term].server
    if known is not server:
        who = known.name if known.name != server.name else f"an earlier life of {known.name}"
        raise InvariantViolated(
            "election safety", f"{who} and {server.name} were both elected in term {term}"
        )


def leader_append_only(server: Server, before: Seen, first_change: int) -> None:
    """Figure 3: "a leader never overwrites or deletes entries in its log; it only appends new
    entries" (5.3)."""
    if (
        before.role is server.role is Role.LEADER
        and before.hard_state.current_term == server.current_term
        and first_change <= before.last_index
    ):
        raise InvariantViolated(
            "leader append-only",
            f"{server.name} changed its log at {first_change} while it led {server.current_term}",
        )


def log_matching(server: Server, first_change: int, history: History) -> None:
    """Figure 3: "if two logs contain an entry with the same index and term, then the logs are
    identical in all entries up through the given index" (5.3): by induction, entry for entry."""
    log = server.log
    for index in range(max(min(first_change, log.last_index), log.first_index), log.last_index + 1):
        term, before, entry = log.term(index), log.term(index - 1), log.entry(index)
        assert term is not None
        record = entry.record if entry is not None else None
        known_before, known_record = history.entries.get((index, term), (None, None))
        if (None not in {before, known_before} and before != known_before) or (
            None not in {record, known_record} and record != known_record
        ):
            raise InvariantViolated(
                "log matching",
                f"{server.name} has an entry {index} of term {term}, behind one of term {before},"
                f" that differs from the one known, which is behind one of term {known_before}",
            )
        history.entries[index, term] = (
            known_before if before is None else before,
            known_record if record is None else record,
        )
        if entry is not None and entry.configuration is not None:
            history.configurations[index, term] = entry.configuration


def state_machine_safety(
    server: Server, before: Seen | None, first_change: int, history: History
) -> None:
    """Figure 3: "if a server has applied a log entry at a given index to its state machine, no
    other server will ever apply a different log entry for the same index" (5.4.3)."""
    name, log, snapshot = server.name, server.log, server.snapshot
    old = before.commit_index if before is not None else 0
    if server.commit_index < old:
        raise InvariantViolated(
            "commit index never goes back", f"{name} went from {old} to {server.commit_index}"
        )
    if before is not None and first_change <= old:
        raise InvariantViolated(
            "state machine safety",
            f"{name} changed its log at {first_change}, and had committed up to {old}",
        )
    new = range(max(old, log.base_index) + 1, server.commit_index + 1)
    committed = [(index, log.term(index) or 0) for index in new]
    for index, term in (
        (snapshot.last_included_index, snapshot.last_included_term),
        *committed,
    ):
        known = history.committed.setdefault(index, term)
        if known != term:
            raise InvariantViolated(
                "state machine safety",
                f"{name} committed an entry {index} of term {term}; one of term {known} was"
                " committed before",
            )
    if not history.commits or server.commit_index > history.commits[-1][0]:
        history.commits.append((server.commit_index, server.current_term))


def leader_completeness(history: History, old_leaders: int, old_commits: int) -> None:
    """Figure 3: "if a log entry is committed in a given term, then that entry will be present in
    the logs of the leaders for all higher-numbered terms" (5.4). What came behind the first
    `old_leaders` and `old_commits` is checked against all the rest."""
    pairs: list[tuple[int, tuple[int, int]]] = []
    for term in islice(history.leaders, old_leaders, None):
        earlier = (commit for commit in reversed(history.commits) if commit[1] < term)
        pairs += [(term, commit) for commit in islice(earlier, 1)]
    for commit in history.commits[old_commits:]:
        pairs += [(term, commit) for term in history.leaders if term > commit[1]]
    for term, (index, commit_term) in pairs:
        leader, entry_term = history.leaders[term], history.committed[index]
        if index > leader.base_index and leader.term(index) != entry_term:
            raise InvariantViolated(
                "leader completeness",
                f"entry {index} of term {entry_term} was committed in term {commit_term}, but"
                f" {leader.server.name} was elected in term {term} with a log up to"
                f" {leader.last_index} that has term {leader.term(index)} there",
            )


def acknowledged_means_durable(leader: Server, history: History) -> None:
    """A leader's match_index never exceeds what its follower has on disk (thesis 10.2.1)."""
    for peer, progress in leader.progress.items():
        seen = history.member(leader.configuration, peer)
        if seen is None or seen.hard_state.current_term != leader.current_term:
            continue
        if progress.match_index > max(seen.persisted_index, seen.snapshot.last_included_index):
            raise InvariantViolated(
                "acknowledged means durable",
                f"{leader.name} counts {peer} for {progress.match_index} in term"
                f" {leader.current_term}; on its disk are {seen.persisted_index}",
            )


def committed_means_on_disks(leader: Server, before: Seen | None, history: History) -> None:
    """What a leader commits is on the disks of a majority, of each half of a joint configuration
    (5.3, 6), by one of the configurations that were in force during the step."""
    index, term = leader.commit_index, leader.log.term(leader.commit_index)
    if leader.role is not Role.LEADER or term != leader.current_term:
        return
    if before is not None and before.commit_index >= index:
        return
    in_force = [leader.configuration] + ([before.configuration] if before is not None else [])

    def holds(configuration: Configuration, name: str) -> bool:
        seen = history.member(configuration, name)
        return seen is None or seen.has_durably(index, term)

    for each in in_force:
        halves = [half for half in (each.voters, each.outgoing_voters) if half]
        if all(2 * sum(holds(each, name) for name in half) > len(half) for half in halves):
            return
    latest = in_force[0]
    holders = [name for name in latest.members if holds(latest, name)]
    raise InvariantViolated(
        "committed means on a majority's disks",
        f"{leader.name} commits {index} in term {term}; of {latest} it is on the disks of"
        f" {', '.join(holders) or 'none'}",
    )
