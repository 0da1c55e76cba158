"""Messages to and from the other members: wrapped into envelopes, and believed if
raftd.driver.admission says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import msgspec
import trio

from raftd import codec, journal
from raftd.client_messages import ClientMessage, RefusedResponse
from raftd.codec import DecodeError, Envelope
from raftd.driver.admission import (
    Admission,
    Disowned,
    PeerStore,
    Removed,
    Replaced,
    Roster,
    Stranger,
)
from raftd.driver.life import Life
from raftd.driver.offload import Offload
from raftd.promise import Promise
from raftd.raft.messages import Message
from raftd.storage.disk import DiskFull, Standing
from raftd.transport.transport import Unreachable

_NOBODY = bytes(16)

AnyMessage = Message | ClientMessage
Handler = Callable[[str, AnyMessage], Promise[AnyMessage | None]]

log = logging.getLogger("raftd.transport")


class Carrier(Protocol):
    """What `raftd.transport.Transport` offers: bytes there and back."""

    def call(
        self, peer: str, request: bytes, timeout: float, *, bulk: bool = False
    ) -> Promise[bytes]: ...

    def set_peer(self, name: str, address: str) -> None: ...

    def remove_peer(self, name: str) -> None: ...

    def trouble_with(self, name: str) -> str | None: ...


class Store(PeerStore, Protocol):
    """What `raftd.storage.Disk` offers: that, and what others have told this node of itself."""

    @property
    def standing(self) -> Standing: ...

    def note_standing(self, standing: Standing) -> None: ...


class PeerRefused(Exception):
    """The peer answers, and will have nothing to do with this node; the message is its reason."""


class Peers:
    """Wraps messages into envelopes and checks those that come."""

    def __init__(
        self,
        carrier: Carrier,
        store: Store,
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
        self._admission = Admission(store, roster, offload)
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

    def trouble_with(self, name: str) -> str | None:
        """Why this node cannot connect to it, if that is known."""
        return self._carrier.trouble_with(name)

    def has_met(self, name: str) -> bool:
        """Is the member that has this name now known by its id?"""
        return self._admission.met(name) is not None

    def call(
        self, peer: str, message: AnyMessage, timeout: float, *, bulk: bool = False
    ) -> Promise[AnyMessage]:
        """The peer's answer; fails with Unreachable or PeerRefused, at the latest after `timeout`
        seconds. `bulk`: it may take longer, as large as it is; the others do not wait for it."""
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
        self._carrier.call(peer, request, timeout, bulk=bulk).when_done(came)
        return answer

    def _is_usual(self, envelope: Envelope, expected: str) -> bool:
        """Nothing is new of it but what it says."""
        try:
            if not self._admission.admits(envelope, expected):
                return False
        except Stranger:
            return False
        self._welcome(envelope.sender)
        return not isinstance(envelope.message, RefusedResponse)

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
            answer = self._envelope(envelope.sender, RefusedResponse(str(error), removed_at))
            if envelope.cluster_id != answer.cluster_id:
                # Who does not know the cluster does not learn it here.
                answer = msgspec.structs.replace(
                    answer, cluster_id=_NOBODY, node_id=_NOBODY, incarnation=0, recipient_id=b""
                )
            return codec.encode(answer)
        except DiskFull as error:
            log.warning("cannot note who %s is: %s", envelope.sender, error)
            return None
        return await self._have_handled(envelope, handler)

    def _envelope(self, recipient: str, message: AnyMessage) -> Envelope:
        identity = self._store.identity
        known = self._admission.met(recipient)
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
        if not self._admission.admits(envelope, expected):
            await self._admission.remember(envelope)
            self._admission.admits(envelope, expected)
        self._welcome(envelope.sender)

    def _welcome(self, sender: str) -> None:
        self.heard[sender] = trio.current_time()
        if self.refused.pop(sender, None) is not None:
            log.info("%s is welcome again", sender)

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
