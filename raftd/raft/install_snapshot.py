"""InstallSnapshot, both ends (paper section 7, Figure 13). The bytes are the driver's business."""

from __future__ import annotations

from raftd.raft.messages import InstallSnapshotRequest, InstallSnapshotResponse
from raftd.raft.progress import SNAPSHOT, Progress
from raftd.raft.roles import become_follower
from raftd.raft.server import Server
from raftd.raft.state import LEADER, Role, SnapshotMetadata
from raftd.raft.update import SnapshotChunk

# ---- the leader's end


def send_chunk(server: Server, now: float, peer: str, progress: Progress) -> None:
    """The next chunk of the newest snapshot, one at a time; from the start if there is a newer."""
    if not progress.has_room(1):
        return
    snapshot = server.snapshot
    if progress.snapshot_index != snapshot.last_included_index:
        progress.snapshot_index = snapshot.last_included_index
        progress.snapshot_offset = 0
        server.note(f"sends {peer} the snapshot up to {progress.snapshot_index}", "info")
    offset = progress.snapshot_offset
    request = InstallSnapshotRequest(
        server.current_term,
        snapshot.last_included_index,
        snapshot.last_included_term,
        snapshot.configuration,
        offset,
        server.new_request_id(),
        snapshot.size,
        snapshot.checksum,
        done=offset + server.settings.snapshot_chunk_bytes >= snapshot.size,
    )
    progress.in_flight[request.request_id] = progress.snapshot_index
    progress.last_sent = now
    server.send(peer, request)


def handle_response(
    server: Server, now: float, sender: str, response: InstallSnapshotResponse
) -> None:
    if response.term > server.current_term:
        become_follower(server, now, response.term, None)
        return
    progress = server.progress.get(sender)
    if response.term < server.current_term or progress is None:
        return
    progress.last_contact = now
    progress.answers = True
    progress.acknowledged_id = max(progress.acknowledged_id, response.request_id)
    if progress.in_flight.pop(response.request_id, None) is None:
        return
    if progress.mode is not SNAPSHOT:
        return
    if response.installed:
        progress.matched(min(response.last_included_index, server.log.last_index))
        progress.probe(progress.match_index + 1)
        server.note(f"sees {sender} at {progress.match_index} after the snapshot", "info")
    elif response.last_included_index == progress.snapshot_index:
        progress.snapshot_offset = min(response.next_offset, server.snapshot.size)


# ---- the follower's end


def handle_request(
    server: Server, now: float, sender: str, request: InstallSnapshotRequest
) -> None:
    if request.term < server.current_term or (
        request.term == server.current_term and server.role is LEADER
    ):
        _respond(server, sender, request, 0, installed=False)
        return
    if request.term > server.current_term or sender != server.leader:
        become_follower(server, now, request.term, sender)
    server.last_leader_contact = now
    server.reset_election_deadline(now)
    if request.last_included_index <= server.commit_index:
        _respond(server, sender, request, request.size, installed=True)
        return
    server.snapshot_chunks.append(SnapshotChunk(sender, request))


def chunk_written(
    server: Server, now: float, sender: str, request: InstallSnapshotRequest, next_offset: int
) -> None:
    """The driver holds the first `next_offset` bytes now; all of them, with the checksum verified,
    if the request is `done` and next_offset is its size."""
    complete = request.done and next_offset == request.size
    current = request.term == server.current_term and server.role is Role.FOLLOWER
    if not complete or not current:
        _respond(server, sender, request, next_offset, installed=False)
        return
    if request.last_included_index > server.commit_index:
        _install(server, request)
    _respond(server, sender, request, next_offset, installed=True)


def _install(server: Server, request: InstallSnapshotRequest) -> None:
    """Figure 13, 6: "if existing log entry has same index and term as snapshot's last included
    entry, retain log entries following it"; 7: else discard the entire log."""
    index, term = request.last_included_index, request.last_included_term
    metadata = SnapshotMetadata(index, term, request.configuration, request.size, request.checksum)
    if server.log.term(index) == term:
        server.log.compact(index)
        later = [pair for pair in server.configurations if pair[0] > index]
    else:
        server.log.restart_at(index, term)
        server.persisted_index = min(server.persisted_index, server.commit_index)
        server.given_index = index
        server.truncations += 1
        later = []
    server.configurations = [(index, metadata.configuration), *later]
    server.given_index = max(server.given_index, index)
    server.snapshot = metadata
    server.snapshot_to_install = metadata
    server.commit_index = index
    server.note(f"installs the snapshot up to {index} of term {term}", "info")


def _respond(
    server: Server,
    sender: str,
    request: InstallSnapshotRequest,
    next_offset: int,
    *,
    installed: bool,
) -> None:
    response = InstallSnapshotResponse(
        server.current_term,
        request.last_included_index,
        next_offset,
        request.request_id,
        installed,
    )
    match_index = request.last_included_index if installed else 0
    server.respond(sender, response, match_index=match_index)
