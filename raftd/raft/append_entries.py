"""AppendEntries, both ends: leading, following, committing (paper 5.3, 5.4.2; thesis 6.2, 10.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

from raftd.raft import quorum
from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry, EntryType
from raftd.raft.messages import AppendEntriesRequest, AppendEntriesResponse
from raftd.raft.progress import SNAPSHOT, Progress
from raftd.raft.roles import become_follower
from raftd.raft.server import Server
from raftd.raft.state import LEADER
from raftd.raft.update import EntriesWanted

# ---- the leader's end


def start_leading(server: Server, now: float) -> None:
    """Paper 5.2, and section 8: each leader commits "a blank no-op entry into the log at the start
    of its term"; before that it does not know which entries are committed."""
    server.role = LEADER
    server.leader = server.name
    server.votes = {}
    term = server.current_term
    server.note(f"leads term {term}", "info", event="leader-changed", peer=server.name)
    server.progress = {peer: Progress(server.log.last_index + 1, now) for peer in server.peers}
    server.term_start_index = server.log.last_index + 1
    server.heartbeat_deadline = now + server.settings.heartbeat_interval
    server.quorum_deadline = now + server.settings.election_timeout[0]
    server.election_deadline = math.inf
    append(server, EntryType.NO_OP, (b"",))


def append(
    server: Server,
    entry_type: EntryType,
    payloads: Iterable[bytes],
    configuration: Configuration | None = None,
) -> int:
    """Paper 5.3: the leader "appends the command to its log as a new entry"; the index of the first
    one. `configuration`: what the payload of a CONFIGURATION entry says."""
    first, term, encode = server.log.last_index + 1, server.current_term, server.encode
    server.append(
        *[
            Entry(index, term, entry_type, encode(index, term, entry_type, payload), configuration)
            for index, payload in enumerate(payloads, first)
        ]
    )
    return first


def send_entries(server: Server, now: float, peer: str, progress: Progress) -> None:
    """As many AppendEntries as the window takes. Entries that are not in memory are asked for;
    where the log itself no longer has them, the follower is put into snapshot mode."""
    while progress.next_index <= server.log.last_index and progress.has_room(
        server.settings.max_in_flight
    ):
        prev_log_index = progress.next_index - 1
        prev_log_term = server.log.term(prev_log_index)
        if prev_log_term is None:
            progress.start_snapshot()
            return
        max_bytes = server.settings.max_append_bytes >> progress.halvings
        entries = server.log.slice(progress.next_index, max_bytes)
        if entries is None:
            progress.reading = True
            server.entries_wanted.append(EntriesWanted(peer, progress.next_index, max_bytes))
            return
        _send(server, now, peer, progress, prev_log_index, prev_log_term, entries)


def entries_read(server: Server, now: float, peer: str, entries: tuple[Entry, ...]) -> None:
    """What `entries_wanted` asked for is here, or empty if it could not be read: then wait."""
    progress = server.progress.get(peer)
    if progress is None or not progress.reading:
        return
    progress.reading = False
    if not entries:
        progress.paused = True
        return
    prev_log_term = server.log.term(progress.next_index - 1)
    # By Log Matching, the last one's term vouches for all: none was truncated meanwhile.
    valid = server.log.term(entries[-1].index) == entries[-1].term
    if valid and entries[0].index == progress.next_index and prev_log_term is not None:
        _send(server, now, peer, progress, progress.next_index - 1, prev_log_term, entries)


def send_heartbeats(server: Server, now: float, *, to_all: bool = False) -> None:
    """Paper 5.2: "periodic heartbeats (AppendEntries RPCs that carry no log entries)". They speak
    only of what the follower is known to have, so they never conflict and never wait."""
    interval = server.settings.heartbeat_interval
    for peer, progress in server.progress.items():
        if not to_all and now - progress.last_sent < interval / 2:
            continue
        prev_log_index = progress.match_index
        prev_log_term = server.log.term(prev_log_index)
        if prev_log_term is None:
            prev_log_index = prev_log_term = 0
        _send(server, now, peer, progress, prev_log_index, prev_log_term, ())


