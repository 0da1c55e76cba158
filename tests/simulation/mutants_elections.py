"""Mutations of elections, terms, reads and transfers."""

from __future__ import annotations

import math
from typing import Any

from raftd.raft import (
    append_entries,
    quorum,
    raft,
    read_index,
    request_vote,
    roles,
)
from raftd.raft.messages import RequestVoteResponse
from raftd.raft.progress import Progress
from raftd.raft.server import PendingRead, Server, Transfer
from raftd.raft.state import HardState, Role
from raftd.raft.update import ReadReady
from tests.simulation.mutations import Patches, mutation


@mutation("the term is saved, the vote is not")
def vote_not_saved(patches: Patches) -> None:
    patches.set(Server, "hard_state", property(lambda self: HardState(self.current_term, None)))


@mutation("a node that starts again has forgotten whom it voted for")
def double_vote_after_restart(patches: Patches) -> None:
    def init(self: Server, *args: Any) -> None:
        original(self, *args)
        self.voted_for = None

    original = patches.set(Server, "__init__", init)


@mutation("a vote in the same term is given to whoever asks")
def second_vote_in_a_term(patches: Patches) -> None:
    patches.set(request_vote, "_may_vote_for", lambda server, sender, request: True)


@mutation("a vote is given without looking at the candidate's log (5.4.1)")
def up_to_date_check_ignored(patches: Patches) -> None:
    patches.set(request_vote, "_is_up_to_date", lambda server, request: True)


@mutation("the longer log wins, whatever its last term (5.4.1)")
def only_length_is_up_to_date(patches: Patches) -> None:
    patches.set(
        request_vote,
        "_is_up_to_date",
        lambda server, request: request.last_log_index >= server.log.last_index,
    )


@mutation("a candidate asks for votes before its own is on disk")
def asks_before_own_vote_is_saved(patches: Patches) -> None:
    patches.set(Server, "send_after_save", Server.send)


@mutation("a vote that arrives twice counts twice")
def vote_counted_twice(patches: Patches) -> None:
    def handle(server: Server, now: float, sender: str, response: RequestVoteResponse) -> None:
        if sender in server.votes and response.vote_granted and not response.pre_vote:
            for name in server.configuration.voters:
                if response.term == server.current_term and name not in server.votes:
                    server.votes[name] = True
                    break
        original(server, now, sender, response)

    original = patches.set(request_vote, "handle_response", handle)


@mutation("votes of an earlier term count")
def vote_of_an_older_term_counts(patches: Patches) -> None:
    def handle(server: Server, now: float, sender: str, response: RequestVoteResponse) -> None:
        if (
            server.role is Role.CANDIDATE
            and response.vote_granted
            and not response.pre_vote
            and response.term < server.current_term
        ):
            response = RequestVoteResponse(
                server.current_term, True, response.request_id, pre_vote=False
            )
        original(server, now, sender, response)

    original = patches.set(request_vote, "handle_response", handle)


@mutation("a pre-vote counts as a vote")
def pre_vote_counts_as_vote(patches: Patches) -> None:
    def handle(server: Server, now: float, sender: str, response: RequestVoteResponse) -> None:
        if server.role is Role.CANDIDATE and response.pre_vote and response.vote_granted:
            response = RequestVoteResponse(response.term, True, response.request_id)
        original(server, now, sender, response)

    original = patches.set(request_vote, "handle_response", handle)


@mutation("half of the voters are a majority")
def majority_off_by_one(patches: Patches) -> None:
    patches.set(quorum, "size", lambda voters: max(1, len(voters) // 2))


@mutation("a newer term in a message is not adopted")
def term_not_adopted(patches: Patches) -> None:
    def become_follower(server: Server, now: float, term: int, leader: str | None) -> None:
        roles.become_follower(server, now, server.current_term, leader)

    patches.set(append_entries, "become_follower", become_follower)


@mutation("a leader of an older term is followed")
def older_leader_is_followed(patches: Patches) -> None:
    def handle(server: Server, now: float, sender: str, request: Any) -> None:
        if request.term < server.current_term and server.role is Role.FOLLOWER:
            append_entries._take(server, sender, request)
        original(server, now, sender, request)

    original = patches.set(append_entries, "handle_request", handle)


@mutation("a leader that has lost its quorum, or hears of a newer term, goes on")
def leader_does_not_step_down(patches: Patches) -> None:
    def become_follower(server: Server, now: float, term: int, leader: str | None) -> None:
        role = server.role
        progress = server.progress
        roles.become_follower(server, now, term, leader)
        if role is Role.LEADER:
            server.role, server.progress = role, progress

    patches.set(append_entries, "become_follower", become_follower)


@mutation("a read does not wait for the no-op of the leader's term (thesis 6.4)")
def no_no_op_before_read_index(patches: Patches) -> None:
    def ask(server: Server, ticket: int) -> None:
        server.reads.append(PendingRead(ticket, server.commit_index))

    patches.set(read_index, "ask", ask)


@mutation("a read is answered without asking a majority")
def stale_read_after_partition(patches: Patches) -> None:
    patches.set(read_index, "_acknowledged", lambda server, required_id: True)


@mutation("an answer to a request sent before the read confirms it")
def read_confirmed_by_old_answers(patches: Patches) -> None:
    def send_round(server: Server, now: float) -> None:
        original(server, now)
        for read in server.reads:
            if read.required_id is not None:
                read.required_id = max(1, read.required_id - 3 * len(server.progress))

    original = patches.set(read_index, "send_round", send_round)


@mutation("a read takes the index before the one that is committed")
def read_index_one_too_low(patches: Patches) -> None:
    def confirm(server: Server) -> None:
        original(server)
        server.reads_ready = [
            ReadReady(read.ticket, None if read.index is None else read.index - 1)
            for read in server.reads_ready
        ]

    original = patches.set(read_index, "confirm", confirm)


@mutation("any member that has ever answered confirms a read (a lease that never ends)")
def lease_never_ends(patches: Patches) -> None:
    def acknowledged(server: Server, required_id: int) -> bool:
        def agrees(name: str) -> bool:
            progress: Progress | None = server.progress.get(name)
            return name == server.name or (progress is not None and progress.acknowledged_id > 0)

        return quorum.has_majority(server.configuration, agrees)

    patches.set(read_index, "_acknowledged", acknowledged)


@mutation("a transfer that comes to nothing is never given up")
def transfer_flag_never_cleared(patches: Patches) -> None:
    def transfer(target: str, deadline: float, *, resign: bool) -> Transfer:
        return Transfer(target, math.inf, resign=resign)

    patches.set(raft, "Transfer", transfer)
