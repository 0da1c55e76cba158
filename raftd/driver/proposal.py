"""A command on its way through the log, and what will have become of it."""

from __future__ import annotations

import msgspec

from raftd.promise import Promise


class Applied(msgspec.Struct, frozen=True):
    """What became of a command: where it stands in the log, and the state machine's answer."""

    index: int
    term: int
    result: bytes


class Proposal(Promise[Applied]):
    """Fails with NoQuorum if it was certainly not done, with OutcomeUnknown soon after `deadline`,
    in trio's seconds; see raftd.driver.errors for the rest."""

    __slots__ = ("deadline", "payload", "term")

    def __init__(self, payload: bytes, deadline: float) -> None:
        super().__init__()
        self.payload = payload
        self.deadline = deadline
        self.term = 0
        """Of the entry it became; 0: none yet."""
