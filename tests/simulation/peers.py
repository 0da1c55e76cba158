"""Who may speak to a process, as raftd.driver.peers: a wiped member is refused, and, if the plan
says so, a message from an earlier life of its sender."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftd.raft.configuration import Configuration
from raftd.storage.disk import DiskFull

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Peers:
    """One process's knowledge of the others, kept on its disk."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._disk = process.disk
        self._known = process.disk.known_peers
        self._met: Configuration | None = None
        process.node.met = frozenset(self._known)

    @property
    def node_id(self) -> bytes:
        return self._disk.identity.node_id

    def id_of(self, name: str) -> bytes:
        """By what id this node knows a peer; empty before they met."""
        known = self._known.get(name)
        return known.node_id if known is not None else b""

    def follow(self) -> None:
        """Meet whoever is new (raftd.driver.contacts)."""
        server = self._process.raft.server
        if server.configuration is not self._met:
            self._met = server.configuration
            for peer in server.peers:
                self._meet(peer)

    def _meet(self, peer: str) -> None:
        """Learn who a peer is while all is well (raftd.driver.contacts)."""
        process = self._process
        if peer not in self._known and peer in process.raft.server.peers:
            process.world.network.carry(process.name, peer, self._greet, peer, once=True)
            process.later(process.settings.election_timeout[0], self._meet, peer)

    def _greet(self, peer: str) -> None:
        """At the peer's end of the wire."""
        node = self._process.world.nodes.get(peer)
        process = node.process if node is not None else None
        if process is not None:
            process.enter(process.peers.greeted, self._process, self.id_of(peer))

    def greeted(self, sender: Process, known_as: bytes) -> None:
        if self.admits(sender, known_as):
            process = self._process
            answer = sender.enter, sender.peers.admits, process, sender.peers.node_id
            process.world.network.carry(process.name, sender.name, *answer, once=True)

    def refuses(self, sender: Process) -> bool:
        """Who was removed is told so, unless this node follows it."""
        process = self._process
        server = process.raft.server
        since = sender.node.membership_index
        if not server.has_removed(sender.name, since) or server.leader == sender.name:
            return False
        process.world.count("told to be removed")
        process.world.network.carry(
            process.name, sender.name, sender.enter, sender.told_removed, once=True
        )
        return True

    def admits(self, sender: Process, known_as: bytes) -> bool:
        """Whether a message counts (raftd.driver.peers._admit): is its sender who it was, and
        does it mean us?"""
        if known_as not in {b"", self.node_id}:
            return False
        known = self._known.get(sender.name)
        identity = sender.disk.identity
        if known is None or (
            identity.incarnation > known.incarnation and known.node_id == identity.node_id
        ):
            try:
                self._disk.remember_peer(sender.name, identity.node_id, identity.incarnation)
            except DiskFull:
                return False
            self._known = self._disk.known_peers
            self._process.node.met = frozenset(self._known)
            return True
        if known.node_id != identity.node_id:
            return False
        current = identity.incarnation == known.incarnation
        return current or not self._process.world.plan.check_incarnation
