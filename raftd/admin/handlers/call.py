"""One call as a handler sees it, and the checks of parameters that more than one handler makes.

A handler is a method named like the Varlink method, in snake_case: `handler(call, **parameters)`.
It returns the reply's parameters, or `Later`, or raises `CallError`. One that is no coroutine must
be quick.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from raftd.admin.protocol import INVALID_PARAMETER, CallError
from raftd.promise import Promise

Reply = Mapping[str, object]
T = TypeVar("T")


class Later(Generic[T]):
    """The reply that `to_reply` makes of what `promise` brings. Thousands of calls may wait like
    this, so it takes no task. `to_reply` may raise CallError."""

    __slots__ = ("promise", "to_reply")

    def __init__(self, promise: Promise[T], to_reply: Callable[[T], Reply]) -> None:
        self.promise = promise
        self.to_reply = to_reply


Handler = Callable[..., Reply | Later[Any] | Awaitable[Reply]]

MAX_TIMEOUT_MS = 60_000


class Call(msgspec.Struct, frozen=True):
    """`privileged`: root, or the user that the daemon runs as. `send` gives one reply of many, and
    waits until the client has room for it; None unless the call came with "more"."""

    uid: int
    privileged: bool
    send: Callable[[Reply], Awaitable[None]] | None = None


def invalid(parameter: str) -> CallError:
    return CallError(INVALID_PARAMETER, {"parameter": parameter})


def timeout_seconds(timeout_ms: int | None, default_ms: int) -> float:
    """At most MAX_TIMEOUT_MS: what is asked beyond that is cut. Raises CallError."""
    if timeout_ms is None:
        timeout_ms = default_ms
    if timeout_ms < 1:
        raise invalid("timeout_ms")
    return min(timeout_ms, MAX_TIMEOUT_MS) / 1000


def from_base64(parameter: str, text: str) -> bytes:
    """RFC 4648 with padding and nothing else. Raises CallError."""
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError:
        raise invalid(parameter) from None


def to_base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")
