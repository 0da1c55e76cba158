"""What time brings: elections, heartbeats, check-quorum, the end of a transfer."""

from __future__ import annotations

from raftd.raft import append_entries, request_vote
from raftd.raft.roles import become_follower
from raftd.raft.server import Server
from raftd.raft.state import LEADER


def next_deadline(server: Server) -> float:
    if server.role is not LEADER:
        return server.election_deadline
    transfer = server.transfer
    if transfer is not None:
        return min(server.heartbeat_deadline, server.quorum_deadline, transfer.deadline)
    return min(server.heartbeat_deadline, server.quorum_deadline)


def timed_out(server: Server, now: float) -> None:
    if server.role is LEADER:
        _lead_on(server, now)
    elif now >= server.election_deadline:
        if server.may_campaign:
            request_vote.start_pre_election(server, now)
        else:
            server.reset_election_deadline(now)


def _lead_on(server: Server, now: float) -> None:
    if now >= server.heartbeat_deadline:
        server.heartbeat_deadline = now + server.settings.heartbeat_interval
        for progress in server.progress.values():
            progress.paused = False
        append_entries.send_heartbeats(server, now)
    transfer = server.transfer
    if transfer is not None and now >= transfer.deadline:
        server.transfer = None
        server.note(f"gives up handing leadership to {transfer.target} in time", "warning")
        if transfer.resign:
            become_follower(server, now, server.current_term, None)
            return
    if now >= server.quorum_deadline:
        server.quorum_deadline = now + server.settings.election_timeout[0] / 2
        if not append_entries.has_quorum(server, now):
            text = f"has lost its quorum in term {server.current_term}"
            server.note(text, "warning", event="quorum-lost")
            become_follower(server, now, server.current_term, None)