def _send(
    server: Server,
    now: float,
    peer: str,
    progress: Progress,
    prev_log_index: int,
    prev_log_term: int,
    entries: tuple[Entry, ...],
) -> None:
    request = AppendEntriesRequest(
        server.current_term,
        prev_log_index,
        prev_log_term,
        server.commit_index,
        server.new_request_id(),
        entries,
    )
    if entries:
        progress.in_flight[request.request_id] = prev_log_index
        if prev_log_index == progress.match_index:
            progress.sure_id = request.request_id
        progress.next_index = entries[-1].index + 1
        server.detail(
            "sends %s entries %d to %d behind %d of term %d",
            peer,
            entries[0].index,
            entries[-1].index,
            prev_log_index,
            prev_log_term,
        )
    progress.last_sent = now
    server.send(peer, request)


def handle_response(
    server: Server, now: float, sender: str, response: AppendEntriesResponse
) -> None:
    if response.term > server.current_term:
        server.detail("learns of term %d from %s", response.term, sender)
        become_follower(server, now, response.term, None)
        return
    progress = server.progress.get(sender)
    if response.term < server.current_term or progress is None:
        return
    progress.last_contact = now
    progress.answers = True
    progress.paused = False
    progress.acknowledged_id = max(progress.acknowledged_id, response.request_id)
    sent = progress.in_flight.pop(response.request_id, None)
    if response.success:
        _matched(server, sender, progress, response.match_index, carried=sent is not None)
    elif sent is not None:
        _rejected(server, sender, progress, response, sent)


def _matched(
    server: Server, peer: str, progress: Progress, match_index: int, *, carried: bool
) -> None:
    if match_index > server.log.last_index:
        server.note(
            f"does not believe {peer}: it has no entry {match_index} to agree on", "warning"
        )
        return
    progress.matched(match_index)
    if carried:
        progress.accepted()


def _rejected(
    server: Server, peer: str, progress: Progress, response: AppendEntriesResponse, sent: int
) -> None:
    """Paper 5.3: "the leader decrements next_index and retries", but a whole term at a time."""
    if sent <= progress.match_index:
        # Overtaken on its way; or what matched before it left has gone.
        if response.request_id == progress.sure_id and progress.match_index > 0:
            if not progress.has_lost:
                server.note(f"sees that {peer} lost entries it had acknowledged: {sent}", "error")
            progress.has_lost = progress.paused = True
        progress.probe(progress.match_index + 1)
        return
    agree = min(response.conflict_index, sent - 1)
    if agree >= server.log.base_index:
        agree = server.log.last_index_with_term_at_most(response.conflict_term, agree)
    server.detail("goes back with %s from %d to %d", peer, sent, agree)
    progress.probe(agree + 1)


def unanswered(server: Server, peer: str, request_id: int) -> None:
    """A request was lost, or its answer was. Send again, from the oldest that is on its way."""
    progress = server.progress.get(peer)
    if progress is None:
        return
    progress.answers = False
    if request_id not in progress.in_flight:
        return
    if progress.mode is SNAPSHOT:
        progress.in_flight.clear()
    else:
        progress.lost()
        progress.probe(min(progress.in_flight.values()) + 1)
    progress.paused = True
    server.detail("got no answer from %s; pauses until the next heartbeat", peer)


def advance_commit_index(server: Server) -> None:
    """Figure 2, leaders: "if there exists an N such that N > commit_index, a majority of
    match_index[i] >= N, and log[N].term == current_term: set commit_index = N" (5.4.2)."""
    index = quorum.committed(server.configuration, partial(_match_index, server))
    if index <= server.commit_index or server.log.term(index) != server.current_term:
        return
    server.commit_index = index
    server.detail("commits up to %d in term %d", index, server.current_term)


def _match_index(server: Server, name: str) -> int:
    """A leader counts itself only for what is on its disk (thesis 10.2.1)."""
    if name == server.name:
        return server.persisted_index
    progress = server.progress.get(name)
    return progress.match_index if progress is not None else 0


