"""Leadership transfer, both ends (thesis 3.10)."""

from __future__ import annotations

from raftd.raft import request_vote
from raftd.raft.messages import TimeoutNowRequest, TimeoutNowResponse
from raftd.raft.roles import become_follower
from raftd.raft.server import Server
from raftd.raft.state import Role


def continue_transfer(server: Server) -> None:
    """Thesis 3.10: once the target's log is as long as the leader's, tell it to stand."""
    transfer = server.transfer
    if transfer is None or transfer.sent:
        return
    progress = server.progress.get(transfer.target)
    if progress is not None and progress.match_index == server.log.last_index:
        transfer.sent = True
        request = TimeoutNowRequest(server.current_term, server.new_request_id())
        server.send(transfer.target, request)


def handle_request(server: Server, now: float, sender: str, request: TimeoutNowRequest) -> None:
    """Thesis 3.10: the target starts a new election without waiting for its election timeout."""
    if request.term > server.current_term:
        become_follower(server, now, request.term, None)
    stands = (
        request.term == server.current_term
        and server.role is Role.FOLLOWER
        and server.leader in {None, sender}
        and server.may_campaign
    )
    server.respond(sender, TimeoutNowResponse(server.current_term, request.request_id))
    if stands:
        server.note(f"was asked by {sender} to lead", "info")
        request_vote.start_election(server, now, transfer=True)
    else:
        server.detail("does not stand for election as %s asked in term %d", sender, request.term)


def handle_response(server: Server, now: float, response: TimeoutNowResponse) -> None:
    if response.term > server.current_term:
        become_follower(server, now, response.term, None)
