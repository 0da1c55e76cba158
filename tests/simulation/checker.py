"""What must hold after every step, over all nodes and all their lives.

The properties of the paper's Figure 3, and what they rest on, as far as they can be seen from what
nodes put out: their updates, messages and disks.

    election safety        at most one leader in a term
    elected by a majority  a leader has the votes of one
    leader append-only     a leader never takes back an entry of its log
    log matching           entries of one index and term are the same, and so is what precedes them
    commit rule            a leader commits by an entry of its own term (5.4.2) that a majority has
                           on disk, and nobody but a leader commits first
    counts only what is durable   a node itself what it has saved, a leader what others have
    leader completeness    a new leader has everything that was committed in earlier terms
    state machine safety   nobody takes other entries for committed
    monotonic state        terms, commit indexes and snapshots never go back
    configuration in force the last one in the log, or else the snapshot's (section 6)
    durable state          what was promised to be on disk comes back in the next life

Of the members, what raftd.raft.invariants_membership says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry
from raftd.raft.state import HardState, Recovered, Role
from raftd.raft.update import Update
from tests.simulation.members import check_changed, check_standing
from tests.simulation.node import Node
from tests.simulation.recovery import check_recovered
from tests.simulation.shadow import ShadowLog
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.process import Process


class _Seen:
    """One life, as its last update left it."""

    __slots__ = ("commit_index", "leading", "match_index", "snapshot", "term", "to_apply")

    def __init__(self, commit_index: int) -> None:
        self.term = 0
        self.leading = 0
        """The term it led, 0 if it did not lead."""
        self.commit_index = commit_index
        self.snapshot = 0
        self.to_apply = 0
        self.match_index: dict[str, int] = {}


class Checker:
    """`reached` is told of rare situations that a run came to."""

    def __init__(self, nodes: dict[str, Node], reached: Callable[[str], None]) -> None:
        self._nodes = nodes
        self._reached = reached
        self._seen: dict[Process, _Seen] = {}
        self.votes: dict[tuple[str, int], str] = {}
        """(voter, term) -> candidate"""
        self.leaders: dict[int, Process] = {}
        self.entries: dict[tuple[int, int], tuple[int, bytes]] = {}
        """(index, term) -> the term in front of it, and its record"""
        self.committed: list[int] = []
        """term of the entry at index 1, 2, ..."""
        self._commit_by_term: dict[int, int] = {}
        self.elections = 0

    # ---- lives

    def recovers(self, node: Node, recovered: Recovered) -> None:
        """What a new life found on its disk."""
        check_recovered(node, recovered)

    def begins(self, process: Process) -> None:
        """A new life, and where it says it starts."""
        commit = process.raft.server.commit_index
        if commit > len(self.committed):
            raise Violation(
                "state machine safety", f"{process.name} starts with {commit} committed"
            )
        self._seen[process] = _Seen(commit)

    def meets(self, node: Node) -> None:
        """A host that was not there in the beginning."""
        self._nodes[node.name] = node

    def ends(self, process: Process) -> None:
        self._seen.pop(process, None)

    # ---- every step

    def look(self, process: Process, update: Update) -> None:
        """Right after `take_update`, before anything is done about it."""
        server, seen, log = process.raft.server, self._seen[process], process.log
        term = server.current_term
        leads = server.role is Role.LEADER
        if update.snapshot_to_install is not None:
            last = log.last_index
            log.install(update.snapshot_to_install)
            if log.last_index == last > log.base_index:
                self._reached("snapshot beside its suffix")
        newest = log.configurations[-1][0]
        if update.entries:
            if leads and seen.leading == term and update.entries[0].index <= log.last_index:
                raise Violation(
                    "leader append-only",
                    f"{process.name} leads term {term} and replaces its entry"
                    f" {update.entries[0].index}",
                )
            self._new_entries(process, log, update.entries)
        if (server.log.last_index, server.log.last_term) != (log.last_index, log.last_term):
            raise Violation(
                "update",
                f"{process.name} has a log up to {server.log.last_index} of term"
                f" {server.log.last_term}, its updates make one up to {log.last_index} of term"
                f" {log.last_term}",
            )
        if server.configuration != log.configuration:
            raise Violation(
                "configuration in force",
                f"{process.name} acts by {server.configuration}, but the last one in its log, at"
                f" {log.configurations[-1][0]}, is {log.configuration}",
            )
        if term < seen.term:
            raise Violation(
                "monotonic state", f"{process.name} went from term {seen.term} to {term}"
            )
        if leads and seen.leading != term:
            self._new_leader(process, term)
            seen.match_index.clear()
        seen.leading = term if leads else 0
        seen.term = term
        self._counts(process, seen)
        commit = server.commit_index
        if commit != seen.commit_index:
            self._new_commit(process, seen.commit_index, commit)
            seen.commit_index = commit
        if log.configurations[-1][0] != newest and "membership" in process.world.plan.rates:
            check_changed(process, newest, len(self.committed))
        check_standing(process)
        if update.commit_index < seen.to_apply:
            raise Violation(
                "monotonic state",
                f"{process.name} was to apply up to {seen.to_apply}, now {update.commit_index}",
            )
        seen.to_apply = update.commit_index
        snapshot = server.snapshot.last_included_index
        if snapshot < seen.snapshot:
            raise Violation(
                "monotonic state",
                f"{process.name} had a snapshot up to {seen.snapshot}, now up to {snapshot}",
            )
        seen.snapshot = snapshot

    def _new_entries(self, process: Process, log: ShadowLog, entries: Sequence[Entry]) -> None:
        first = entries[0].index
        if not log.base_index < first <= log.last_index + 1:
            raise Violation("update", f"{process.name} puts entry {first} behind {log.last_index}")
        before = log.term(first - 1)
        assert before is not None
        for entry in entries:
            known = self.entries.setdefault((entry.index, entry.term), (before, entry.record))
            if known != (before, entry.record):
                raise Violation(
                    "log matching",
                    f"{process.name} has an entry {entry.index} of term {entry.term} that differs"
                    f" from another node's, or behind one of term {before}, not {known[0]}",
                )
            if entry.term < before:
                raise Violation("log matching", f"{process.name}: terms fall at {entry.index}")
            before = entry.term
        if first <= len(self.committed):
            for entry in entries:
                index = entry.index
                if index <= len(self.committed) and (
                    log.term(index) == self.committed[index - 1] != entry.term
                ):
                    raise Violation(
                        "committed entries stay",
                        f"{process.name} replaces entry {index} of term {log.term(index)}, which"
                        f" is committed, by one of term {entry.term}",
                    )
        if first <= log.last_index:
            self._reached("entries truncated")
            if first <= log.configurations[-1][0]:
                self._reached("configuration truncated")
            if process.saver.is_saving(first):
                self._reached("truncated while it was saved")
        log.put(entries)

    def _new_leader(self, process: Process, term: int) -> None:
        other = self.leaders.setdefault(term, process)
        if other is not process:
            raise Violation(
                "election safety", f"{process.name} leads term {term}, which {other.name} led"
            )
        self.elections += 1
        if any(each.raft.server.role is Role.LEADER for each in self._seen if each is not process):
            self._reached("two leaders at once")
        if process.node.durable.hard_state == HardState(term, process.name):
            self.votes[process.name, term] = process.name  # who is alone has asked nobody
        for voters in _halves(process.raft.server.configuration):
            votes = [each for each in voters if self.votes.get((each, term)) == process.name]
            if len(votes) * 2 <= len(voters):
                raise Violation(
                    "elected by a majority",
                    f"{process.name} leads term {term} with no vote but of {' and '.join(votes)}",
                )
        for earlier, index in self._commit_by_term.items():
            if earlier < term and not process.log.has(index, self.committed[index - 1]):
                raise Violation(
                    "leader completeness",
                    f"{process.name} leads term {term} with a log up to {process.log.last_index}"
                    f" without entry {index} of term {self.committed[index - 1]}, committed in"
                    f" term {earlier}",
                )

    def _counts(self, process: Process, seen: _Seen) -> None:
        """What it takes to be on a disk is there; of others as long as they follow it."""
        server, log = process.raft.server, process.log
        index = server.persisted_index
        term = log.term(index)
        if term is not None and not process.node.durable.log.has(index, term):
            raise Violation(
                "counts only what is durable",
                f"{process.name} takes its entry {index} of term {term} for saved",
            )
        for name, progress in server.progress.items():
            index = progress.match_index
            if index <= seen.match_index.get(name, 0):
                continue
            seen.match_index[name] = index
            durable = self._nodes[name].durable
            if durable.hard_state.current_term <= server.current_term:
                term = log.term(index)
                if term is not None and not durable.log.has(index, term):
                    raise Violation(
                        "counts only what is durable",
                        f"{process.name}, leader of term {server.current_term}, believes that"
                        f" {name} has its entry {index} of term {term}",
                    )

    def _new_commit(self, process: Process, before: int, index: int) -> None:
        name, log = process.name, process.log
        if index < before:
            raise Violation("monotonic state", f"{name} took {before} for committed, now {index}")
        known = len(self.committed)
        for each in range(max(before + 1, log.base_index), min(index, known) + 1):
            if log.term(each) not in {self.committed[each - 1], None}:
                raise Violation(
                    "state machine safety",
                    f"{name} takes entry {each} of term {log.term(each)} for committed, but it was"
                    f" one of term {self.committed[each - 1]}",
                )
        if index <= known:
            return
        server = process.raft.server
        term = log.term(index)
        if server.role is not Role.LEADER or term != server.current_term:
            raise Violation(
                "commit rule",
                f"{name}, {server.role.value} of term {server.current_term}, is the first to take"
                f" entry {index} of term {term} for committed",
            )
        # The configuration may have changed right behind the commit, in the same step.
        in_force = [members for _, members in log.configurations[-2:]]
        holders = [each for each in self._nodes if self._nodes[each].durable.log.has(index, term)]
        if not any(_majority_of_each(members, holders) for members in in_force):
            raise Violation(
                "commit rule",
                f"{name} takes entry {index} of term {term} for committed, which only"
                f" {' and '.join(holders) or 'nobody'} has on disk; members are {in_force[-1]}",
            )
        for each in range(known + 1, index + 1):
            entry_term = log.term(each)
            assert entry_term is not None
            self.committed.append(entry_term)
        self._commit_by_term[server.current_term] = index


def _halves(members: Configuration) -> list[tuple[str, ...]]:
    return [half for half in (members.voters, members.outgoing_voters) if half]


def _majority_of_each(members: Configuration, holders: Sequence[str]) -> bool:
    return all(2 * len(set(half) & set(holders)) > len(half) for half in _halves(members))
