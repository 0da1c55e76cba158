"""What is always true of the members (paper section 6; thesis 4.2).

configuration in force   the last one in the log, or else the snapshot's
one change at a time     nobody changes members before the last change, and an entry of the
                         leader's own term, are committed
orderly changes          voters change by a joint configuration with the old ones, and from it
majorities of both       who is elected has the votes of a majority of each half
voters only campaign     no learner does, and nobody whose removal is committed
a leader that must go    hands over as soon as the configuration without it is committed
"""

from __future__ import annotations

from itertools import pairwise

from raftd.raft.configuration import Configuration
from raftd.raft.history import History, InvariantViolated, Seen
from raftd.raft.server import Server
from raftd.raft.state import Role


def check_changes(server: Server, before: Seen | None, history: History) -> None:
    """How one changed server came to where it is; `before` is its last step in this life."""
    if before is not None and before.configuration is not server.configuration:
        for (_, old), (index, new) in pairwise(server.configurations):
            if index > before.last_index or before.term(index) != server.log.term(index):
                orderly_change(server, old, index, new)
        one_change_at_a_time(server, history)
    if before is not None and before.role is not Role.LEADER:
        majorities_of_both(server, history)
    voters_only_campaign(server)
    a_leader_that_must_go(server)


def orderly_change(server: Server, old: Configuration, index: int, new: Configuration) -> None:
    """Section 6: from C_old by C_old,new to C_new. Whoever is new was admitted by this entry."""
    if not old.voters:
        return  # a new member that had not heard of its cluster
    same = (old.voters, old.outgoing_voters) == (new.voters, new.outgoing_voters)
    enters = not old.is_joint and new.outgoing_voters == old.voters
    leaves = old.is_joint and not new.is_joint and new.voters == old.voters
    sound = (
        bool(new.voters)
        and not set(new.voters) & set(new.learners)
        and set(new.promotions) <= set(new.learners)
    )
    admitted = set(new.members) - set(old.members)
    if not ((same or enters or leaves) and sound) or any(
        new.since.get(name, 0) != index for name in admitted
    ):
        raise InvariantViolated(
            "orderly changes", f"{server.name}: entry {index} makes {new} of {old}"
        )


def one_change_at_a_time(server: Server, history: History) -> None:
    """Only the newest configuration of a log may be uncommitted, and the leader that made it had
    committed an entry of its own term before."""
    index = server.configurations[-1][0]
    if index <= server.snapshot.last_included_index:
        return
    term = server.log.term(index)
    base = server.log.first_index, server.log.base_term
    needed = [each for each, _ in server.configurations[:-1]]
    needed += [
        first
        for first, run_term in server.log.term_runs
        if run_term == term and (first, run_term) != base
    ]
    for each in needed:
        if each > history.commit_index or each == index:
            raise InvariantViolated(
                "one change at a time",
                f"{server.name} has a change of members in entry {index} of term {term}, but entry"
                f" {each} was not committed; {history.commit_index} is",
            )


def majorities_of_both(server: Server, history: History) -> None:
    """Section 6: "agreement (for elections and entry commitment) requires separate majorities from
    both the old and new configurations", by votes that are on disk."""
    if server.role is not Role.LEADER:
        return
    members, term = server.configuration, server.current_term
    for half in (members.voters, members.outgoing_voters):
        voted = [
            name
            for name in half
            if history.member(members, name) is None
            or history.votes.get(((name, members.since.get(name, 0)), term)) == server.name
        ]
        if half and 2 * len(voted) <= len(half):
            raise InvariantViolated(
                "majorities of both",
                f"{server.name} leads term {term} of {members}, with the votes of"
                f" {', '.join(voted) or 'nobody'}",
            )


def voters_only_campaign(server: Server) -> None:
    """Section 6, third issue: who is removed must not disturb; a learner is no candidate."""
    if server.role not in {Role.PRE_CANDIDATE, Role.CANDIDATE}:
        return
    since = server.membership_index
    open_ones = [server.committed_configuration] + [
        members for index, members in server.configurations if index > server.commit_index
    ]
    mine = [each for each in open_ones if each.is_voter(server.name)]
    if not any(each.since.get(server.name, 0) == since for each in mine):
        raise InvariantViolated(
            "voters only campaign",
            f"{server.name}, admitted at {since}, is {server.role.value} of {open_ones}",
        )


def a_leader_that_must_go(server: Server) -> None:
    """Section 6: "the leader steps down (returns to follower state) once it has committed the C_new
    log entry": it hands over, and goes at the end of that anyway."""
    index, members = server.configurations[-1]
    if (
        server.role is Role.LEADER
        and index <= server.commit_index
        and server.commit_index >= server.term_start_index
        and not members.is_voter(server.name)
        and (server.transfer is None or not server.transfer.resign)
    ):
        raise InvariantViolated(
            "a leader that must go",
            f"{server.name} leads on, but is no voter of {members}, which is committed",
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
        elif included < index <= snapshot.last_included_index and (
            history.committed.get(index) == term
        ):
            included, in_snapshot = index, configuration
    if server.configuration != expected:
        raise InvariantViolated(
            "configuration in force",
            f"{server.name} uses {server.configuration}; entry {latest} says {expected}",
        )
    if snapshot.configuration != in_snapshot:
        raise InvariantViolated(
            "configuration of a snapshot",
            f"{server.name}: the snapshot up to {snapshot.last_included_index} says"
            f" {snapshot.configuration}; committed entry {included} says {in_snapshot}",
        )
