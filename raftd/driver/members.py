"""Changes of the members on request: here if this node leads, else by asking the leader.

An answer comes when the change can no longer be lost: a removal or a demotion is done then; who was
added or replaced is a learner that becomes a voter by itself when its host runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import msgspec
import trio

from raftd import settings
from raftd.client_messages import MembersRequest, MembersResponse
from raftd.driver.assessment import assess
from raftd.driver.errors import Busy, CallFailed, NoQuorum, OutcomeUnknown, Refused
from raftd.driver.peers import PeerRefused, Peers
from raftd.driver.reports import ChangeReport
from raftd.driver.waiting import Signal
from raftd.raft import membership
from raftd.raft import raft as algorithm
from raftd.raft.changes import (
    AddMember,
    Change,
    ChangeRefused,
    DemoteMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
    SetAddress,
)
from raftd.raft.raft import NotLeader, Raft
from raftd.raft.server import Server
from raftd.raft.state import Role
from raftd.transport.transport import Unreachable

_decode_report = msgspec.msgpack.Decoder(ChangeReport).decode


class Members:
    """`changed` fires when roles change, `progressed` when the log or what is applied does."""

    def __init__(
        self,
        raft: Raft,
        peers: Peers,
        cluster_id: bytes,
        kick: Callable[[], None],
        changed: Signal,
        progressed: Callable[[], Signal],
    ) -> None:
        self._raft = raft
        self._peers = peers
        self._cluster_id = cluster_id
        self._kick = kick
        self._changed = changed
        self._progressed = progressed

    async def change(
        self, change: Change, *, dry_run: bool, force: bool, timeout: float
    ) -> ChangeReport:
        """What it means, and, unless `dry_run` or refused, what was done.

        Raises Refused (bad names or addresses), NoQuorum, OutcomeUnknown, Busy. That it would be
        unsafe is in the report.
        """
        change = checked(change)
        deadline = trio.current_time() + timeout
        server = self._raft.server
        while True:
            if server.role is Role.LEADER:
                return await self._here(change, dry_run, force, deadline)
            if server.leader is not None:
                response = await self._ask(server.leader, change, dry_run, force, deadline)
                if response is not None:
                    return response
            with trio.move_on_at(min(deadline, trio.current_time() + 0.1)):
                await self._changed.wait()
            if trio.current_time() >= deadline:
                raise NoQuorum("there is no leader who could change the members")

    async def _ask(
        self, leader: str, change: Change, dry_run: bool, force: bool, deadline: float
    ) -> ChangeReport | None:
        """None: certainly not done; ask again."""
        timeout = max(0.001, deadline - trio.current_time())
        request = MembersRequest(change, dry_run, force, int(timeout * 1000))
        try:
            response = await self._peers.call(leader, request, timeout)
        except PeerRefused as error:
            raise Refused(str(error)) from error
        except Unreachable as error:
            if error.sent and not dry_run:
                raise OutcomeUnknown(
                    f"{leader}, the leader, gave no answer: {error}. Look at the members"
                ) from error
            return None
        if not isinstance(response, MembersResponse):
            raise OutcomeUnknown(f"{leader} gave no fitting answer")
        match response.failure:
            case "":
                return _decode_report(response.report)
            case "no-quorum":
                return None
            case "busy":
                raise Busy(response.reason)
            case "unknown":
                raise OutcomeUnknown(response.reason)
            case "refused":
                raise Refused(response.reason)
        assert_never(response.failure)

    async def handle(self, request: MembersRequest) -> MembersResponse:
        """Another node asks this one, which it takes for the leader."""
        deadline = trio.current_time() + request.timeout_ms / 1000
        try:
            change = checked(request.change)
            report = await self._here(change, request.dry_run, request.force, deadline)
        except OutcomeUnknown as error:
            return MembersResponse(failure="unknown", reason=str(error))
        except Busy as error:
            return MembersResponse(failure="busy", reason=str(error))
        except NoQuorum as error:
            return MembersResponse(failure="no-quorum", reason=str(error))
        except CallFailed as error:
            return MembersResponse(failure="refused", reason=str(error))
        return MembersResponse(msgspec.msgpack.encode(report))

    # ---- on the leader

    async def _here(
        self, change: Change, dry_run: bool, force: bool, deadline: float
    ) -> ChangeReport:
        server = self._raft.server
        with trio.move_on_at(deadline):
            await self._its_turn(server)
        if server.role is not Role.LEADER:
            raise NoQuorum("not the leader any more")
        now = trio.current_time()
        report = assess(server, now, change)
        if dry_run or (report.refused is not None and not (force and report.forcible)):
            return report
        try:
            index, term = self._raft.change_membership(now, change)
        except NotLeader as error:
            raise NoQuorum(str(error)) from error
        except algorithm.Busy as error:
            raise Busy(str(error)) from error
        except ChangeRefused as error:
            raise Refused(str(error)) from error
        self._kick()
        with trio.move_on_at(deadline):
            await self._wait(index, term, change)
            return self._done(report, change, index)
        raise OutcomeUnknown(
            f"the change of members in entry {index} was not committed in time: it may still be"
            " done. Look at the members"
        )

    async def _its_turn(self, server: Server) -> None:
        """Until no other change is under way: that takes a moment, if there is a majority."""
        while server.role is Role.LEADER and membership.under_way(server) is not None:
            await self._progressed().wait()

    async def _wait(self, index: int, term: int, change: Change) -> None:
        """Until it is committed, and, for who leaves the voters, the joint configuration too."""
        server = self._raft.server
        to_the_end = isinstance(change, RemoveMember | DemoteMember)
        while True:
            progressed = self._progressed().next
            if server.log.term(index) not in {term, None}:
                raise NoQuorum("leadership was lost, and the change with it. Nothing was done")
            if server.commit_index >= index:
                latest, members = server.configurations[-1]
                if not to_the_end or (latest <= server.commit_index and not members.is_joint):
                    return
            await progressed.wait()

    def _done(self, report: ChangeReport, change: Change, index: int) -> ChangeReport:
        members = self._raft.server.configuration
        join = ""
        if isinstance(change, AddMember | ReplaceMember):
            join = f"{self._cluster_id.hex()}:{index}"
        return msgspec.structs.replace(
            report, refused=None, index=index, join=join, addresses=dict(members.addresses)
        )


def checked(change: Change) -> Change:
    """With the address in its one spelling. Raises Refused."""
    try:
        match change:
            case AddMember():
                settings.name(change.name)
                address = settings.dialable_url(change.address)
                return AddMember(change.name, address, change.voter)
            case ReplaceMember():
                settings.name(change.by)
                address = settings.dialable_url(change.address)
                return ReplaceMember(change.name, change.by, address)
            case SetAddress():
                return SetAddress(change.name, settings.dialable_url(change.address))
            case PromoteMember() | DemoteMember() | RemoveMember():
                return change
    except settings.Wrong as wrong:
        raise Refused(str(wrong)) from wrong
    assert_never(change)
