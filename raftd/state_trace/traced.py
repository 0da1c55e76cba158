"""A `Raft` that tells what happens in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
)
from raftd.raft.raft import Raft
from raftd.raft.state import Role
from raftd.raft.update import Outgoing, Update
from raftd.state_trace.events import (
    CANDIDATE,
    FOLLOWER,
    LEADER,
    NOBODY,
    ROLES,
    Event,
    Sink,
    State,
    TracedMessage,
    append,
    appended,
    index_of,
    installed,
    match_of,
    snapshot,
    vote_asked,
    voted,
)

_TOLD = (
    AppendEntriesRequest,
    AppendEntriesResponse,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    RequestVoteRequest,
    RequestVoteResponse,
)


class TracedRaft(Raft):
    """A `Raft` that tells `sink` what happens. The attributes in front of `_told` are the state of
    this server as the trace has told it so far."""

    def __init__(self, sink: Sink, *args: Any, **others: Any) -> None:
        """What a `Raft` is made of stands behind `sink`."""
        super().__init__(*args, **others)
        self._sink = sink
        server = self.server
        durable = sink.durable(server.name) or State()
        self._term, self._vote = server.current_term, server.voted_for or NOBODY
        if self._term > durable.term and server.voted_for is None:
            self._term, self._vote = durable.term, durable.vote
        self._floor = durable.commit
        self._commit = max(self._floor, index_of(server.commit_index))
        self._role = FOLLOWER
        self._log = index_of(server.log.last_index)
        self._told = [0, 0]
        """How many of the update's messages, and of its messages after the save."""
        self._with_entries: dict[tuple[str, int], bool] = {}
        """(peer, request id) of each AppendEntries on its way: does it carry entries?"""
        self._answers_heartbeat = False
        self._tell("InitState")

    # ---- calls in

    def receive(self, now: float, sender: str, message: Message) -> None:
        server = self.server
        before = _Before(self, sender)
        self._answers_heartbeat = isinstance(message, AppendEntriesRequest) and not message.entries
        super().receive(now, sender, message)
        match message:
            case AppendEntriesRequest():
                if message.term >= before.term or self._term == before.term:
                    self._received(append(sender, server.name, message), "Request")
            case RequestVoteRequest():
                self._vote_requested(before, sender, message)
            case AppendEntriesResponse():
                with_entries = self._with_entries.pop((sender, message.request_id), None)
                leads = before.role is Role.LEADER and message.term == before.term
                if with_entries is not None and (leads or message.term > before.term):
                    answer = appended(sender, server.name, message, heartbeat=not with_entries)
                    self._received(answer, "Response")
            case RequestVoteResponse():
                counts = before.role is Role.CANDIDATE and message.term == before.term
                if not message.pre_vote and (
                    (counts and message.vote_granted and not before.had_voted)
                    or message.term > before.term
                ):
                    self._received(voted(sender, server.name, message), "Response")
            case InstallSnapshotResponse():
                known = self._with_entries.pop((sender, message.request_id), None) is not None
                if known and message.installed and message.term == before.term:
                    self._received(installed(sender, server.name, message), "Response")
        self._tell_changes()

    def unanswered(self, now: float, peer: str, request_id: int) -> None:
        self._with_entries.pop((peer, request_id), None)
        super().unanswered(now, peer, request_id)

    def timed_out(self, now: float) -> None:
        super().timed_out(now)
        self._tell_changes()

    def propose(
        self, now: float, payloads: Sequence[bytes], kind: EntryType = EntryType.COMMAND
    ) -> tuple[int, int]:
        appended = super().propose(now, payloads, kind)
        self._tell_changes()
        return appended

    def change_membership(self, now: float, change: Change) -> tuple[int, int]:
        appended = super().change_membership(now, change)
        self._tell_changes()
        return appended

    def removed(self, now: float) -> None:
        super().removed(now)
        self._tell_changes()

    def set_may_lead(self, now: float, may_lead: bool) -> None:
        super().set_may_lead(now, may_lead)
        self._tell_changes()

    def persisted(self, now: float, update: Update) -> None:
        server = self.server
        had_voted = server.name in server.votes
        super().persisted(now, update)
        if not (update.needs_save or update.messages_after_save):
            return
        self._tell("Ready")
        name, term = server.name, server.current_term
        if self._role == CANDIDATE and not had_voted and update.hard_state is not None:
            if server.role is Role.LEADER or name in server.votes:
                own = TracedMessage("MsgVoteResp", term, from_=name, to=name)
                self._tell("ReceiveRequestVoteResponse", own)
        elif self._role == LEADER and update.entries and update.entries[-1].term == term:
            index = index_of(update.entries[-1].index)
            own = TracedMessage("MsgAppResp", term, from_=name, to=name, index=index)
            self._tell("ReceiveAppendEntriesResponse", own)
        self._tell_changes()

    def entries_read(self, now: float, peer: str, entries: Sequence[Entry]) -> None:
        super().entries_read(now, peer, entries)
        self._tell_changes()

    def chunk_written(
        self, now: float, sender: str, request: InstallSnapshotRequest, next_offset: int
    ) -> None:
        before = self.server.snapshot
        super().chunk_written(now, sender, request, next_offset)
        if self.server.snapshot != before:
            self._received(snapshot(sender, self.server.name, request), "Request")
        self._tell_changes()

    # ---- the one way out

    def take_update(self) -> Update:
        update = super().take_update()
        server = self.server
        commits = self._role == LEADER and index_of(server.commit_index) > self._commit
        if commits:
            self._commit = index_of(server.commit_index)
            self._tell("Commit")
        self._tell_changes(update)
        if self._role == LEADER and update.entries:
            own = TracedMessage(
                "MsgAppResp", self._term, from_=server.name, to=server.name, index=self._log
            )
            self._tell("SendAppendEntriesResponse", own)
        if commits or any(map(_is_told, update.messages)):
            # In the specification the commit index is durable.
            self._tell("Ready")
        self._told = [0, 0]
        return update

    # ---- inside

    def _tell(
        self, name: str, msg: TracedMessage | None = None, prop: Mapping[str, Any] | None = None
    ) -> None:
        members = self.server.configuration
        conf = (members.voters, members.outgoing_voters)
        state = State(self._term, self._vote, self._commit)
        nid = self.server.name
        self._sink.write(Event(name, nid, state, self._role, self._log, conf, msg, prop))

    def _received(self, message: TracedMessage, kind: str) -> None:
        """The message, in front of what it has changed, and then that."""
        rpc = "RequestVote" if message.type.startswith("MsgVote") else "AppendEntries"
        self._tell(f"Receive{rpc}{kind}", message)
        leads_us_back = (rpc, kind) == ("AppendEntries", "Request") and self._role == CANDIDATE
        if message.term > self._term:
            self._term, self._vote, self._role = message.term, NOBODY, FOLLOWER
            self._tell("BecomeFollower")
        elif leads_us_back and message.term == self._term:
            self._role = FOLLOWER
            self._tell("BecomeFollower")
        if self._term == self.server.current_term and self._role == FOLLOWER:
            self._vote = self.server.voted_for or NOBODY

    def _vote_requested(self, before: _Before, sender: str, request: RequestVoteRequest) -> None:
        """Told if it was judged as the specification does, by the vote and by the log."""
        server = self.server
        judged = request.term == server.current_term and not request.pre_vote
        granted = judged and server.voted_for == sender
        vote = before.voted_for if request.term == before.term else None
        log = server.log
        up_to_date = (request.last_log_term, request.last_log_index) >= (
            log.last_term,
            log.last_index,
        )
        if (judged and granted == (up_to_date and vote in {None, sender})) or (
            not request.pre_vote and request.term < before.term == self._term
        ):
            self._received(vote_asked(sender, server.name, request), "Request")

    def _tell_changes(self, update: Update | None = None) -> None:
        """What a call has changed of role, log and messages, in that order."""
        server = self.server
        role = ROLES[server.role]
        if self._role == LEADER and role != LEADER:
            self._role = FOLLOWER
            self._tell("BecomeFollower")
        if role == CANDIDATE and self._term < server.current_term:
            self._stand(server.current_term)
        elif role == LEADER and self._role == CANDIDATE:
            self._role = LEADER
            self._tell("BecomeLeader")
        elif role == FOLLOWER and self._role == CANDIDATE:
            self._role = FOLLOWER
            self._tell("BecomeFollower")
        last = index_of(server.log.last_index)
        while role == LEADER and self._log < last:
            self._tell("Replicate")
            self._log += 1
        self._log = last
        if role != LEADER:
            self._commit = max(self._floor, index_of(server.commit_index))
        messages = server.messages if update is None else update.messages
        later = server.messages_after_save if update is None else update.messages_after_save
        for outgoing in (*messages[self._told[0] :], *later[self._told[1] :]):
            self._sent(outgoing)
        self._told = [len(messages), len(later)]

    def _stand(self, term: int) -> None:
        """For election; terms that were learned by pre-votes come first."""
        self._role, self._vote = CANDIDATE, self.server.name
        while self._term < term:
            self._term += 1
            self._tell("BecomeCandidate")
        own = TracedMessage("MsgVoteResp", term, from_=self.server.name, to=self.server.name)
        self._tell("SendRequestVoteResponse", own)

    def _sent(self, outgoing: Outgoing) -> None:
        name, to, message = self.server.name, outgoing.to, outgoing.message
        match message:
            case AppendEntriesRequest():
                self._with_entries[to, message.request_id] = bool(message.entries)
                prop = self._progress(to) if message.entries else None
                self._tell("SendAppendEntriesRequest", append(name, to, message), prop)
            case AppendEntriesResponse():
                answer = appended(name, to, message, heartbeat=self._answers_heartbeat)
                self._tell("SendAppendEntriesResponse", answer)
            case RequestVoteRequest(pre_vote=False):
                self._tell("SendRequestVoteRequest", vote_asked(name, to, message))
            case RequestVoteResponse(pre_vote=False):
                self._tell("SendRequestVoteResponse", voted(name, to, message))
            case InstallSnapshotRequest(done=True):
                self._with_entries[to, message.request_id] = True
                self._tell("SendAppendEntriesRequest", snapshot(name, to, message))
            case InstallSnapshotResponse(installed=True):
                self._tell("SendAppendEntriesResponse", installed(name, to, message))

    def _progress(self, peer: str) -> dict[str, int] | None:
        progress = self.server.progress.get(peer)
        if progress is None:
            return None
        return {"match": match_of(progress.match_index), "next": index_of(progress.next_index)}


def _is_told(outgoing: Outgoing) -> bool:
    """Pre-votes and the like are not."""
    message = outgoing.message
    return isinstance(message, _TOLD) and not getattr(message, "pre_vote", False)


class _Before:
    """Of a server, before it gets a message from `sender`."""

    __slots__ = ("had_voted", "role", "term", "voted_for")

    def __init__(self, raft: Raft, sender: str) -> None:
        server = raft.server
        self.term = server.current_term
        self.role = server.role
        self.voted_for = server.voted_for
        self.had_voted = sender in server.votes
