"""The leader's part in features and checks: asks all members, and writes what came of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import trio

from raftd import features
from raftd.driver.peers import Peers
from raftd.driver.poll import poll
from raftd.driver.reports import NodeReport
from raftd.raft import quorum
from raftd.raft.log import EntryType
from raftd.raft.raft import Busy, NotLeader, Raft
from raftd.raft.state import Role
from raftd.state_hash import Context, check_payload, context_of
from raftd.state_machine import StateMachine

log = logging.getLogger("raftd.driver")

_TIMEOUT = 1.0


class Checks:
    """Every `interval` seconds, on whichever node leads, as long as there is something to do."""

    def __init__(
        self,
        raft: Raft,
        state_machine: StateMachine,
        peers: Peers,
        kick: Callable[[], None],
        interval: float,
        report: Callable[[], NodeReport],
    ) -> None:
        self._raft = raft
        self._state_machine = state_machine
        self._peers = peers
        self._kick = kick
        self._interval = interval
        self._report = report
        self._said: tuple[int, ...] = ()

    async def run(self) -> None:
        while True:
            await trio.sleep(self._interval)
            if self._raft.server.role is not Role.LEADER:
                continue
            context = context_of(self._state_machine)
            supported = self._report().supports
            if context.level < supported or context.wants_check:
                reports = await self._ask_all()
                self._decide(context, reports)

    def _decide(self, context: Context, reports: dict[str, NodeReport]) -> None:
        """Propose what all of these reports allow."""
        server = self._raft.server
        if server.role is not Role.LEADER:
            return
        supported = min(report.supports for report in reports.values())
        if context.level < supported and reports.keys() >= set(server.configuration.members):
            self._propose(EntryType.FEATURES, features.encode(min(supported, context.level + 1)))
        elif context.wants_check and not context.check_index:
            self._propose(EntryType.CHECK, check_payload(0, 0))
        elif context.wants_check:
            value = self._agreed(context.check_index, reports)
            if value is not None:
                self._propose(EntryType.CHECK, check_payload(context.check_index, value))

    def _agreed(self, index: int, reports: dict[str, NodeReport]) -> int | None:
        """The hash that a majority of voters has at that check; None if there is none yet."""
        voters = self._raft.server.configuration.voters
        values = Counter(
            report.check_hash
            for name, report in reports.items()
            if name in voters and report.check_index == index
        )
        if not values:
            return None
        value, count = values.most_common(1)[0]
        if count >= quorum.size(voters):
            return value
        if len(values) > 1 and (index, *values) != self._said:
            self._said = (index, *values)
            log.critical(
                "the states in front of entry %d differ, and no majority agrees on one: %s",
                index,
                ", ".join(
                    f"{name} has {report.check_hash:08x}" for name, report in reports.items()
                ),
            )
        return None

    def _propose(self, kind: EntryType, payload: bytes) -> None:
        try:
            self._raft.propose(trio.current_time(), [payload], kind)
        except (NotLeader, Busy):
            return
        self._kick()

    async def _ask_all(self) -> dict[str, NodeReport]:
        """Those members' reports that came in time, our own among them."""
        server = self._raft.server
        reports = {server.name: self._report()}
        reports.update(await poll(self._peers, server.peers, _TIMEOUT))
        return reports
