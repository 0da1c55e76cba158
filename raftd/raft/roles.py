"""Stepping down: what a server does when it learns of a newer term or of the leader of its own."""

from __future__ import annotations

import math

from raftd.raft.server import Server
from raftd.raft.state import Role
from raftd.raft.update import ReadReady


def become_follower(server: Server, now: float, term: int, leader: str | None) -> None:
    """Figure 2, all servers: "if RPC request or response contains term T > current_term: set
    current_term = T, convert to follower". The vote of the present term is never forgotten."""
    assert term >= server.current_term, "terms never go back"
    if term > server.current_term:
        server.current_term = term
        server.voted_for = None
    if server.role is Role.LEADER:
        _stop_leading(server)
    if server.role is not Role.FOLLOWER:
        server.note(f"is follower in term {term}", "info")
    if leader is not None and leader != server.leader:
        text = f"follows {leader} in term {term}"
        server.note(text, "info", event="leader-changed", peer=leader)
    server.role = Role.FOLLOWER
    server.leader = leader
    server.votes = {}
    server.reset_election_deadline(now)


def _stop_leading(server: Server) -> None:
    """Nobody who waits on this leader is left waiting; a transfer never outlives a leadership."""
    server.reads_ready += [ReadReady(read.ticket, None) for read in server.reads]
    server.reads = []
    server.transfer = None
    server.progress = {}
    server.heartbeat_deadline = math.inf
    server.quorum_deadline = math.inf
    server.last_leader_contact = -math.inf
