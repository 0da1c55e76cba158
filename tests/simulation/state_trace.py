"""The state trace of a whole simulated cluster, in the order in which things happen."""

from __future__ import annotations

from raftd.state_trace.events import Event, State, line
from tests.simulation.events import Events

EPOCH = 1_000_000_000
"""Seconds: all times have the same number of digits."""


class StateTrace:
    """`lines` grows. One for a World: it sets `events`, whose time counts."""

    events: Events

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._time = 0
        self._durable: dict[str, State] = {}

    def write(self, event: Event) -> None:
        self._time = max(self._time + 1, int((EPOCH + self.events.now) * 1e9))
        self.lines.append(line(event, self._time))
        if event.name == "Ready":
            self._durable[event.nid] = event.state

    def durable(self, node: str) -> State | None:
        return self._durable.get(node)
