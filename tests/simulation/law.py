"""What a message may say when it leaves: only what its sender's disk holds, and only what is so.

Paper 5.1 and Figure 2: persistent state is "updated on stable storage before responding to RPCs".
The one exception is a leader's AppendEntries, whose entries may leave while they are written
(thesis 10.2.1); its term must be durable. Votes are counted here, too: one in a term, over all
lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from raftd.raft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    Message,
    RequestVoteRequest,
    RequestVoteResponse,
    TimeoutNowRequest,
    TimeoutNowResponse,
)
from raftd.raft.state import HardState
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.checker import Checker
    from tests.simulation.process import Process

DURABILITY = "durable before it is said"


class Law:
    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    def check(self, process: Process, to: str, message: Message) -> None:
        durable = process.node.durable
        term = durable.hard_state.current_term
        match message:
            case AppendEntriesRequest():
                good = message.term <= term
                self._entries(process, message)
            case AppendEntriesResponse():
                good = message.term <= term and self._acknowledges(process, message)
            case RequestVoteRequest():
                good = self._asks(process, message)
            case RequestVoteResponse():
                good = self._votes_for(process, to, message)
            case InstallSnapshotRequest():
                index = message.last_included_index
                good = message.term <= term and index <= durable.snapshot.last_included_index
                if self._checker.committed[index - 1] != message.last_included_term:
                    raise Violation("snapshot", f"{process.name} sends one of a wrong term")
            case InstallSnapshotResponse():
                index = message.last_included_index
                good = message.term <= term and (
                    not message.installed or index <= durable.log.last_index
                )
            case TimeoutNowRequest() | TimeoutNowResponse():
                good = message.term <= term
            case _:
                assert_never(message)
        if not good:
            raise Violation(
                DURABILITY,
                f"{process.name} sends {to} {message}, but its disk has {durable.hard_state}, a"
                f" snapshot up to {durable.snapshot.last_included_index} and entries up to"
                f" {durable.log.last_index} of term {durable.log.last_term}",
            )

    def _vote(self, voter: str, term: int, candidate: str) -> None:
        known = self._checker.votes.setdefault((voter, term), candidate)
        if known != candidate:
            raise Violation(
                "one vote a term",
                f"{voter} votes for {candidate} in term {term}, after {known}",
            )

    def _asks(self, process: Process, message: RequestVoteRequest) -> bool:
        durable = process.node.durable
        term = durable.hard_state.current_term
        if message.pre_vote:
            return message.term - 1 <= term
        self._vote(process.name, message.term, process.name)
        return term > message.term or (
            durable.hard_state == HardState(message.term, process.name)
            and message.last_log_index <= durable.log.last_index
        )

    def _votes_for(self, process: Process, to: str, message: RequestVoteResponse) -> bool:
        state = process.node.durable.hard_state
        if not message.vote_granted:
            return message.term <= state.current_term
        if message.pre_vote:
            return True
        self._vote(process.name, message.term, to)
        return state.current_term > message.term or state == HardState(message.term, to)

    def _acknowledges(self, process: Process, message: AppendEntriesResponse) -> bool:
        """What it says it has is on its disk; and it is what the leader has there."""
        if not message.success:
            return True
        durable, index = process.node.durable, message.match_index
        if durable.hard_state.current_term > message.term:
            return True  # said too late to count for anybody
        if index > durable.log.last_index:
            return False
        leader = self._checker.leaders.get(message.term)
        if leader is None or leader.dead or leader.raft.server.current_term != message.term:
            return True
        theirs = leader.log.term(index)
        return theirs is None or durable.log.has(index, theirs)

    def _entries(self, process: Process, message: AppendEntriesRequest) -> None:
        checker, log = self._checker, process.log
        if checker.leaders.get(message.term) is not process:
            raise Violation(
                "election safety", f"{process.name} sends entries in term {message.term}"
            )
        if message.leader_commit > len(checker.committed):
            raise Violation(
                "commit rule", f"{process.name} says {message.leader_commit} is committed"
            )
        if process.raft.server.current_term != message.term:
            return
        pairs = [(message.prev_log_index, message.prev_log_term)]
        pairs += [(entry.index, entry.term) for entry in message.entries]
        for index, term in pairs:
            if log.term(index) not in {term, None}:
                raise Violation(
                    "log matching",
                    f"{process.name} sends entry {index} of term {term}, but has one of term"
                    f" {log.term(index)}",
                )
