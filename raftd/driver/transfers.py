"""Leadership transfer on request: here if this node leads, else by asking the leader."""

from __future__ import annotations

from collections.abc import Callable

import trio

from raftd.client_messages import TransferRequest, TransferResponse
from raftd.driver.errors import NoQuorum, NoSuchMember, Refused
from raftd.driver.peers import PeerRefused, Peers
from raftd.driver.waiting import Signal
from raftd.raft.raft import Busy, NotLeader, Raft, TransferRefused
from raftd.raft.state import Role
from raftd.transport.transport import Unreachable


class Transfers:
    """`changed` fires when roles change."""

    def __init__(self, raft: Raft, peers: Peers, kick: Callable[[], None], changed: Signal) -> None:
        self._raft = raft
        self._peers = peers
        self._kick = kick
        self._changed = changed

    async def transfer(self, target: str | None, *, timeout: float) -> str:
        """The new leader's name. Raises NoSuchMember, Refused, NoQuorum."""
        server = self._raft.server
        if target is not None and target not in server.configuration.members:
            raise NoSuchMember(f"there is no member {target}")
        if server.role is Role.LEADER:
            return await self._here(target, timeout)
        if server.leader is None:
            raise NoQuorum("there is no leader who could hand over")
        try:
            request = TransferRequest(target, int(timeout * 1000))
            response = await self._peers.call(server.leader, request, timeout)
        except (Unreachable, PeerRefused) as error:
            raise NoQuorum(f"{server.leader}, the leader, gave no answer: {error}") from error
        if isinstance(response, TransferResponse) and response.leader is not None:
            return response.leader
        reason = response.reason if isinstance(response, TransferResponse) else "no fitting answer"
        raise Refused(reason)

    async def handle_transfer(self, request: TransferRequest) -> TransferResponse:
        """Another node asks this one, which it takes for the leader."""
        try:
            return TransferResponse(await self._here(request.target, request.timeout_ms / 1000))
        except Refused as error:
            return TransferResponse(None, str(error))

    async def wait_handed_over(self, timeout: float) -> None:
        """Until somebody else leads, if this node did."""
        server = self._raft.server
        with trio.move_on_after(timeout):
            while server.role is Role.LEADER:
                await self._changed.wait()
            while server.leader is None:
                await self._changed.wait()

    async def _here(self, target: str | None, timeout: float) -> str:
        """On the leader itself."""
        server = self._raft.server
        try:
            target = self._raft.transfer_leadership(trio.current_time(), target)
        except (NotLeader, Busy, TransferRefused) as error:
            raise Refused(str(error)) from error
        self._kick()
        with trio.move_on_after(timeout):
            while server.role is Role.LEADER and server.transfer is not None:
                await self._changed.wait()
            while server.role is not Role.LEADER and server.leader is None:
                await self._changed.wait()
        if server.leader == target:
            return target
        raise Refused(f"{target} has not taken over in time; {server.leader or 'nobody'} leads")
