"""Who should lead: priorities, and nodes that are drained.

Elections know nothing of it; they stay as quick and as safe as they are. A leader asks the voters
now and then how they stand, and hands over to one of a higher priority that is up to date and has
been up for a while. Priority 0, and a drained node, does not stand for election at all and hands
over at once; being drained is durable, and ends only when somebody ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import trio

from raftd.client_messages import DrainRequest, DrainResponse, TransferRequest, TransferResponse
from raftd.driver.errors import CallFailed, NoQuorum, NoSuchMember, Refused
from raftd.driver.offload import Offload
from raftd.driver.peers import PeerRefused, Peers
from raftd.driver.poll import poll
from raftd.driver.reports import NodeReport
from raftd.driver.transfers import Transfers
from raftd.raft.raft import Raft
from raftd.raft.state import Role
from raftd.storage.disk import Disk, DiskFull
from raftd.transport.transport import Unreachable

log = logging.getLogger("raftd.driver")

ASK_TIMEOUT = 0.5
"""Seconds for the voters to say how they stand, before leadership goes to the best of them."""
PERIOD = 10
"""Longest election timeouts between two looks at the priorities; so long a better one is up."""


class Leadership:
    """`changed` is called when this node may lead again, or no more."""

    def __init__(
        self,
        raft: Raft,
        disk: Disk,
        peers: Peers,
        transfers: Transfers,
        offload: Offload,
        changed: Callable[[], None],
        priority: int,
    ) -> None:
        self._raft = raft
        self._disk = disk
        self._peers = peers
        self._transfers = transfers
        self._offload = offload
        self._changed = changed
        self.priority = priority
        self._period = PERIOD * raft.server.settings.election_timeout[1]

    @property
    def drained(self) -> bool:
        return self._disk.standing.drained

    @property
    def rank(self) -> int:
        """0: this node is not to lead."""
        return 0 if self.drained else self.priority

    # ---- the best one

    async def transfer(self, target: str | None, *, timeout: float) -> str:
        """To `target`, or to the best of the voters. Raises NoSuchMember, Refused, NoQuorum."""
        if self._raft.server.role is Role.LEADER:
            await self._check(target, timeout)
        return await self._transfers.transfer(target, timeout=timeout)

    async def handle_transfer(self, request: TransferRequest) -> TransferResponse:
        """Another node asks this one, which it takes for the leader."""
        try:
            await self._check(request.target, request.timeout_ms / 1000)
        except Refused as error:
            return TransferResponse(None, str(error))
        return await self._transfers.handle_transfer(request)

    async def _check(self, target: str | None, timeout: float) -> None:
        """How do the voters stand, and may `target` lead? Raises Refused."""
        reports = await self._ask_voters(min(ASK_TIMEOUT, timeout / 2))
        report = reports.get(target or "")
        if report is not None and report.drained:
            raise Refused(f"{target} is drained: raftctl undrain {target} ends that")
        if report is not None and report.priority == 0:
            raise Refused(f"{target} has priority 0: it is not to lead")

    async def run(self) -> None:
        """A leader looks around for a better one."""
        while True:
            await trio.sleep(self._period)
            server = self._raft.server
            if server.role is not Role.LEADER or server.transfer is not None:
                continue
            reports = await self._ask_voters(ASK_TIMEOUT)
            better = [
                (_rank(report), report.last_index, name)
                for name, report in reports.items()
                if _rank(report) > self.rank and report.uptime_ms >= self._period * 1000
            ]
            if better and server.role is Role.LEADER and server.transfer is None:
                await self._hand_over_to(max(better)[2])

    async def _hand_over_to(self, name: str) -> None:
        log.info("%s has a higher priority than %s", name, self._raft.server.name)
        try:
            await self._transfers.transfer(
                name, timeout=self._raft.server.settings.election_timeout[1]
            )
        except CallFailed as error:
            log.info("%s goes on leading: %s", self._raft.server.name, error)

    async def _ask_voters(self, timeout: float) -> dict[str, NodeReport]:
        """How each stands that answers in time; the algorithm learns it, too."""
        server = self._raft.server
        voters = [peer for peer in server.peers if server.configuration.is_voter(peer)]
        reports = await poll(self._peers, voters, timeout)
        self._raft.rank({name: _rank(report) for name, report in reports.items()})
        return reports

    # ---- drained

    async def drain(self, name: str | None, *, drained: bool, force: bool, timeout: float) -> str:
        """This node, or the member `name`: stay away from leadership, or do so no more. Who it was.
        Raises NoSuchMember, Refused, NoQuorum."""
        server = self._raft.server
        if name is None or name == server.name:
            await self._set_drained(drained=drained, force=force, timeout=timeout)
            return server.name
        if name not in server.configuration.members:
            raise NoSuchMember(f"there is no member {name}")
        try:
            request = DrainRequest(drained, force, int(timeout * 1000))
            response = await self._peers.call(name, request, timeout)
        except (Unreachable, PeerRefused) as error:
            raise NoQuorum(f"{name} gave no answer: {error}") from error
        if not isinstance(response, DrainResponse) or response.reason:
            reason = response.reason if isinstance(response, DrainResponse) else "no fitting answer"
            raise Refused(reason)
        return name

    async def handle(self, request: DrainRequest) -> DrainResponse:
        """Another member asks."""
        try:
            await self._set_drained(
                drained=request.drained,
                force=request.force,
                timeout=request.timeout_ms / 1000,
            )
        except CallFailed as error:
            return DrainResponse(str(error))
        return DrainResponse()

    async def _set_drained(self, *, drained: bool, force: bool, timeout: float) -> None:
        server = self._raft.server
        if drained == self.drained:
            return
        reports = await self._ask_voters(min(ASK_TIMEOUT, timeout / 2)) if drained else {}
        if drained and not force and not any(_rank(report) for report in reports.values()):
            raise Refused(
                f"no other voter that may lead answers: without {server.name} nobody would lead"
            )
        standing = msgspec.structs.replace(self._disk.standing, drained=drained)
        try:
            await self._offload(self._disk.note_standing, standing)
        except DiskFull as error:
            raise Refused(f"that cannot be noted: {error}") from error
        log.info("%s is %s", server.name, "drained" if drained else "not drained any more")
        self._changed()
        if drained:
            await self._transfers.wait_handed_over(timeout)


def _rank(report: NodeReport) -> int:
    return 0 if report.drained or report.problem is not None else report.priority
