"""Why a call on the cluster was not done. The message is a sentence for the person who asked."""

from __future__ import annotations


class CallFailed(Exception):
    """The call had no effect, unless the class says otherwise."""


class NoQuorum(CallFailed):
    """No leader, or no majority, within the call's time. The call had no effect."""


class OutcomeUnknown(CallFailed):
    """The command was on its way into the log when contact was lost: it may still be applied."""


class Busy(CallFailed):
    """A queue is full; nothing was queued. Try again a little later."""


class TooLarge(CallFailed):
    """The command is larger than an entry may be."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"{size} bytes are more than an entry may have ({limit})")
        self.size = size
        self.limit = limit


class Refused(CallFailed):
    """The call would be unsafe, or makes no sense now."""


class NoSuchMember(CallFailed):
    """No member has that name."""


class NoSuchEntry(CallFailed):
    """The log has no entry at that index (any more)."""

    def __init__(self, index: int, first_index: int, last_index: int) -> None:
        super().__init__(f"no entry {index}: this node's log has {first_index} to {last_index}")
        self.index = index
        self.first_index = first_index
        self.last_index = last_index


class NoSuchState(CallFailed):
    """Snapshot and log do not reach that entry."""

    def __init__(self, index: int, first_index: int, last_index: int) -> None:
        super().__init__(
            f"no state behind entry {index}: this node can give those behind entries"
            f" {first_index} to {last_index}"
        )
        self.index = index
        self.first_index = first_index
        self.last_index = last_index
