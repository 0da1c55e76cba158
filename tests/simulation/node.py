"""What outlives a node's processes: its drive, its clock, and what it has promised."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from raftd.raft.configuration import Configuration
from tests.simulation.drive import Drive
from tests.simulation.files import DiskFaults
from tests.simulation.machine import Machine
from tests.simulation.shadow import Durable

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Clock:
    """A node's monotonic clock: it runs `rate` times as fast as virtual time."""

    __slots__ = ("_base", "_since", "rate")

    def __init__(self, base: float) -> None:
        self.rate = 1.0
        self._base = base
        self._since = 0.0

    def local(self, now: float) -> float:
        return self._base + (now - self._since) * self.rate

    def virtual(self, local: float) -> float:
        """The virtual time at which this clock shows at least `local`."""
        return self._since + (local - self._base) / self.rate + 1e-9

    def set_rate(self, now: float, rate: float) -> None:
        self._base = self.local(now)
        self._since = now
        self.rate = rate


class Node:
    """`process` is None while it is down. `machine` is the state machine's state on disk."""

    def __init__(self, name: str, seed: str, initial: Configuration) -> None:
        self.name = name
        self.random = Random(f"node {name} {seed}")
        self.drive = Drive(self.random)
        self.disk_faults = DiskFaults()
        self.clock = Clock(self.random.uniform(0.0, 1000.0))
        self.process: Process | None = None
        self.machine: Machine | None = None
        self.lives = 0
        self.rotten = False
        """A bit of its drive flipped, and nobody has noticed yet."""
        self.excluded = ""
        """Why it does not count any more: it was found damaged, or was wiped."""
        self.is_left_out = False
        """Nobody starts it any more."""
        self.met: frozenset[str] = frozenset()
        """The peers whose identity its disk knows."""
        self.membership_index = 0
        """The entry that admitted it; 0: it was there from the beginning."""
        self.initial = initial
        self.durable = Durable(initial)
        self.slow_disk = 0.0
        """Seconds that a save may take on top."""
