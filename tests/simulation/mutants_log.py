"""Mutations of replication, commitment and snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from raftd.raft import append_entries, install_snapshot, quorum, raft
from raftd.raft.log import Entry, Log
from raftd.raft.messages import AppendEntriesRequest, Response
from raftd.raft.raft import Raft
from raftd.raft.server import Server
from raftd.raft.update import Outgoing, Update
from tests.simulation.mutations import Patches, mutation


@mutation("answers leave before what they speak of is on disk")
def reply_before_fsync(patches: Patches) -> None:
    def respond(self: Server, to: str, response: Response, *, match_index: int = 0) -> None:
        self.messages.append(Outgoing(to, response))

    patches.set(Server, "respond", respond)


@mutation("an answer waits for the term and vote, but not for the entries")
def reply_before_entries_are_saved(patches: Patches) -> None:
    def respond(self: Server, to: str, response: Response, *, match_index: int = 0) -> None:
        original(self, to, response)

    original = patches.set(Server, "respond", respond)


@mutation("an entry of an older term is committed by counting (5.4.2, Figure 8)")
def commit_old_term_by_counting(patches: Patches) -> None:
    def advance(server: Server) -> None:
        index = quorum.committed(
            server.configuration, lambda name: append_entries._match_index(server, name)
        )
        server.commit_index = max(server.commit_index, index)

    patches.set(append_entries, "advance_commit_index", advance)


@mutation("prev_log_term is ignored: any entry at prev_log_index will do")
def prev_log_term_ignored(patches: Patches) -> None:
    patches.set(
        append_entries,
        "_agrees",
        lambda server, request: request.prev_log_index <= server.log.last_index,
    )


@mutation("an AppendEntries that comes late truncates what came after it")
def truncates_without_conflict(patches: Patches) -> None:
    def take(server: Server, sender: str, request: AppendEntriesRequest) -> bool:
        for entry in request.entries:
            if entry.index <= server.commit_index:
                continue
            if entry.index <= server.log.last_index:
                server.truncate_from(entry.index)
            server.append(entry)
        return True

    patches.set(append_entries, "_take", take)


@mutation("committed entries may be replaced, too")
def truncates_committed_entries(patches: Patches) -> None:
    def take(server: Server, sender: str, request: AppendEntriesRequest) -> bool:
        for entry in request.entries:
            if server.log.tail_first_index <= entry.index <= server.log.last_index:
                server.log.truncate_from(entry.index)
                server.given_index = min(server.given_index, entry.index - 1)
                server.persisted_index = min(server.persisted_index, entry.index - 1)
            if entry.index == server.log.last_index + 1:
                server.append(entry)
        return True

    patches.set(append_entries, "_take", take)


@mutation("a leader counts its own entries before they are on its disk")
def leader_counts_unsynced_entries(patches: Patches) -> None:
    def match_index(server: Server, name: str) -> int:
        return server.log.last_index if name == server.name else original(server, name)

    original = patches.set(append_entries, "_match_index", match_index)


@mutation("an entry counts for a follower when it is sent, not when it is acknowledged")
def sent_counts_as_matched(patches: Patches) -> None:
    def match_index(server: Server, name: str) -> int:
        progress = server.progress.get(name)
        return progress.next_index - 1 if progress is not None else original(server, name)

    original = patches.set(append_entries, "_match_index", match_index)


@mutation("the commit index is the leader's, even where nothing of it has arrived")
def commit_index_without_min(patches: Patches) -> None:
    def handle(server: Server, now: float, sender: str, request: AppendEntriesRequest) -> None:
        original(server, now, sender, request)
        if request.term == server.current_term and sender == server.leader:
            index = min(request.leader_commit, server.log.last_index)
            server.commit_index = max(server.commit_index, index)

    original = patches.set(append_entries, "handle_request", handle)


@mutation("a heartbeat commits beyond what is known to match")
def heartbeat_commits_beyond_match(patches: Patches) -> None:
    def follow(server: Server, index: int) -> None:
        original(server, index)

    def handle(server: Server, now: float, sender: str, request: AppendEntriesRequest) -> None:
        if not request.entries and request.term >= server.current_term:
            index = min(request.leader_commit, server.log.last_index)
            original_handle(server, now, sender, request)
            follow(server, index)
        else:
            original_handle(server, now, sender, request)

    original = append_entries._follow_commit
    original_handle = patches.set(append_entries, "handle_request", handle)


@mutation("committed entries are applied before they are on this node's disk")
def applies_what_is_not_saved(patches: Patches) -> None:
    def take_update(self: Raft) -> Update:
        update: Update = original(self)
        return msgspec.structs.replace(update, commit_index=self.server.commit_index)

    original = patches.set(Raft, "take_update", take_update)


@mutation("a save counts, although what it saved was truncated meanwhile")
def persisted_ignores_truncation(patches: Patches) -> None:
    def persisted(self: Raft, now: float, update: Update) -> None:
        original(self, now, update)
        if update.entries and update.entries[-1].index <= self.server.log.last_index:
            last = update.entries[-1].index
            self.server.persisted_index = max(self.server.persisted_index, last)

    original = patches.set(Raft, "persisted", persisted)


@mutation("a configuration entry that is truncated stays in force (section 6)")
def configuration_not_rolled_back(patches: Patches) -> None:
    def truncate(self: Server, index: int) -> None:
        configurations = list(self.configurations)
        original(self, index)
        self.configurations = configurations

    original = patches.set(Server, "truncate_from", truncate)


@mutation("a snapshot is acknowledged before it is installed")
def snapshot_acknowledged_at_once(patches: Patches) -> None:
    def respond(server: Server, sender: str, request: Any, offset: int, *, installed: bool) -> None:
        persisted = server.persisted_index
        server.persisted_index = max(persisted, request.last_included_index)
        original(server, sender, request, offset, installed=installed)
        server.persisted_index = persisted

    original = patches.set(install_snapshot, "_respond", respond)


@mutation("a snapshot's configuration is not taken over")
def snapshot_without_its_configuration(patches: Patches) -> None:
    def install(server: Server, request: Any) -> None:
        members = server.configurations[0][1]
        original(server, request)
        if len(server.configurations) == 1:
            server.configurations = [(request.last_included_index, members)]

    original = patches.set(install_snapshot, "_install", install)


@mutation("the tail in memory is taken to reach further back than it does")
def log_slice_ignores_eviction(patches: Patches) -> None:
    def slice_from(self: Log, first: int, max_bytes: int) -> tuple[Entry, ...] | None:
        found: tuple[Entry, ...] | None = original(self, first, max_bytes)
        if found is None and self.tail_first_index <= self.last_index:
            found = original(self, self.tail_first_index, max_bytes)
        return found

    original = patches.set(Log, "slice", slice_from)


@mutation("the leader never goes back where a follower does not agree")
def next_index_never_goes_back(patches: Patches) -> None:
    def rejected(server: Server, peer: str, progress: Any, response: Any, sent: int) -> None:
        progress.probe(sent + 1)
        progress.paused = True

    patches.set(append_entries, "_rejected", rejected)


@mutation("a lost request keeps its place in the window for ever")
def window_never_reopens(patches: Patches) -> None:
    patches.set(append_entries, "unanswered", lambda server, peer, request_id: None)


@mutation("a proposal is answered with the index of the entry before it")
def proposal_index_off_by_one(patches: Patches) -> None:
    def propose(self: Raft, now: float, payloads: Sequence[bytes]) -> tuple[int, int]:
        index, term = original(self, now, payloads)
        return index - 1, term

    original = patches.set(raft.Raft, "propose", propose)
