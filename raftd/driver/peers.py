"""Messages to and from the other members, and who may speak at all.

Every message says which cluster it belongs to and from which life of which data directory it comes.
A member is known by the id of its data directory from the first message on, durably: if it comes
back with another id, its disk was wiped, it may have forgotten votes and entries, and it is
refused. So is an earlier life of the same directory: that is an old message, or an old copy.

An id begins with the index of the entry that admitted the member. Who was admitted later than this
node has heard of is answered: a new member needs the votes of those who lag behind. Who was removed
by an entry that is committed here is told so, unless this node follows it at the moment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
import trio

from raftd import codec, journal
from raftd.client_messages import ClientMessage, RefusedResponse
from raftd.codec import DecodeError, Envelope
from raftd.driver.life import Life
from raftd.driver.offload import Offload
from raftd.promise import Promise
from raftd.raft.messages import Message, Response
from raftd.storage.disk import DiskFull, Identity, PeerIdentity, Standing, membership_index
from raftd.transport.transport import Unreachable

AnyMessage = Message | ClientMessage
Handler = Callable[[str, AnyMessage], Promise[AnyMessage | None]]

log = logging.getLogger("raftd.transport")

_WAYS_BACK = "Bring the old directory back, or remove the member and add it again (raftctl members)"


MAX_TERMS_AHEAD = 1 << 32
"""An election a second for more than a century."""


class Carrier(Protocol):
    """What `raftd.transport.Transport` offers: bytes there and back."""

    def call(self, peer: str, request: bytes, timeout: float) -> Promise[bytes]: ...

    def set_peer(self, name: str, address: str) -> None: ...

    def remove_peer(self, name: str) -> None: ...


class Roster(Protocol):
    """What `raftd.raft.server.Server` offers: who is a member."""

    leader: str | None
    commit_index: int
    current_term: int

    def has_removed(self, name: str, membership_index: int) -> bool: ...

    def counts(self, name: str, membership_index: int) -> bool: ...


class PeerStore(Protocol):
    """What `raftd.storage.Disk` offers: who the peers were when we last met."""

    @property
    def identity(self) -> Identity: ...

    @property
    def known_peers(self) -> Mapping[str, PeerIdentity]: ...

    def remember_peer(self, name: str, node_id: bytes, incarnation: int) -> None: ...

    @property
    def standing(self) -> Standing: ...

    def note_standing(self, standing: Standing) -> None: ...


class PeerRefused(Exception):
    """The peer answers, and will have nothing to do with this node; the message is its reason."""


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


class Peers:
    """Wraps messages into envelopes and checks those that come."""

    def __init__(
        self,
        carrier: Carrier,
        store: PeerStore,
        roster: Roster,
        life: Life,
        offload: Offload,
        told_removed: Callable[[], None],
    ) -> None:
        """`told_removed` is called when a member says that this node is none any more."""
        self._carrier = carrier
        self._store = store
        self._roster = roster
        self._life = life
        self._offload = offload
        self._told_removed = told_removed
        self._remembering = trio.Lock()
        self._said: set[str] = set()
        self.refused: dict[str, str] = {}
        """Members whose messages this node refuses, and why."""
        self.refused_by: dict[str, str] = {}
        """Members that refuse this node, and why."""
        self.heard: dict[str, float] = {}
        """When each member was last heard of, in trio's seconds."""
        self.strangers = 0
        """Messages refused since the start."""

    def set_address(self, name: str, address: str) -> None:
        self._carrier.set_peer(name, address)

    def forget(self, name: str) -> None:
        """It is no member any more, or another one of the same name."""
        self._carrier.remove_peer(name)
        for of in (self.refused, self.refused_by):
            of.pop(name, None)
        self.heard.pop(name, None)

    def has_met(self, name: str) -> bool:
        """Is the member that has this name now known by its id?"""
        known = self._store.known_peers.get(name)
        return known is not None and self._roster.counts(name, known.membership_index)

    def call(self, peer: str, message: AnyMessage, timeout: float) -> Promise[AnyMessage]:
        """The peer's answer; fails with Unreachable or PeerRefused, at the latest after `timeout`
        seconds."""
        answer: Promise[AnyMessage] = Promise()

        def came(carried: Promise[bytes]) -> None:
            if self._life.is_over:
                return
            try:
                envelope = codec.decode(carried.result())
            except Unreachable as error:
                answer.fail(error)
            except DecodeError as error:
                self._refuse(peer, str(error))
                answer.fail(Unreachable(str(error)))
            else:
                if self._is_usual(envelope, peer):
                    self.refused_by.pop(peer, None)
                    answer.set(envelope.message)
                else:
                    failures = (Unreachable, PeerRefused)
                    opened = self._life.call(self._open, peer, envelope, failures=failures)
                    opened.when_done(answer.follow)

        request = codec.encode(self._envelope(peer, message))
        self._carrier.call(peer, request, timeout).when_done(came)
        return answer

    def _is_usual(self, envelope: Envelope, expected: str) -> bool:
        """Nothing is new of it but what it says."""
        try:
            admitted = self._admits(envelope, expected)
        except Stranger:
            return False
        return admitted and not isinstance(envelope.message, RefusedResponse)

    async def _open(self, peer: str, envelope: Envelope) -> AnyMessage:
        """An answer that is not usual. Raises Unreachable, PeerRefused."""
        try:
            await self._admit(envelope, peer)
        except Disowned as error:
            await self._disowned(peer, error)
            raise PeerRefused(str(error)) from error
        except Stranger as error:
            self._refuse(peer, str(error))
            raise Unreachable(str(error)) from error
        except DiskFull as error:
            raise Unreachable(f"the disk is too full to note who {peer} is") from error
        if isinstance(envelope.message, RefusedResponse):
            self._refused_by(peer, envelope.message.reason)
            await self._note_removal(envelope.message.removed_at)
            raise PeerRefused(envelope.message.reason)
        self.refused_by.pop(peer, None)
        return envelope.message

    def handle(self, data: bytes, certified: str | None, handler: Handler) -> Promise[bytes | None]:
        """Check a request, have it handled, wrap the answer; None: no answer. `certified`: who has
        sent it, if that is certain."""
        if self._life.is_over:
            return Promise.done(None)
        try:
            envelope = codec.decode(data)
        except DecodeError as error:
            self._refuse(None, str(error))
            return Promise.done(None)
        if certified not in {None, envelope.sender}:
            self._refuse(None, f"{certified or 'somebody'} says that it is {envelope.sender}")
            return Promise.done(None)
        if self._is_usual(envelope, envelope.sender):
            return self._have_handled(envelope, handler)
        return self._life.call(self._handle, envelope, handler)

    def _have_handled(self, envelope: Envelope, handler: Handler) -> Promise[bytes | None]:
        reply: Promise[bytes | None] = Promise()

        def wrap(answer: Promise[AnyMessage | None]) -> None:
            message = answer.result()
            if message is None:
                reply.set(None)
            else:
                reply.set(codec.encode(self._envelope(envelope.sender, message)))

        handler(envelope.sender, envelope.message).when_done(wrap)
        return reply

    async def _handle(self, envelope: Envelope, handler: Handler) -> bytes | None:
        """A request that is not usual."""
        try:
            await self._admit(envelope, envelope.sender)
        except Stranger as error:
            if isinstance(error, Disowned):
                await self._disowned(envelope.sender, error)
            else:
                self._refuse(envelope.sender, str(error))
            removed_at = self._roster.commit_index if isinstance(error, Removed) else 0
            refusal = RefusedResponse(str(error), removed_at)
            return codec.encode(self._envelope(envelope.sender, refusal))
        except DiskFull as error:
            log.warning("cannot note who %s is: %s", envelope.sender, error)
            return None
        return await self._have_handled(envelope, handler)

    def _envelope(self, recipient: str, message: AnyMessage) -> Envelope:
        identity = self._store.identity
        known = self._store.known_peers.get(recipient)
        if known is not None and not self._roster.counts(recipient, known.membership_index):
            known = None  # another member has the name now
        return Envelope(
            identity.cluster_id,
            identity.name,
            identity.node_id,
            identity.incarnation,
            recipient,
            message,
            known.node_id if known is not None else b"",
        )

    async def _admit(self, envelope: Envelope, expected: str) -> None:
        """Raises Stranger unless the sender is the member it says it is, and the one expected."""
        if not self._admits(envelope, expected):
            await self._remember(envelope)
            self._admits(envelope, expected)

    def _admits(self, envelope: Envelope, expected: str) -> bool:
        """As `_admit`, of whom this node knows. False: it has to be remembered first."""
        own, sender = self._store.identity, envelope.sender
        if sender != expected:
            raise Stranger(f"{sender} answers at the address of {expected}: check the addresses")
        if envelope.cluster_id != own.cluster_id:
            raise Stranger(
                f"{sender} belongs to another cluster ({envelope.cluster_id.hex()}, this is"
                f" {own.cluster_id.hex()}): check the members' addresses on both"
            )
        if envelope.recipient != own.name:
            raise Stranger(f"{sender} takes {own.name} for {envelope.recipient}: check its members")
        if sender == own.name:
            raise Stranger(f"another node calls itself {sender}, too")
        if envelope.recipient_id not in {b"", own.node_id}:
            self._check_disowned(sender, membership_index(envelope.recipient_id))
        self._check_membership(envelope)
        self._check_term(envelope)
        known = self._store.known_peers.get(sender)
        if known is None or _is_newer(envelope, known):
            return False
        if envelope.node_id != known.node_id:
            raise Stranger(
                f"{sender} came back with another node id: its data directory was wiped or"
                f" replaced, so it may have forgotten votes and entries. {_WAYS_BACK}"
            )
        if envelope.incarnation < known.incarnation:
            raise Stranger(
                f"{sender} is in its life {envelope.incarnation}, but has been in"
                f" {known.incarnation}: an old copy of its data directory was started"
            )
        self.heard[sender] = trio.current_time()
        if self.refused.pop(sender, None) is not None:
            log.info("%s is welcome again", sender)
        return True

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

    async def _disowned(self, peer: str, error: Disowned) -> None:
        self._refused_by(peer, str(error))
        if isinstance(error, Replaced):
            await self._note_removal(error.since)

    async def _note_removal(self, removed_at: int) -> None:
        """Durably: a restart remembers."""
        if removed_at == 0 or removed_at < self._store.identity.membership_index:
            return
        standing = self._store.standing
        if standing.removed_at == 0:
            try:
                await self._offload(
                    self._store.note_standing,
                    msgspec.structs.replace(standing, removed_at=removed_at),
                )
            except DiskFull as error:
                log.warning("cannot note that this node was removed: %s", error)
        self._told_removed()

    def _check_term(self, envelope: Envelope) -> None:
        """Terms are counted one by one: after the last one nobody could be elected any more."""
        term = getattr(envelope.message, "term", 0)
        own = self._roster.current_term
        if term > own + MAX_TERMS_AHEAD:
            raise Stranger(
                f"{envelope.sender} speaks of term {term}, which cannot be after {own} elections:"
                " its message is damaged, or forged"
            )

    async def _remember(self, envelope: Envelope) -> None:
        """Durably, before anything of this message is believed."""
        async with self._remembering:
            known = self._store.known_peers.get(envelope.sender)
            if known is not None and not _is_newer(envelope, known):
                return
            await self._offload(
                self._store.remember_peer,
                envelope.sender,
                envelope.node_id,
                envelope.incarnation,
            )

    def _refused_by(self, peer: str, reason: str) -> None:
        if self.refused_by.get(peer) != reason:
            self.refused_by[peer] = reason
            about = journal.fields("peer-refused", peer=peer)
            log.warning("%s refuses this node: %s", peer, reason, extra=about)

    def _refuse(self, sender: str | None, reason: str) -> None:
        self.strangers += 1
        if sender is not None:
            self.refused[sender] = reason
        if reason not in self._said and len(self._said) < 1000:
            self._said.add(reason)
            about = journal.fields("peer-refused", peer=sender or "")
            log.warning("refused a message: %s", reason, extra=about)


def _is_newer(envelope: Envelope, known: PeerIdentity) -> bool:
    """A later life of the same directory, or a member that was admitted later under that name."""
    since = membership_index(envelope.node_id)
    if envelope.node_id == known.node_id:
        return envelope.incarnation > known.incarnation
    return since > known.membership_index
