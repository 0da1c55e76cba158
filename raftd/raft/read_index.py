"""Linearizable reads without a log entry: ReadIndex (thesis 6.4)."""

from __future__ import annotations

from raftd.raft import append_entries, quorum
from raftd.raft.server import PendingRead, Server
from raftd.raft.update import ReadReady


def ask(server: Server, ticket: int) -> None:
    """Thesis 6.4: save the commit index as read index; it counts only once this term's no-op is
    committed, so the read waits at least for that to be applied."""
    server.reads.append(PendingRead(ticket, max(server.commit_index, server.term_start_index)))


def send_round(server: Server, now: float) -> None:
    """Thesis 6.4: "issues a new round of heartbeats and waits for their acknowledgments from a
    majority". One round at a time serves all reads that had come before it."""
    if not server.reads or server.reads[0].required_id is not None:
        return
    required_id = server.next_request_id
    append_entries.send_heartbeats(server, now, to_all=True)
    for read in server.reads:
        read.required_id = required_id


def confirm(server: Server) -> None:
    """Release the reads whose round a majority has answered. An answer to an earlier request
    proves nothing: only ids from `required_id` on count."""
    released = 0
    for read in server.reads:
        required_id = read.required_id
        if required_id is None or not _acknowledged(server, required_id):
            break
        released += 1
        server.reads_ready.append(ReadReady(read.ticket, read.index))
    del server.reads[:released]


def _acknowledged(server: Server, required_id: int) -> bool:
    def agrees(name: str) -> bool:
        progress = server.progress.get(name)
        return name == server.name or (
            progress is not None and progress.acknowledged_id >= required_id
        )

    return quorum.has_majority(server.configuration, agrees)
