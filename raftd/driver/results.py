"""What this node's own state machine says to commands that a leader carries for it.

A leader's answer to forwarded commands has room for some large results, not for many. Every node
applies every command, so the others are found here.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from raftd import record
from raftd.driver.applier import Applier
from raftd.driver.errors import OutcomeUnknown
from raftd.driver.proposal import Applied, Proposal
from raftd.raft.log import Entry

LARGE = 64
"""Bytes of a result that an answer always has room for."""
KEPT_BYTES = 64 << 20
"""How many large results wait for the leader's answer."""


class Results:
    """Keeps those of `batch`, if they are large, while it is entered: this node may apply a command
    before it hears from the leader which entry that is. Of very many, the later ones are let go."""

    def __init__(self, applier: Applier, batch: Sequence[Proposal]) -> None:
        self._applier = applier
        self._batch = batch
        self._payloads: frozenset[bytes] | None = None
        self._kept: dict[tuple[int, int], bytes | None] = {}
        self._room = KEPT_BYTES

    def __enter__(self) -> Self:
        self._applier.watchers.append(self._applied)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._applier.watchers.remove(self._applied)
        self._kept.clear()

    def answer(self, write: Proposal, index: int, term: int) -> None:
        """Now, or once this node has applied it."""
        if (index, term) in self._kept:
            result = self._kept.pop((index, term))
            if result is not None:
                write.set(Applied(index, term, result))
            else:
                write.fail(
                    OutcomeUnknown(
                        f"entry {index} was applied, but its answer is lost: there were too many"
                        " large ones at a time"
                    )
                )
        elif index > self._applier.applied_index:
            self._applier.expect(index, term, [write])
        else:
            write.fail(OutcomeUnknown(f"a snapshot brought entry {index}, but not its result"))

    def _applied(self, entries: Sequence[Entry], results: list[bytes]) -> None:
        if max(map(len, results), default=0) <= LARGE:
            return
        if self._payloads is None:
            self._payloads = frozenset(write.payload for write in self._batch)
        for entry, result in zip(entries, results, strict=True):
            if len(result) > LARGE and entry.record[record.HEADER_SIZE :] in self._payloads:
                fits = len(result) <= self._room
                self._kept[entry.index, entry.term] = result if fits else None
                self._room -= len(result) if fits else 0
