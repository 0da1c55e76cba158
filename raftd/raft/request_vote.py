"""RequestVote, both ends, with pre-vote (paper 5.2, 5.4; thesis 4.2.3, 9.6)."""

from __future__ import annotations

from raftd.raft import append_entries, quorum
from raftd.raft.messages import RequestVoteRequest, RequestVoteResponse
from raftd.raft.roles import become_follower
from raftd.raft.server import Server
from raftd.raft.state import Role


def start_pre_election(server: Server, now: float) -> None:
    """Thesis 9.6: ask first whether an election could be won, without raising any term."""
    server.role = Role.PRE_CANDIDATE
    server.leader = None
    server.reset_election_deadline(now)
    server.votes = {server.name: True}
    server.detail("asks for pre-votes for term %d", server.current_term + 1)
    _ask(server, server.current_term + 1, pre_vote=True, transfer=False)
    _count(server, now)


def start_election(server: Server, now: float, *, transfer: bool = False) -> None:
    """Paper 5.2: "a follower increments its current term and transitions to candidate state. It
    then votes for itself". Its own vote counts once it is on disk (see `own_vote_saved`)."""
    server.role = Role.CANDIDATE
    server.leader = None
    server.current_term += 1
    server.voted_for = server.name
    server.reset_election_deadline(now)
    server.votes = {}
    server.note(f"is candidate in term {server.current_term}", "info")
    _ask(server, server.current_term, pre_vote=False, transfer=transfer)


def own_vote_saved(server: Server, now: float) -> None:
    """The candidate's own vote is durable now: it counts like any other."""
    server.votes[server.name] = True
    _count(server, now)


def handle_request(server: Server, now: float, sender: str, request: RequestVoteRequest) -> None:
    if request.term < server.current_term or _hears_a_leader(server, now, sender, request):
        _answer(server, sender, request, granted=False)
        return
    if request.term > server.current_term and not request.pre_vote:
        become_follower(server, now, request.term, None)
    granted = _may_vote_for(server, sender, request) and _is_up_to_date(server, request)
    if granted and not request.pre_vote:
        server.voted_for = sender
        server.reset_election_deadline(now)
    _answer(server, sender, request, granted=granted)


def handle_response(server: Server, now: float, sender: str, response: RequestVoteResponse) -> None:
    granted_pre_vote = response.pre_vote and response.vote_granted
    if response.term > server.current_term and not granted_pre_vote:
        become_follower(server, now, response.term, None)
        return
    expected = server.current_term + 1 if granted_pre_vote else server.current_term
    asking = Role.PRE_CANDIDATE if response.pre_vote else Role.CANDIDATE
    if response.term != expected or server.role is not asking:
        return
    server.votes.setdefault(sender, response.vote_granted)
    _count(server, now)


def _ask(server: Server, term: int, *, pre_vote: bool, transfer: bool) -> None:
    for peer in server.peers:
        if not server.configuration.is_voter(peer):
            continue
        request = RequestVoteRequest(
            term,
            server.log.last_index,
            server.log.last_term,
            server.new_request_id(),
            pre_vote,
            transfer,
        )
        server.send_after_save(peer, request)


def _hears_a_leader(server: Server, now: float, sender: str, request: RequestVoteRequest) -> bool:
    """Thesis 4.2.3: "if a server receives a RequestVote request within the minimum election timeout
    of hearing from a current leader, it does not update its term or grant its vote", unless
    the leader itself has asked for the election, or is the one who asks."""
    if request.leadership_transfer or sender == server.leader:
        return False
    if server.role is Role.LEADER:
        return request.pre_vote or append_entries.has_quorum(server, now)
    return (
        server.leader is not None
        and now - server.last_leader_contact < server.settings.election_timeout[0]
    )


def _may_vote_for(server: Server, sender: str, request: RequestVoteRequest) -> bool:
    if request.pre_vote:
        return request.term > server.current_term
    return server.voted_for == sender or (server.voted_for is None and server.leader is None)


def _is_up_to_date(server: Server, request: RequestVoteRequest) -> bool:
    """Paper 5.4.1: the later last term wins; with equal terms, the longer log."""
    asked = (request.last_log_term, request.last_log_index)
    return asked >= (server.log.last_term, server.log.last_index)


def _answer(server: Server, sender: str, request: RequestVoteRequest, *, granted: bool) -> None:
    kind = "pre-vote" if request.pre_vote else "vote"
    verb = "grants" if granted else "refuses"
    server.detail("%s %s its %s for term %d", verb, sender, kind, request.term)
    term = request.term if granted else server.current_term
    response = RequestVoteResponse(term, granted, request.request_id, request.pre_vote)
    server.respond(sender, response)


def _count(server: Server, now: float) -> None:
    configuration = server.configuration
    if quorum.has_majority(configuration, lambda name: server.votes.get(name, False)):
        if server.role is Role.PRE_CANDIDATE:
            start_election(server, now)
        else:
            append_entries.start_leading(server, now)
        return
    refused = {name for name, granted in server.votes.items() if not granted}
    if not quorum.can_still_win(configuration, refused):
        server.detail(
            "cannot win term %d any more: refused by %s", server.current_term, _list(refused)
        )
        become_follower(server, now, server.current_term, None)


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names))
