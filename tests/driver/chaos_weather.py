"""What a seed of chaos.py decides before anything happens, and the weather that comes of it."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import trio

from raftd import codec
from raftd.raft.messages import Request
from raftd.raft.state import Settings
from tests.driver.cluster import Weather

OFTEN_SLOW = frozenset(
    {
        "_durable_sha256",
        "adopt_snapshot",
        "apply_entries",
        "compact",
        "install_snapshot",
        "read",
        "remember_peer",
        "restore",
        "snapshot",
    }
)
"""Work that meets other work when it takes long."""


class Plan(msgspec.Struct, frozen=True):
    """Times in virtual seconds, sizes in bytes; the rest are shares of messages, or of work."""

    seed: int
    nodes: int
    settings: Settings
    log_tail_bytes: int
    save_time: float
    lost: float
    late: float
    doubled: float
    stalled: float
    changes_members: bool


def plan(seed: int) -> Plan:
    choice = Random(f"plan {seed}").choice
    return Plan(
        seed,
        nodes=choice((3, 3, 5)),
        settings=Settings(
            election_timeout=(0.5, 1.0),
            heartbeat_interval=0.1,
            max_append_bytes=choice((1000, 4000, 1 << 20)),
            max_in_flight=choice((1, 2, 4)),
            tail_bytes=choice((0, 2000, 1 << 20)),
            snapshot_chunk_bytes=choice((2048, 8192)),
        ),
        log_tail_bytes=choice((0, 8192)),
        save_time=choice((0.004, 0.004, 0.03)),
        lost=choice((0.0, 0.02, 0.1)),
        late=choice((0.0, 0.02)),
        doubled=choice((0.0, 0.1)),
        stalled=choice((0.0, 0.002, 0.01)),
        changes_members=seed % 3 == 0,
    )


class Storm(Weather):
    """Until it is `over`. `faults` counts what it did."""

    def __init__(self, plan: Plan, dice: Random) -> None:
        self._plan = plan
        self._dice = dice
        self.over = False
        self.faults: Counter[str] = Counter()

    async def hop(self, source: str, target: str) -> None:
        await trio.sleep(self._dice.uniform(0.0005, 0.005))
        if self._happens(self._plan.late, "late"):
            await trio.sleep(self._dice.uniform(0, 3))
        if self._happens(self._plan.lost, "lost"):
            await trio.sleep_forever()

    def doubles(self, request: bytes) -> bool:
        """Only what the algorithm asks: a client's command is never sent twice."""
        return self._happens(self._plan.doubled, "doubled") and isinstance(
            codec.decode(request).message, Request
        )

    async def work(self, what: str) -> None:
        if self.over or what == "<lambda>":  # which cleans up, whatever ends its caller
            await trio.lowlevel.checkpoint()
            return
        await trio.sleep(self._dice.uniform(0, self._plan.save_time))
        slow = 0.3 if what in OFTEN_SLOW else self._plan.stalled
        if self._happens(slow, "stalled save" if what == "save" else "slow work"):
            await trio.sleep(self._dice.choice((0.05, 0.5, 2, 15)) * self._dice.random())

    def _happens(self, share: float, what: str) -> bool:
        if self.over or self._dice.random() >= share:
            return False
        self.faults[what] += 1
        return True