def has_quorum(server: Server, now: float) -> bool:
    """Thesis 6.2: has a majority of the voters answered within the last election timeout?"""
    oldest = now - server.settings.election_timeout[0]

    def recent(name: str) -> bool:
        progress = server.progress.get(name)
        return name == server.name or (progress is not None and progress.last_contact >= oldest)

    return server.role is LEADER and quorum.has_majority(server.configuration, recent)


# ---- the follower's end


def handle_request(server: Server, now: float, sender: str, request: AppendEntriesRequest) -> None:
    if request.term < server.current_term:
        _refuse(server, sender, request)
        return
    if request.term == server.current_term and server.role is LEADER:
        server.note(f"refuses {sender}, who claims to lead its own term {request.term}", "warning")
        _refuse(server, sender, request)
        return
    if request.term > server.current_term or sender != server.leader:
        become_follower(server, now, request.term, sender)
    server.last_leader_contact = now
    server.reset_election_deadline(now)
    if _contradicts(server, sender, request.prev_log_index, request.prev_log_term):
        _refuse(server, sender, request)
        return
    if not _agrees(server, request):
        _conflict(server, sender, request)
        return
    if not _take(server, sender, request):
        _refuse(server, sender, request)
        return
    match_index = request.prev_log_index + len(request.entries)
    _follow_commit(server, min(request.leader_commit, match_index))
    if not request.entries:
        match_index = min(match_index, server.persisted_index)
    server.respond(
        sender,
        AppendEntriesResponse(server.current_term, True, request.request_id, match_index),
        match_index=match_index,
    )


def _agrees(server: Server, request: AppendEntriesRequest) -> bool:
    """Paper 5.3, consistency check. What is committed agrees with every later leader (5.4.3)."""
    if request.prev_log_index <= server.commit_index:
        return True
    return server.log.term(request.prev_log_index) == request.prev_log_term


def _take(server: Server, sender: str, request: AppendEntriesRequest) -> bool:
    """Figure 2: "if an existing entry conflicts with a new one, delete the existing entry and all
    that follow it; append any new entries not already in the log". False: it cannot be right."""
    for position, entry in enumerate(request.entries):
        if entry.index <= server.log.last_index:
            known = server.log.term(entry.index)
            if known == entry.term:
                continue
            if _contradicts(server, sender, entry.index, entry.term):
                return False
            if entry.index <= server.commit_index:
                continue  # compacted
            server.detail(
                "drops entries %d to %d for %s", entry.index, server.log.last_index, sender
            )
            server.truncate_from(entry.index)
        server.append(*request.entries[position:])
        break
    return True


def _contradicts(server: Server, sender: str, index: int, term: int) -> bool:
    """Is another entry committed here at `index`? Then one of the two has forgotten what it had
    acknowledged; nothing in Raft can tell which."""
    known = server.log.term(index) if 0 < index <= server.commit_index else None
    if known in {None, term}:
        return False
    if server.contradiction is None:
        server.contradiction = (
            f"the log of {sender}, the leader, contradicts this one: entry {index} is of term"
            f" {term} there, and committed with term {known} here"
        )
        server.note(f"refuses {sender}: {server.contradiction}", "error")
    return True


def _follow_commit(server: Server, index: int) -> None:
    """Figure 2: "set commit_index = min(leader_commit, index of last new entry)"."""
    if index > server.commit_index:
        server.commit_index = index
        server.detail("knows %d as committed in term %d", index, server.current_term)


def _conflict(server: Server, sender: str, request: AppendEntriesRequest) -> None:
    """Paper 5.3, end: tell the leader where the logs may still agree."""
    below = request.prev_log_index - 1
    index = server.log.last_index_with_term_at_most(request.prev_log_term, below)
    server.detail(
        "has no entry %d of term %d; %s may try %d",
        request.prev_log_index,
        request.prev_log_term,
        sender,
        index,
    )
    response = AppendEntriesResponse(
        server.current_term,
        False,
        request.request_id,
        conflict_index=index,
        conflict_term=server.log.term(index) or 0,
    )
    server.respond(sender, response)


def _refuse(server: Server, sender: str, request: AppendEntriesRequest) -> None:
    server.detail("refuses entries from %s in term %d", sender, request.term)
    response = AppendEntriesResponse(server.current_term, False, request.request_id)
    server.respond(sender, response)
