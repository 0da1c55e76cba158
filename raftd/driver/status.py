"""What this node knows of itself, and of the cluster once it has asked the others."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import trio

import raftd
from raftd.driver.applier import Applier
from raftd.driver.leadership import Leadership
from raftd.driver.peers import Peers
from raftd.driver.poll import poll
from raftd.driver.reports import ClusterStatus, MemberStatus, NodeReport, PeerReport
from raftd.raft import quorum
from raftd.raft.configuration import Configuration
from raftd.raft.raft import Raft
from raftd.raft.state import Role
from raftd.state_hash import context_of
from raftd.state_machine import StateMachine
from raftd.storage.disk import Disk

_LOST = (
    "it lost entries that it had acknowledged, as an old copy of a data directory does: bring the"
    " newer one back, or remove the member and add it again (raftctl members)"
)


class Status:
    """`problem` tells what is wrong with this node's disk, if anything is."""

    def __init__(
        self,
        raft: Raft,
        disk: Disk,
        applier: Applier,
        peers: Peers,
        leadership: Leadership,
        state_machine: StateMachine,
        supports: int,
        problem: Callable[[], str | None],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._raft = raft
        self._disk = disk
        self._applier = applier
        self._peers = peers
        self._leadership = leadership
        self._state_machine = state_machine
        self._supports = supports
        self._problem = problem
        self._wall_clock = wall_clock
        self._started = trio.current_time()
        self._leader: tuple[str | None, int] = (None, 0)
        self._leader_since_ms: int | None = None

    def roles_changed(self) -> None:
        """Note since when the present leader leads, as far as this node has seen."""
        server = self._raft.server
        leader = (server.leader, server.current_term)
        if leader != self._leader:
            self._leader = leader
            now_ms = int(self._wall_clock() * 1000)
            self._leader_since_ms = now_ms if server.leader is not None else None

    def report(self) -> NodeReport:
        server = self._raft.server
        now = trio.current_time()
        problem = self._problem()
        context = context_of(self._state_machine)
        learner = not server.configuration.is_voter(server.name)
        role = "learner" if learner and server.role is Role.FOLLOWER else server.role.value
        if server.is_removed and server.role is not Role.LEADER:
            role = "removed"
        return NodeReport(
            server.name,
            raftd.__version__,
            role,
            server.current_term,
            server.leader,
            self._leader_since_ms,
            server.log.first_index,
            server.persisted_index,
            server.commit_index,
            self._applier.applied_index,
            server.snapshot.last_included_index,
            self._disk.size_bytes,
            int((now - self._started) * 1000),
            self._raft.has_quorum(now) and problem is None,
            problem or self._removed() or self._refused_by(),
            tuple(
                PeerReport(
                    name,
                    progress.match_index,
                    int((now - progress.last_contact) * 1000),
                    self._peers.refused.get(name) or (_LOST if progress.has_lost else None),
                )
                for name, progress in server.progress.items()
            ),
            self._supports,
            context.level,
            context.check_index,
            context.check_hash,
            self._leadership.drained,
            self._leadership.priority,
        )

    def _removed(self) -> str | None:
        server = self._raft.server
        if server.is_removed:
            return "was removed from the cluster: stop it, and delete its data directory"
        if not server.configuration.members:
            return "has not heard from the cluster yet: it waits for the leader to find it"
        return None

    def _refused_by(self) -> str | None:
        for peer, reason in self._peers.refused_by.items():
            return f"refused by {peer}: {reason}"
        return None

    async def cluster(self, *, timeout: float) -> ClusterStatus:
        """Ask every other member, for at most `timeout` seconds, and put it all together."""
        server = self._raft.server
        reports = await poll(self._peers, server.peers, timeout)
        reports[server.name] = self.report()
        return self._combine(reports)

    def _combine(self, reports: dict[str, NodeReport]) -> ClusterStatus:
        server = self._raft.server
        configuration = server.configuration
        own = reports[server.name]
        leader = _leader(reports)
        followers = {peer.name: peer for peer in leader.peers} if leader is not None else {}
        members = tuple(
            self._member(name, reports.get(name), leader, followers.get(name))
            for name in configuration.members
        )
        healthy = {each.name for each in members if each.reachable and each.problem is None}
        writable = leader is not None and leader.has_quorum
        spare = _spare(configuration.voters, healthy)
        if configuration.is_joint:
            spare = min(spare, _spare(configuration.outgoing_voters, healthy))
        return ClusterStatus(
            node=server.name,
            cluster_id=self._disk.identity.cluster_id.hex(),
            role=own.role,
            term=own.term,
            leader=leader.name if leader is not None else own.leader,
            leader_since_ms=(leader or own).leader_since_ms,
            writable=writable,
            reason=None if writable else self._why_not(leader, own, members, healthy),
            voters=len(configuration.voters),
            quorum=quorum.size(configuration.voters),
            failures_tolerated=max(0, spare) if writable else 0,
            must_not_stop=tuple(
                each.name
                for each in members
                if writable and spare <= 0 and each.voter and each.name in healthy
            ),
            members=members,
            joint=configuration.is_joint,
            removed=server.is_removed,
        )

    def _why_not(
        self,
        leader: NodeReport | None,
        own: NodeReport,
        members: tuple[MemberStatus, ...],
        healthy: set[str],
    ) -> str:
        configuration = self._raft.server.configuration
        if (alone := self._removed()) is not None:
            return f"{own.name} {alone}"
        voters = len(configuration.voters)
        answering = len(healthy & set(configuration.voters))
        if answering < quorum.size(configuration.voters):
            return (
                f"no quorum: {answering} of {voters} voters answer,"
                f" {quorum.size(configuration.voters)} are needed"
            )
        if leader is None:
            voters_here = [each for each in members if each.voter and each.name in healthy]
            if all(each.priority == 0 or each.drained for each in voters_here):
                return "no leader: all voters that answer have priority 0 or are drained"
            return (
                f"{own.leader} should lead but does not answer {own.name}"
                if own.leader is not None
                else "no leader yet: an election is under way"
            )
        return f"{leader.name} leads but {leader.problem or 'has not reached a majority lately'}"

    def _member(
        self,
        name: str,
        report: NodeReport | None,
        leader: NodeReport | None,
        progress: PeerReport | None,
    ) -> MemberStatus:
        server = self._raft.server
        refused = self._peers.refused.get(name) or (progress.refused if progress else None)
        heard = self._peers.heard.get(name)
        own_contact_ms = None if heard is None else int((trio.current_time() - heard) * 1000)
        member = MemberStatus(
            name,
            server.configuration.addresses.get(name, ""),
            server.configuration.is_voter(name),
            "unknown",
            reachable=report is not None and refused is None,
            membership=_membership(server.configuration, name),
            last_contact_ms=own_contact_ms if progress is None else progress.last_contact_ms,
            match_index=progress.match_index if progress and refused is None else None,
            problem=refused or self._peers.trouble_with(name),
        )
        if report is not None and refused is None:
            member = msgspec.structs.replace(
                member,
                role=report.role,
                match_index=report.last_index if progress is None else progress.match_index,
                term=report.term,
                first_index=report.first_index,
                last_index=report.last_index,
                commit_index=report.commit_index,
                applied_index=report.applied_index,
                snapshot_index=report.snapshot_index,
                disk_used_bytes=report.disk_used_bytes,
                uptime_ms=report.uptime_ms,
                version=report.version,
                problem=report.problem,
                drained=report.drained,
                priority=report.priority,
            )
        if leader is not None and member.match_index is not None:
            behind = max(0, leader.last_index - member.match_index)
            member = msgspec.structs.replace(member, behind=behind)
        return member


def _leader(reports: dict[str, NodeReport]) -> NodeReport | None:
    """The leader of the newest term among those who answered."""
    leaders = [report for report in reports.values() if report.role == Role.LEADER.value]
    return max(leaders, key=lambda report: report.term, default=None)


def _membership(members: Configuration, name: str) -> str:
    if name in members.voters:
        return "voter"
    if name in members.outgoing_voters:
        return "leaving"
    return "joining" if name in members.promotions else "learner"


def _spare(voters: tuple[str, ...], healthy: set[str]) -> int:
    """How many of the healthy ones a majority of `voters` can do without."""
    return len(healthy & set(voters)) - quorum.size(voters)
