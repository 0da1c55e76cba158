"""How much of the daemon the clients of its socket may use, together and each."""

from __future__ import annotations

from typing import Self

import msgspec

from raftd.admin import protocol


class Limits(msgspec.Struct, frozen=True):
    """Times in seconds."""

    connections: int = 1024
    reserved: int = 8
    """connections beyond these that root may have: who is to find out why there are so many?"""
    message_bytes: int = protocol.MAX_MESSAGE_BYTES
    """one call; also where a connection's calls and replies in flight stop it from being read"""
    in_flight: int = 1024
    """calls on one connection that are begun before the first of them is answered"""
    memory_bytes: int = 256 << 20
    """calls and replies of all connections together"""
    message_timeout: float = 30.0
    """from the first byte of a call to its last"""
    write_timeout: float = 30.0
    """for a client that does not read its replies"""
    stream_write_timeout: float = 600.0
    """the same while it follows the log: somebody may be reading page by page"""
    grace: float = 2.0
    """for calls that are under way when the daemon stops"""

    @classmethod
    def for_entries(cls, entry_bytes: int, connections: int) -> Self:
        """Limits under which a command of `entry_bytes` fits into a call, and one that is a little
        larger is still read and answered with TooLarge."""
        message_bytes = max(protocol.MAX_MESSAGE_BYTES, 2 * entry_bytes + (64 << 10))
        return cls(connections=connections, message_bytes=message_bytes)


class Memory:
    """Bytes that all connections share."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._reserve = size // 4

    @property
    def is_short(self) -> bool:
        """What is left is for those who hold nothing yet."""
        return self.free < self._reserve

    def take(self, size: int) -> bool:
        """False, and nothing taken, if there is not that much. A negative size gives back."""
        if size > self.free:
            return False
        self.free -= size
        return True
