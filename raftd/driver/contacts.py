"""Whom this node talks to, as members come, go and move: addresses, and who is who.

Addresses are the log's. The configuration file's count as long as the members were never changed,
and for a new node, which knows no others yet. Every member is asked for its id as soon as it is
one: once it is known, it cannot come back with an empty disk and be taken for the one that had
promised its votes and entries. Who hears from no leader asks around whether it still is a member.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import trio

from raftd import journal
from raftd.client_messages import ReportRequest
from raftd.driver.peers import PeerRefused, Peers
from raftd.driver.waiting import Signal
from raftd.raft.configuration import Configuration
from raftd.raft.membership import describe
from raftd.raft.raft import Raft
from raftd.raft.state import Role
from raftd.transport.transport import Unreachable

log = logging.getLogger("raftd.raft")

LONELY = 3
"""Election timeouts without a leader after which a node asks who knows it."""


class Contacts:
    """`initial` is what the cluster began with, `file` the addresses of the configuration file."""

    def __init__(
        self,
        raft: Raft,
        peers: Peers,
        initial: Configuration,
        file: Mapping[str, str],
        timeout: float,
    ) -> None:
        """`timeout`: seconds for one question."""
        self._raft = raft
        self._peers = peers
        self._initial = initial
        self._file = {name: url for name, url in file.items() if name != raft.server.name}
        self._timeout = timeout
        self._latest: tuple[int, Configuration] | None = None
        self._since: Mapping[str, int] = {}
        self._is_open = True
        self._changed = Signal()
        self._told = raft.server.committed_configuration
        self.addresses: dict[str, str] = {}
        """of all others that this node may have to talk to"""

    def update(self) -> None:
        """Follow the members in force. Cheap when nothing has changed."""
        server = self._raft.server
        latest = server.configurations[-1]
        if latest is self._latest and not self._is_open:
            return
        self._latest = latest
        self._is_open = latest[0] > server.commit_index
        self._tell(server.committed_configuration)
        wanted = dict(self._file) if not latest[1].members else {}
        for _, members in [(0, server.committed_configuration), *self._uncommitted()]:
            wanted.update(self._addresses_of(members))
        since = latest[1].since
        for name in [name for name in self.addresses if name not in wanted]:
            self._peers.forget(name)
        for name, address in wanted.items():
            if since.get(name, 0) != self._since.get(name, 0):
                self._peers.forget(name)
            self._peers.set_address(name, address)
        if wanted != self.addresses or since != self._since:
            self._changed.fire()
        self.addresses, self._since = wanted, since

    def _tell(self, members: Configuration) -> None:
        """What has become of the members, once it is certain."""
        if members.is_joint or members == self._told:
            return
        self._told = members
        about = journal.fields("member-changed", index=self._raft.server.commit_index)
        log.info("the voters are %s now", describe(members), extra=about)

    def _uncommitted(self) -> list[tuple[int, Configuration]]:
        server = self._raft.server
        return [pair for pair in server.configurations if pair[0] > server.commit_index]

    def _addresses_of(self, members: Configuration) -> dict[str, str]:
        found = dict(members.addresses)
        if members == self._initial:
            found.update(self._file)
        own = self._raft.server.name
        return {name: found[name] for name in members.members if name != own and name in found}

    async def run(self) -> None:
        """Ask who they are, and, without a leader, whether this node still is a member."""
        asked = trio.current_time()
        while True:
            changed = self._changed.next
            strangers = [name for name in self.addresses if not self._peers.has_met(name)]
            now = trio.current_time()
            if self._is_lonely(now) and now - asked >= LONELY * self._timeout:
                asked = now
                strangers = list(self.addresses)
            async with trio.open_nursery() as nursery:
                for name in strangers:
                    nursery.start_soon(self._ask, name)
            with trio.move_on_after(self._timeout):
                await changed.wait()

    def _is_lonely(self, now: float) -> bool:
        server = self._raft.server
        return (
            server.role is not Role.LEADER
            and not server.is_removed
            and now - server.last_leader_contact > LONELY * self._timeout
        )

    async def _ask(self, name: str) -> None:
        try:
            await self._peers.call(name, ReportRequest(), self._timeout)
        except (Unreachable, PeerRefused):
            return
