"""Calls of one connection that wait for something of their own: each has a task, while they last.

One that came with "more" is a stream: its handler sends replies until it returns, or until the
client is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from raftd.admin import message
from raftd.admin.handlers.call import Call, Reply
from raftd.admin.handlers.dispatch import Method
from raftd.admin.replies import Place, Replies


class Tasks:
    """`spawn` starts a task; `on_end` is called when a call is over, before its reply is filled
    in."""

    def __init__(
        self,
        caller: Call,
        replies: Replies,
        *,
        spawn: Callable[..., Any],
        on_end: Callable[[], None],
    ) -> None:
        self._caller = caller
        self._replies = replies
        self._spawn = spawn
        self._on_end = on_end
        self._streams: set[trio.CancelScope] = set()

    @property
    def has_streams(self) -> bool:
        return bool(self._streams)

    def begin(
        self, place: Place, method: Method, arguments: tuple[Any, ...], *, stream: bool
    ) -> None:
        if stream and not place.oneway:
            scope = trio.CancelScope()
            self._streams.add(scope)
            self._spawn(self._stream, place, method, arguments, scope)
        else:
            self._spawn(self._answer, place, method, arguments, self._caller)

    def end_streams(self) -> None:
        for scope in self._streams:
            scope.cancel()

    async def _answer(
        self, place: Place, method: Method, arguments: tuple[Any, ...], caller: Call
    ) -> None:
        try:
            data = message.encode({"parameters": await method.handler(caller, *arguments)})
        except Exception as error:
            data = message.encode_error(method.failure(error))
        finally:
            self._on_end()
        self._replies.fill(place, data)

    async def _stream(
        self, place: Place, method: Method, arguments: tuple[Any, ...], scope: trio.CancelScope
    ) -> None:
        with scope:
            send = partial(self._send_part, place)
            caller = Call(self._caller.uid, self._caller.privileged, send)
            await self._answer(place, method, arguments, caller)
        self._streams.discard(scope)
        if scope.cancelled_caught:
            self._replies.break_off()  # its place stays empty: nothing behind it can be sent

    async def _send_part(self, place: Place, reply: Reply) -> None:
        part = message.encode({"parameters": reply, "continues": True})
        await self._replies.send_part(place, part)
