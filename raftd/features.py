"""What the cluster as a whole can do: a level, raised by an entry in the log once all members can.

    0   what the first version could
    1   checks: the state's hash stands in the log from time to time (raftd.state_hash)

A node that supports a level supports all below it. The leader proposes the next one when every
member has said that it supports it; from that entry on all use it, and an older raftd cannot follow
any more: it refuses the log, and its directory (raftd.storage.directory, format 2).
"""

from __future__ import annotations

CHECKS = 1
SUPPORTED = CHECKS


def encode(level: int) -> bytes:
    """The payload of a FEATURES entry."""
    return bytes([level])


class NotSupported(Exception):
    """The cluster uses more than this raftd can."""


def decode(payload: bytes) -> int:
    """Raises NotSupported for a level that this raftd does not support."""
    if len(payload) != 1:
        raise NotSupported("an entry about features makes no sense to this raftd")
    if payload[0] > SUPPORTED:
        raise NotSupported(
            f"the cluster uses feature level {payload[0]}, this raftd supports {SUPPORTED}:"
            " install a newer one"
        )
    return payload[0]
