"""What state machines do and what clients are told, over all nodes: it rests on what is committed.

state machine safety   nobody applies other entries than others, in another order, with other
                       results, or before they are on its own disk
snapshot               holds the same state, at the same index, on every node
acknowledged is kept   what a client was told is what was applied
no stale read          a read sees whatever any client knew when it was asked (tests/simulation/
                       clients.py compares with `read_floor`)
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from raftd.raft.log import Entry
from raftd.raft.state import SnapshotMetadata
from tests.simulation.checker import Checker
from tests.simulation.machine import Machine
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Outcomes:
    """`read_floor`: the index of the newest state that some client knows of."""

    def __init__(self, checker: Checker) -> None:
        self._committed = checker.committed
        self._applied: list[tuple[int, bytes]] = []
        self._images: dict[int, str] = {}
        self.read_floor = 0

    def applied(self, process: Process, entries: list[Entry], results: list[bytes]) -> None:
        for entry, result in zip(entries, results, strict=True):
            index, term = entry.index, entry.term
            if index > len(self._committed) or self._committed[index - 1] != term:
                raise Violation(
                    "state machine safety",
                    f"{process.name} applies entry {index} of term {term}, which is not committed",
                )
            if not process.node.durable.log.has(index, term):
                raise Violation(
                    "state machine safety",
                    f"{process.name} applies entry {index} of term {term}, not saved here yet",
                )
            if index > len(self._applied):
                self._applied.append((term, result))
            elif self._applied[index - 1] != (term, result):
                raise Violation(
                    "state machine safety",
                    f"{process.name} applies entry {index} with another result than others",
                )

    def snapshot_taken(self, process: Process, metadata: SnapshotMetadata) -> None:
        index = metadata.last_included_index
        if self._committed[index - 1] != metadata.last_included_term:
            raise Violation("snapshot", f"{process.name} takes one of a wrong term at {index}")
        self.same_image(process.name, process.machine)

    def restored(self, process: Process, index: int) -> None:
        if process.machine.last_applied != index:
            raise Violation(
                "snapshot",
                f"{process.name} restored a state at {process.machine.last_applied}, not {index}",
            )
        self.same_image(process.name, process.machine)

    def same_image(self, name: str, machine: Machine) -> None:
        """The state that comes from a snapshot, or goes into one."""
        index = machine.last_applied
        image = hashlib.sha256(machine.image()).hexdigest()
        if self._images.setdefault(index, image) != image:
            raise Violation("snapshot", f"{name} has another state than others at {index}")

    # ---- clients

    def acknowledged(self, index: int, result: bytes) -> None:
        """A client was told that the entry there is its own, and what it did."""
        if index > len(self._applied) or self._applied[index - 1][1] != result:
            raise Violation("acknowledged is kept", f"entry {index} is not what a client was told")
        self.seen(index)

    def seen(self, index: int) -> None:
        """A client knows of the state at `index`."""
        self.read_floor = max(self.read_floor, index)
