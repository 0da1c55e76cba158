"""Who may speak at all, and that this node remembers whom it has met.

Every message says which cluster it belongs to and from which life of which data directory it comes.
A member is known by the id of its data directory from the first message on, durably: if it comes
back with another id, its disk was wiped, it may have forgotten votes and entries, and it is
refused. So is an earlier life of the same directory, or another one of the same number: that is an
old message, or an old copy. A copy of the life that this node has met last looks like a restart:
only the log can tell (raftd.raft.append_entries).

An id begins with the index of the entry that admitted the member. Who was admitted later than this
node has heard of is answered: a new member needs the votes of those who lag behind. It takes the
place of a member only when the log says so, too: anybody can claim to be later. Who was removed
by an entry that is committed here is told so, unless this node follows it at the moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import trio

from raftd.codec import Envelope
from raftd.driver.offload import Offload
from raftd.raft.messages import Response
from raftd.storage.disk import Identity, PeerIdentity, life, membership_index

_WAYS_BACK = "Bring the old directory back, or remove the member and add it again (raftctl members)"


MAX_TERMS_AHEAD = 1 << 32
"""An election a second for more than a century."""


MAX_PEERS = 256
"""Met so far; beyond, only members are remembered. Names cost a stranger nothing."""


class Roster(Protocol):
    """What `raftd.raft.server.Server` offers: who is a member."""

    leader: str | None
    commit_index: int
    current_term: int

    def has_removed(self, name: str, membership_index: int) -> bool: ...

    def counts(self, name: str, membership_index: int) -> bool: ...

    def has(self, name: str) -> bool: ...


class PeerStore(Protocol):
    """What `raftd.storage.Disk` offers: who the peers were when we last met."""

    @property
    def identity(self) -> Identity: ...

    @property
    def known_peers(self) -> Mapping[str, PeerIdentity]: ...

    def remember_peer(self, name: str, node_id: bytes, incarnation: int) -> None: ...


class Stranger(Exception):
    """The message does not come from whom this node takes for a member; the message says why."""


class Disowned(Stranger):
    """The sender knows this node by another id."""


class Replaced(Disowned):
    """The sender knows another member of this node's name, admitted later, at index `since`."""

    def __init__(self, reason: str, since: int) -> None:
        super().__init__(reason)
        self.since = since


class Removed(Stranger):
    """The sender was a member once."""


class Admission:
    def __init__(self, store: PeerStore, roster: Roster, offload: Offload) -> None:
        self._store = store
        self._roster = roster
        self._offload = offload
        self._remembering = trio.Lock()

    def met(self, name: str) -> PeerIdentity | None:
        """The member that has this name now, if this node has met it."""
        known = self._store.known_peers.get(name)
        if known is not None and self._roster.counts(name, known.membership_index):
            return known
        return None

    def admits(self, envelope: Envelope, expected: str) -> bool:
        """Raises Stranger unless the sender is the member it says it is, and the one expected.
        False: it has to be remembered first."""
        self._check(envelope, expected)
        sender = envelope.sender
        known = self._store.known_peers.get(sender)
        if known is None:
            if self._is_crowded and not self._roster.has(sender):
                raise Stranger(f"{sender} is no member, and too many others were met before it")
            return False
        if _is_newer(envelope, known):
            return not self._takes_place(envelope, known)
        if envelope.node_id != known.node_id:
            raise Stranger(
                f"{sender} came back with another node id: its data directory was wiped or"
                f" replaced, so it may have forgotten votes and entries. {_WAYS_BACK}"
            )
        if envelope.incarnation != known.incarnation:
            raise Stranger(
                f"{sender} is in its life {life(envelope.incarnation)}, but has been in"
                f" {life(known.incarnation)}{_again(envelope, known)}: an old copy of its data"
                f" directory was started. {_WAYS_BACK}"
            )
        return True

    async def remember(self, envelope: Envelope) -> None:
        """Durably, before anything of this message is believed."""
        async with self._remembering:
            known = self._store.known_peers.get(envelope.sender)
            if known is not None and not self._takes_place(envelope, known):
                return
            await self._offload(
                self._store.remember_peer,
                envelope.sender,
                envelope.node_id,
                envelope.incarnation,
            )

    def _check(self, envelope: Envelope, expected: str) -> None:
        """Raises Stranger for whoever it may be, known or not."""
        own, sender = self._store.identity, envelope.sender
        if sender != expected:
            raise Stranger(f"{sender} answers at the address of {expected}: check the addresses")
        if envelope.cluster_id != own.cluster_id:
            raise Stranger(
                f"{sender} belongs to another cluster: check the members' addresses on both, and"
                " the cluster that raftctl status tells"
            )
        if envelope.recipient != own.name:
            raise Stranger(f"{sender} takes {own.name} for {envelope.recipient}: check its members")
        if sender == own.name:
            raise Stranger(f"another node calls itself {sender}, too")
        if envelope.recipient_id not in {b"", own.node_id}:
            self._check_disowned(sender, membership_index(envelope.recipient_id))
        self._check_membership(envelope)
        self._check_term(envelope)

    @property
    def _is_crowded(self) -> bool:
        return len(self._store.known_peers) >= MAX_PEERS

    def _takes_place(self, envelope: Envelope, known: PeerIdentity) -> bool:
        """Shall the sender be remembered instead of whom this node has met by that name?"""
        if not _is_newer(envelope, known):
            return False
        since = membership_index(envelope.node_id)
        return envelope.node_id == known.node_id or self._roster.counts(envelope.sender, since)

    def _check_disowned(self, sender: str, known_since: int) -> None:
        """The sender knows this node by another id, of a member admitted at that index. If it is an
        older one, the sender has not heard of this node yet: it learns from the answer."""
        own = self._store.identity
        if known_since == own.membership_index:
            raise Disowned(
                f"{sender} knows {own.name} by another node id: the data directory of {own.name}"
                f" was wiped or replaced, so it may have forgotten votes and entries. {_WAYS_BACK}"
            )
        if known_since > own.membership_index:
            raise Replaced(
                f"{sender} knows another {own.name}, which became a member with entry"
                f" {known_since}: this one is none any more",
                known_since,
            )

    def _check_membership(self, envelope: Envelope) -> None:
        """Raises Stranger, Removed."""
        sender, since = envelope.sender, membership_index(envelope.node_id)
        if isinstance(envelope.message, Response):
            if not self._roster.counts(sender, since):
                raise Stranger(
                    f"the {sender} that answers became a member with entry {since}; that is not"
                    f" the one this node knows as a member"
                )
        elif self._roster.has_removed(sender, since) and self._roster.leader != sender:
            raise Removed(f"{sender} is no member of this cluster any more; it was removed")

    def _check_term(self, envelope: Envelope) -> None:
        """Terms are counted one by one: after the last one nobody could be elected any more."""
        term = getattr(envelope.message, "term", 0)
        own = self._roster.current_term
        if term > own + MAX_TERMS_AHEAD:
            raise Stranger(
                f"{envelope.sender} speaks of term {term}, which cannot be after {own} elections:"
                " its message is damaged, or forged"
            )


def _is_newer(envelope: Envelope, known: PeerIdentity) -> bool:
    """A later life of the same directory, or a member that was admitted later under that name."""
    since = membership_index(envelope.node_id)
    if envelope.node_id == known.node_id:
        return life(envelope.incarnation) > life(known.incarnation)
    return since > known.membership_index


def _again(envelope: Envelope, known: PeerIdentity) -> str:
    return " begun elsewhere" if life(envelope.incarnation) == life(known.incarnation) else ""
