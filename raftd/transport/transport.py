"""Provisional stand-in until the real one is here (to be replaced by its owner)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pynng
import trio


class Unreachable(Exception):
    pass


class AddressInUse(Exception):
    pass


class CannotListen(Exception):
    pass


class Transport:
    def __init__(self, listen: str, *, max_message_bytes: int, receivers: int = 16) -> None:
        self.listen, self.receivers, self.peers = listen, receivers, {}

    async def serve(self, handler, *, task_status=trio.TASK_STATUS_IGNORED):
        with pynng.Rep0(listen=self.listen) as rep:
            async with trio.open_nursery() as n:
                for _ in range(self.receivers):
                    n.start_soon(self._receive, rep, handler)
                task_status.started()

    async def _receive(self, rep, handler):
        with rep.new_context() as c:
            while True:
                data = await c.arecv()
                answer = await handler(data)
                if answer is not None:
                    await c.asend(answer)

    def set_peer(self, name, address):
        s = pynng.Req0(resend_time=-1, reconnect_time_min=50, reconnect_time_max=500)
        s.dial(address, block=False)
        self.peers[name] = s

    def remove_peer(self, name):
        self.peers.pop(name).close()

    async def call(self, peer, request, timeout):
        try:
            with trio.fail_after(timeout):
                with self.peers[peer].new_context() as c:
                    await c.asend(request)
                    return await c.arecv()
        except (trio.TooSlowError, pynng.NNGException) as e:
            raise Unreachable(str(e) or "no answer in time") from e

    async def aclose(self):
        for s in self.peers.values():
            s.close()
