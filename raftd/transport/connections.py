"""The connections that a socket has now; those that others opened, not too many.

nng accepts whatever connects. A member uses its connection all the time, so when there are too
many, the one that has been silent for longest is closed: a flood cannot shut the members out.

pynng 0.9 has a table of its own (Socket.pipes), but nng may report that a connection stands after
it has reported its end, and then that table keeps it for ever.
"""

from __future__ import annotations

import contextlib
import logging
import threading

import pynng

from raftd.transport import tls

log = logging.getLogger("raftd.transport")


class Connections:
    """At most `limit` at a time. nng calls in from threads of its own."""

    def __init__(self, socket: pynng.Socket, limit: int) -> None:
        """`socket` neither listens nor dials yet."""
        self._limit = limit
        self._lock = threading.Lock()
        self._pipes: dict[int, tuple[pynng.Pipe, str | None]] = {}
        """With whose certificate the other end has shown, if any."""
        self._closed = 0
        socket.add_pre_pipe_connect_cb(self._added)
        socket.add_post_pipe_connect_cb(self._stands)
        socket.add_post_pipe_remove_cb(self._removed)

    def __len__(self) -> int:
        return len(self._pipes)

    def used(self, pipe_id: int) -> None:
        """Something came by this connection just now."""
        with self._lock:
            if (known := self._pipes.pop(pipe_id, None)) is not None:
                self._pipes[pipe_id] = known

    def name_of(self, pipe_id: int) -> str | None:
        """Whose certificate the other end has shown; None: none, or the connection has gone."""
        with self._lock:
            return self._pipes[pipe_id][1] if pipe_id in self._pipes else None

    def close(self, pipe_id: int) -> None:
        with self._lock:
            known = self._pipes.get(pipe_id)
        if known is not None:
            _close(known[0])

    def _added(self, pipe: pynng.Pipe) -> None:
        name = tls.name_at(pipe)
        with self._lock:
            self._pipes[pipe.id] = (pipe, name)
            if len(self._pipes) <= self._limit:
                return
            longest_silent, _ = self._pipes.pop(next(iter(self._pipes)))
            self._closed += 1
            count = self._closed
        _close(longest_silent)
        if count & (count - 1) == 0:
            log.warning(
                "more than %d connections from other nodes: closed the one silent for longest"
                " (%d closed so far); who connects here that often?",
                self._limit,
                count,
            )

    def _stands(self, pipe: pynng.Pipe) -> None:
        with self._lock:
            known = pipe.id in self._pipes
        if not known:
            # Under pynng's lock, which holds while it calls us.
            pipe.socket._pipes.pop(pipe.id, None)  # noqa: SLF001

    def _removed(self, pipe: pynng.Pipe) -> None:
        with self._lock:
            self._pipes.pop(pipe.id, None)


def _close(pipe: pynng.Pipe) -> None:
    with contextlib.suppress(pynng.NNGException):
        pipe.close()
