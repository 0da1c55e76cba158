"""Rules for Servers: the only way into the algorithm, and the only way out.

Every call takes `now` in monotonic seconds and returns at once. Many calls may go by before one
`take_update()`: that is group commit, one save and one AppendEntries per follower for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, assert_never

from raftd.raft import (
    append_entries,
    install_snapshot,
    membership,
    read_index,
    request_vote,
    timeout_now,
    timeouts,
)
from raftd.raft.changes import Change
from raftd.raft.log import Entry, EntryType
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
from raftd.raft.progress import SNAPSHOT
from raftd.raft.roles import become_follower
from raftd.raft.server import Encode, Server, Transfer
from raftd.raft.state import LEADER, Recovered, Role, Settings, SnapshotMetadata
from raftd.raft.update import Update

if TYPE_CHECKING:
    from random import Random

T = TypeVar("T")


class NotLeader(Exception):
    """Only a leader can do that; `leader` is who leads, as far as this server knows."""

    def __init__(self, leader: str | None) -> None:
        super().__init__(f"not the leader; the leader is {leader or 'unknown'}")
        self.leader = leader


class Busy(Exception):
    """Too much is under way already; nothing was done."""


class TransferRefused(Exception):
    """Leadership cannot go there; the message says why."""


class Raft:
    """One server of the cluster. Outside, look at `server` but never change it."""

    def __init__(
        self,
        name: str,
        recovered: Recovered,
        settings: Settings,
        random: Random,
        encode: Encode,
        *,
        now: float,
        commit_index: int = 0,
        membership_index: int = 0,
        told_removed: bool = False,
    ) -> None:
        """`commit_index`: known to be committed, because the state machine has applied it.
        `membership_index`: see Configuration.since; `told_removed`: see `removed`."""
        self.server = Server(
            name, recovered, settings, random, encode, commit_index, membership_index
        )
        self.server.told_removed = told_removed
        self.server.reset_election_deadline(now)
        self._now = now
        self._next_ticket = 1

    # ---- calls in

    def receive(self, now: float, sender: str, message: Message) -> None:
        """A message from a peer. Every request is answered exactly once, in this or a later
        update; `chunk_written` answers an InstallSnapshotRequest."""
        self._now = now
        server = self.server
        match message:
            case AppendEntriesRequest():
                append_entries.handle_request(server, now, sender, message)
            case AppendEntriesResponse():
                append_entries.handle_response(server, now, sender, message)
            case RequestVoteRequest():
                request_vote.handle_request(server, now, sender, message)
            case RequestVoteResponse():
                request_vote.handle_response(server, now, sender, message)
            case InstallSnapshotRequest():
                install_snapshot.handle_request(server, now, sender, message)
            case InstallSnapshotResponse():
                install_snapshot.handle_response(server, now, sender, message)
            case TimeoutNowRequest():
                timeout_now.handle_request(server, now, sender, message)
            case TimeoutNowResponse():
                timeout_now.handle_response(server, now, message)
            case _:
                assert_never(message)

    def unanswered(self, now: float, peer: str, request_id: int) -> None:
        """A request to `peer` got no answer: it, or its answer, was lost. Whoever sends must end
        every request with a response or with this."""
        self._now = now
        append_entries.unanswered(self.server, peer, request_id)

    def timed_out(self, now: float) -> None:
        """The deadline of the last update has passed; harmless if it has not."""
        self._now = now
        timeouts.timed_out(self.server, now)

    def propose(
        self, now: float, payloads: Sequence[bytes], kind: EntryType = EntryType.COMMAND
    ) -> tuple[int, int]:
        """Append commands to the log: the index of the first and the term of all. They are
        committed when an update's commit_index reaches them in that same term.

        Raises NotLeader, Busy.
        """
        self._now = now
        server = self._leading("hands leadership over")
        uncommitted_bytes = server.uncommitted_bytes
        if uncommitted_bytes > server.settings.max_uncommitted_bytes:
            raise Busy(f"{uncommitted_bytes} bytes wait to be committed")
        return append_entries.append(server, kind, payloads), server.current_term

    def change_membership(self, now: float, change: Change) -> tuple[int, int]:
        """Begin to change the members (paper section 6): index and term of the first entry of it.
        What follows is done by itself, by whoever leads.

        Raises NotLeader, Busy, ChangeRefused.
        """
        self._now = now
        server = self._leading("hands leadership over")
        if (reason := membership.under_way(server)) is not None:
            raise Busy(f"{reason}: one change at a time")
        return membership.begin(server, now, change), server.current_term

    def removed(self, now: float) -> None:
        """A member says, and it is committed there, that this server is no member any more. It
        does not campaign from now on, and goes on answering."""
        self._now = now
        server = self.server
        if not server.told_removed:
            server.told_removed = True
            server.note("is no member of the cluster any more", "warning", event="member-changed")
        if server.role is not LEADER or membership.must_go(server):
            become_follower(server, now, server.current_term, None)

    def rank(self, ranks: Mapping[str, int]) -> None:
        """Who is preferred when this leader hands over: the highest rank, never rank 0."""
        self.server.ranks = dict(ranks)

    def set_details(self, wanted: bool) -> None:
        """Whether updates have notes of level debug; they do as long as nobody says otherwise."""
        self.server.has_details = wanted

    def read_index(self, now: float) -> int:
        """Ask for a linearizable read; its ticket comes back in an update's `reads`.

        Raises NotLeader, Busy.
        """
        self._now = now
        server = self._leading(None)
        ticket = self._next_ticket
        self._next_ticket += 1
        read_index.ask(server, ticket)
        return ticket

    def transfer_leadership(
        self, now: float, target: str | None = None, *, resign: bool = False
    ) -> str:
        """Hand leadership to `target`, or to the follower with the longest log; returns its name.

        With `resign` this server steps down at the deadline even if nobody took over.
        Raises NotLeader, Busy, TransferRefused.
        """
        self._now = now
        server = self._leading("already hands leadership over")
        if target is None:
            target = self._best_successor(now)
        if target == server.name:
            raise TransferRefused(f"{target} already leads")
        if target not in server.configuration.voters:
            raise TransferRefused(f"{target} is no voter")
        server.transfer = Transfer(target, now + server.settings.election_timeout[0], resign=resign)
        server.note(f"hands leadership of term {server.current_term} to {target}", "info")
        return target

    def set_may_lead(self, now: float, may_lead: bool) -> None:
        """False while this server's disk takes no writes: it does not campaign, and gives up
        leadership, to the best follower if there is one in time."""
        self._now = now
        server = self.server
        server.may_lead = may_lead
        if not may_lead and server.role is not Role.FOLLOWER:
            self._resign(now)

    def snapshot_taken(self, now: float, metadata: SnapshotMetadata, compact_index: int) -> None:
        """A snapshot is durable; the log up to `compact_index` may go (paper section 7)."""
        self._now = now
        server = self.server
        if metadata.last_included_index <= server.snapshot.last_included_index:
            return  # overtaken by one from the leader
        assert compact_index <= metadata.last_included_index <= server.commit_index
        server.snapshot = metadata
        server.log.compact(compact_index)
        later = [pair for pair in server.configurations if pair[0] > metadata.last_included_index]
        server.configurations = [
            (metadata.last_included_index, metadata.configuration),
            *later,
        ]

    def persisted(self, now: float, update: Update) -> None:
        """Everything an update wanted durable is; updates are saved in their order."""
        self._now = now
        server = self.server
        if update.snapshot_to_install is not None:
            installed = update.snapshot_to_install.last_included_index
            server.persisted_index = max(server.persisted_index, installed)
        if update.entries and update.truncations == server.truncations:
            server.persisted_index = max(server.persisted_index, update.entries[-1].index)
        if update.hard_state is not None:
            server.persisted_hard_state = update.hard_state
            own_vote = update.hard_state == server.hard_state
            if own_vote and server.role is Role.CANDIDATE and server.voted_for == server.name:
                request_vote.own_vote_saved(server, now)

    def entries_read(self, now: float, peer: str, entries: Sequence[Entry]) -> None:
        """The answer to an update's `entries_wanted`; empty if they could not be read."""
        self._now = now
        append_entries.entries_read(self.server, now, peer, tuple(entries))

    def chunk_written(
        self, now: float, sender: str, request: InstallSnapshotRequest, next_offset: int
    ) -> None:
        """The answer to an update's `snapshot_chunks`: the first `next_offset` bytes are here."""
        self._now = now
        install_snapshot.chunk_written(self.server, now, sender, request, next_offset)

    # ---- the one way out

    def take_update(self) -> Update:
        """What has changed since the last one."""
        server = self.server
        if server.role is LEADER:
            self._lead()
        log, hard_state = server.log, server.hard_state
        entries = log.slice(server.given_index + 1, 2**62)
        assert entries is not None, "what is not saved is in memory"
        commit_index = min(server.commit_index, server.persisted_index)
        update = Update(
            _taken(server.messages) if server.messages else (),
            hard_state if hard_state != server.given_hard_state else None,
            server.snapshot_to_install,
            entries,
            _taken(server.messages_after_save) if server.messages_after_save else (),
            commit_index,
            _taken(server.reads_ready) if server.reads_ready else (),
            _taken(server.entries_wanted) if server.entries_wanted else (),
            _taken(server.snapshot_chunks) if server.snapshot_chunks else (),
            timeouts.next_deadline(server),
            _taken(server.notes) if server.notes else (),
            server.truncations,
        )
        server.given_hard_state = hard_state
        server.given_index = log.last_index
        server.snapshot_to_install = None
        log.evict(commit_index, server.settings.tail_bytes)
        return update

    def has_quorum(self, now: float) -> bool:
        """Leading, and a majority has answered within the last election timeout."""
        return append_entries.has_quorum(self.server, now)

    # ---- inside

    def _lead(self) -> None:
        """Rules for leaders (Figure 2), once for all that has come in."""
        server, now = self.server, self._now
        if server.commit_index < server.log.last_index:
            append_entries.advance_commit_index(server)
        membership.go_on(server, now)
        if membership.must_go(server):
            self._resign(now)
        timeout_now.continue_transfer(server)
        last_index = server.log.last_index
        for peer, progress in server.progress.items():
            if progress.next_index <= last_index and progress.mode is not SNAPSHOT:
                append_entries.send_entries(server, now, peer, progress)
            if progress.mode is SNAPSHOT:
                install_snapshot.send_chunk(server, now, peer, progress)
        if server.reads:
            read_index.confirm(server)
            read_index.send_round(server, now)
            read_index.confirm(server)  # a leader that is a majority alone needs no answer

    def _leading(self, transfer_note: str | None) -> Server:
        server = self.server
        if server.role is not LEADER:
            raise NotLeader(server.leader)
        if transfer_note is not None and server.transfer is not None:
            raise Busy(f"{server.name} {transfer_note} to {server.transfer.target}")
        return server

    def _resign(self, now: float) -> None:
        """Hand over, and go at the deadline of that whatever comes of it; at once if nobody can."""
        server = self.server
        if server.role is LEADER and server.transfer is not None:
            server.transfer.resign = True
            return
        try:
            self.transfer_leadership(now, resign=True)
        except (NotLeader, TransferRefused) as error:
            server.detail("gives up without handing over: %s", error)
            become_follower(server, now, server.current_term, None)

    def _best_successor(self, now: float) -> str:
        server = self.server
        oldest = now - server.settings.election_timeout[0]
        candidates = [
            (server.ranks.get(peer, 1), progress.match_index, peer)
            for peer, progress in server.progress.items()
            if peer in server.configuration.voters
            and progress.answers
            and progress.last_contact >= oldest
            and server.ranks.get(peer, 1) > 0
        ]
        if not candidates:
            raise TransferRefused("no other voter answers")
        return max(candidates)[2]


def _taken(growing: list[T]) -> tuple[T, ...]:
    """All that has gathered in there, which is empty then."""
    taken = tuple(growing)
    growing.clear()
    return taken
