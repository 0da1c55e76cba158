"""What is under way in a test network: copies of messages, each belonging to one request."""

from __future__ import annotations

from typing import NamedTuple

from raftd.raft.messages import Message


class Call(NamedTuple):
    """A request: who asked whom, and under which id (made unique over the asker's lives)."""

    sender: str
    to: str
    id: int


class Packet:
    """One copy of a message under way; `call` is the request that it is, or that it answers."""

    __slots__ = ("call", "message", "sender", "to")

    def __init__(self, sender: str, to: str, message: Message, call: Call) -> None:
        self.sender = sender
        self.to = to
        self.message = message
        self.call = call

    def __repr__(self) -> str:
        return f"{self.sender}->{self.to} {self.message}"
