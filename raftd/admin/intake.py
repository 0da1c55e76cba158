"""Many clients' sockets, read by one task: an epoll(7) set of its own inside the event loop's.

A task for each connection would cost two switches and two system calls for each call that comes.
Here one look finds all sockets that have something, and what they have is begun together, so that
it goes into one entry batch. What else has to be done for a connection soon, is done by a second
task, for all of them together.
"""

from __future__ import annotations

import select
import socket
from typing import Protocol

import trio

from raftd.doorbell import doorbell

_AT_ONCE = 128
"""connections that are read before other tasks get their turn"""


_LOOK_EVERY = 1.0
"""seconds"""


class Source(Protocol):
    """All must be quick, and raise nothing."""

    def read(self) -> None:
        """The socket has something."""
        ...

    def proceed(self) -> None:
        """`Intake.soon` was asked for."""
        ...

    def look(self, now: float) -> bool:
        """`Intake.look_after` was asked for. False: no more looks are needed."""
        ...


class Intake:
    def __init__(self) -> None:
        self._bell = doorbell()
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}
        self._soon: dict[Source, None] = {}
        self._wake = trio.Event()
        self._doubtful: set[Source] = set()
        self._doubts = trio.Event()

    def watch(self, sock: socket.socket, source: Source) -> None:
        """Have `source` read whenever the socket has something, or has ended."""
        self._sources[sock.fileno()] = source
        self._epoll.register(sock, select.EPOLLIN)

    def unwatch(self, sock: socket.socket) -> None:
        del self._sources[sock.fileno()]
        self._epoll.unregister(sock)

    def soon(self, source: Source) -> None:
        """Have `source` proceed once the tasks that run now have had their turn."""
        if not self._soon:
            self._wake.set()
        self._soon[source] = None

    def look_after(self, source: Source) -> None:
        """Have `source` look now and then whether all is well with its client."""
        self._doubtful.add(source)
        self._doubts.set()

    def close(self) -> None:
        """When nothing is watched any more."""
        self._epoll.close()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._proceed)
            nursery.start_soon(self._look)
            await self._read()

    async def _read(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll)
            self._bell.begin_turn()
            for descriptor, _ in self._epoll.poll(0, _AT_ONCE):
                source = self._sources.get(descriptor)
                if source is not None:
                    source.read()
            self._bell.end_turn()

    async def _proceed(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            soon, self._soon = self._soon, {}
            self._bell.begin_turn()
            for source in soon:
                source.proceed()
            self._bell.end_turn()

    async def _look(self) -> None:
        while True:
            await self._doubts.wait()
            await trio.sleep(_LOOK_EVERY)
            now = trio.current_time()
            self._doubtful = {source for source in self._doubtful if source.look(now)}
            if not self._doubtful:
                self._doubts = trio.Event()
