"""One call as a handler sees it, and the checks of parameters that more than one handler makes.

A handler is a method named like the Varlink method, in snake_case, with the same parameters in the
same order: `handler(call, *parameters)`. It returns the reply's parameters, or `Later`, or raises
`CallError`. One that is no coroutine must be quick. A string that it takes as `bytes` comes in
base64; bytes in a reply are sent so.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from raftd.admin.protocol import INVALID_PARAMETER, CallError
from raftd.promise import Promise

Reply = Mapping[str, object]
T = TypeVar("T")


class Later(msgspec.Struct, Generic[T], eq=False):
    """The reply that `to_reply` makes of what `promise` brings. Thousands of calls may wait like
    this, so it takes no task. `to_reply` may raise CallError."""

    promise: Promise[T]
    to_reply: Callable[[T], Reply]


Handler = Callable[..., Any]
"""to `Reply`, `Later`, or an awaitable of `Reply`"""

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
        return default_ms / 1000
    if timeout_ms < 1:
        raise invalid("timeout_ms")
    return min(timeout_ms, MAX_TIMEOUT_MS) / 1000


def from_base64(parameter: str, text: str) -> bytes:
    """RFC 4648 with padding and nothing else. Raises CallError."""
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError:
        raise invalid(parameter) from None
