"""One server: Figure 2's state, persistent and volatile, and the update that is growing.

The modules named after the RPCs work on it; `raft.Raft` is the only way in from outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry, EntryType, Log
from raftd.raft.messages import Message, Request, Response
from raftd.raft.progress import Progress
from raftd.raft.state import HardState, Recovered, Role, Settings, SnapshotMetadata
from raftd.raft.update import EntriesWanted, Note, Outgoing, ReadReady, SnapshotChunk

if TYPE_CHECKING:
    from random import Random

Encode = Callable[[int, int, EntryType, bytes], bytes]
"""Makes the record of (index, term, type, payload)."""


class PendingRead:
    """A ReadIndex request: `index` is what must be applied, `required_id` the first request whose
    answer proves that we still led after it was asked; None: its round has not left yet."""

    __slots__ = ("index", "required_id", "ticket")

    def __init__(self, ticket: int, index: int) -> None:
        self.ticket = ticket
        self.index = index
        self.required_id: int | None = None


class Transfer:
    """A leadership transfer under way (thesis 3.10); until `deadline` no proposals are taken."""

    __slots__ = ("deadline", "resign", "sent", "target")

    def __init__(self, target: str, deadline: float, *, resign: bool) -> None:
        self.target = target
        self.deadline = deadline
        self.resign = resign
        self.sent = False


class Server:
    """All of a server's state. Times are monotonic seconds."""

    def __init__(
        self,
        name: str,
        recovered: Recovered,
        settings: Settings,
        random: Random,
        encode: Encode,
        commit_index: int,
        membership_index: int = 0,
    ) -> None:
        self.name = name
        self.membership_index = membership_index
        """The entry that admitted this server; 0: it was there from the beginning."""
        self.settings = settings
        self.random = random
        self.encode = encode
        # persistent
        self.current_term = recovered.hard_state.current_term
        self.voted_for = recovered.hard_state.voted_for
        self.snapshot = recovered.snapshot
        first = recovered.term_runs[0][0] if recovered.term_runs else recovered.last_index + 1
        base_is_snapshot = first - 1 == recovered.snapshot.last_included_index
        self.log = Log(
            first - 1,
            recovered.snapshot.last_included_term if base_is_snapshot else None,
            recovered.last_index,
            recovered.term_runs,
            recovered.tail,
        )
        self.configurations: list[tuple[int, Configuration]] = [
            (recovered.snapshot.last_included_index, recovered.snapshot.configuration),
            *recovered.configurations,
        ]
        # what is durable of it
        self.persisted_hard_state = recovered.hard_state
        self.persisted_index = recovered.last_index
        self.truncations = 0
        """How often entries were dropped: what was saved before the last time proves nothing."""
        # volatile
        self.role = Role.FOLLOWER
        self.leader: str | None = None
        self.commit_index = max(commit_index, recovered.snapshot.last_included_index)
        self.last_leader_contact = -math.inf
        self.election_deadline = -math.inf
        self.may_lead = True
        self.told_removed = False
        """A member has said that this server is none any more."""
        self.contradiction: str | None = None
        """What a leader has sent that cannot be, next to what is committed here."""
        # candidates
        self.votes: dict[str, bool] = {}
        # leaders
        self.ranks: dict[str, int] = {}
        """Who is preferred as a successor: 0 is never chosen, unknown is 1."""
        self.progress: dict[str, Progress] = {}
        self.term_start_index = 0
        self.heartbeat_deadline = math.inf
        self.quorum_deadline = math.inf
        self.reads: list[PendingRead] = []
        self.transfer: Transfer | None = None
        self.next_request_id = 1
        # the update that is growing
        self.given_index = recovered.last_index
        self.given_hard_state = self._hard_state = recovered.hard_state
        self.messages: list[Outgoing] = []
        self.messages_after_save: list[Outgoing] = []
        self.snapshot_to_install: SnapshotMetadata | None = None
        self.reads_ready: list[ReadReady] = []
        self.entries_wanted: list[EntriesWanted] = []
        self.snapshot_chunks: list[SnapshotChunk] = []
        self.notes: list[Note] = []
        self.has_details = True
        """Whether there are notes of what happens all the time."""

    @property
    def hard_state(self) -> HardState:
        state = self._hard_state
        if state.current_term != self.current_term or state.voted_for != self.voted_for:
            state = self._hard_state = HardState(self.current_term, self.voted_for)
        return state

    @property
    def uncommitted_bytes(self) -> int:
        return self.log.bytes_above(self.commit_index)

    @property
    def configuration(self) -> Configuration:
        """The latest configuration in the log, committed or not (paper section 6)."""
        return self.configurations[-1][1]

    @property
    def peers(self) -> tuple[str, ...]:
        return tuple(name for name in self.configuration.members if name != self.name)

    @property
    def committed_configuration(self) -> Configuration:
        """The latest configuration that this server knows as committed."""
        for index, members in reversed(self.configurations):
            if index <= self.commit_index:
                return members
        raise AssertionError("the first one is that of the snapshot, which is committed")

    @property
    def is_removed(self) -> bool:
        """It was a member once, and is none any more: that is committed, here or elsewhere."""
        return self.told_removed or self.has_removed(self.name, self.membership_index)

    def has_removed(self, name: str, membership_index: int) -> bool:
        """Does this server know that the member `name`, admitted at that index, is none any more?
        No, as long as it has not come to that index itself."""
        members = self.committed_configuration
        return (
            membership_index <= self.commit_index
            and bool(members.voters)
            and not members.is_member(name, membership_index)
        )

    def counts(self, name: str, membership_index: int) -> bool:
        """Is an answer that comes from that life of the name from the member that is counted under
        it? Another one, of a membership that this server does not know yet, votes for nothing."""
        members = self.configuration
        return not members.has(name) or members.is_member(name, membership_index)

    def has(self, name: str) -> bool:
        """Is it in the configuration, in whatever part?"""
        return self.configuration.has(name)

    @property
    def may_campaign(self) -> bool:
        """A voter that is being removed still is one until that is committed (thesis 4.2.2)."""
        if not self.may_lead or self.is_removed:
            return False
        return self.committed_configuration.is_voter(self.name) or any(
            members.is_voter(self.name)
            for index, members in self.configurations
            if index > self.commit_index
        )

    def new_request_id(self) -> int:
        self.next_request_id += 1
        return self.next_request_id - 1

    def send(self, to: str, message: Message) -> None:
        """Only for what speaks of nothing that is not durable, or what a leader sends: its term
        is, and its entries count on its disk only once they are."""
        self.messages.append(Outgoing(to, message))

    def send_after_save(self, to: str, message: Request) -> None:
        self.messages_after_save.append(Outgoing(to, message))

    def respond(self, to: str, response: Response, *, match_index: int = 0) -> None:
        """Answer a request. Paper 5.1/Figure 2: persistent state is "updated on stable storage
        before responding to RPCs", so an answer waits while it speaks of what is not durable."""
        durable = (
            self.persisted_hard_state == self.hard_state and match_index <= self.persisted_index
        )
        (self.messages if durable else self.messages_after_save).append(Outgoing(to, response))

    def note(self, text: str, level: str, *, event: str = "", peer: str = "") -> None:
        self.notes.append(Note(level, f"{self.name} {text}", event, peer))

    def detail(self, text: str, *values: object) -> None:
        """A note of level debug, which costs next to nothing where nobody reads it."""
        if self.has_details:
            self.note(text % values, "debug")

    def append(self, *entries: Entry) -> None:
        self.log.append(*entries)
        for entry in entries:
            if entry.configuration is not None:
                self.configurations.append((entry.index, entry.configuration))

    def truncate_from(self, index: int) -> None:
        """Paper 5.3: delete a conflicting entry and all that follow; section 6: a configuration
        entry that goes takes its configuration with it."""
        assert index > self.commit_index, "committed entries are never truncated"
        self.log.truncate_from(index)
        self.given_index = min(self.given_index, index - 1)
        self.persisted_index = min(self.persisted_index, index - 1)
        self.truncations += 1
        while self.configurations[-1][0] >= index:
            self.configurations.pop()

    def reset_election_deadline(self, now: float) -> None:
        """Paper 5.2: "election timeouts are chosen randomly from a fixed interval"."""
        self.election_deadline = now + self.random.uniform(*self.settings.election_timeout)
