"""What raftd needs of nng contexts (nng_ctx(5)), and where pynng 0.9 falls short of it.

* nng_ctx_send(3) gives a message back when it could not be sent; pynng forgets it, and it leaks.
* A received message knows its connection; pynng looks that up in a table that it then lets grow.
* Closing a context behind its socket is no error here.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import pynng
from pynng._aio import AIOHelper


class Received(NamedTuple):
    """A message, and nng's number for the connection it came by."""

    data: bytes
    pipe_id: int


async def send(context: pynng.Context, data: bytes) -> None:
    """Raises pynng.NNGException; then, and when cancelled, nothing has left and nothing will."""
    message = pynng.Message(data)
    try:
        await context.asend_msg(message)
    except BaseException:
        # It is ours again, to be freed with the object.
        message._mem_freed = False  # noqa: SLF001
        raise


async def receive(context: pynng.Context) -> Received:
    """The next message. Raises pynng.NNGException."""
    with AIOHelper(context, "trio") as operation:
        message = await operation.arecv_msg()
    pipe = pynng.lib.nng_msg_get_pipe(message._nng_msg)  # noqa: SLF001
    return Received(message.bytes, pynng.lib.nng_pipe_id(pipe))


def close(context: pynng.Context) -> None:
    """Whatever the context was waiting for ends with pynng.Closed."""
    with contextlib.suppress(pynng.Closed):
        context.close()
