"""A context of an nng socket (nng_ctx(5)): one message after the other, out and in, by callbacks.

pynng 0.9 has this as well, and it falls short here:
* nng_ctx_send(3) gives a message back when it could not be sent; pynng forgets it, and it leaks.
* A received message knows its connection; pynng looks that up in a table that it then lets grow.
* For each message it makes an asynchronous operation anew and wakes trio the long way, even when
  a message is sent at once. That was half of the processor time of a round trip.
"""

from __future__ import annotations

from collections.abc import Callable

import pynng
from pynng import ffi, lib
from pynng._aio import _aio_map
from pynng.exceptions import check_err

from raftd.doorbell import doorbell

Received = Callable[[bytes, int], None]
"""A message, and nng's number for the connection a request came by."""


class Context:
    """Of `socket`."""

    def __init__(
        self,
        socket: pynng.Socket,
        received: Received,
        failed: Callable[[pynng.NNGException], None],
    ) -> None:
        """Each `receive` is followed by one call in the event loop, of `received` or of `failed`;
        by none if it was closed."""
        self._is_request = isinstance(socket, pynng.Req0)
        self._context = socket.new_context()
        self._ring = doorbell().ring
        self._received = received
        self._failed = failed
        self._closed = False
        self._is_receiving = False
        place = ffi.new("nng_aio **")
        # pynng calls back what _aio_map has for a number, once, from a thread of nng's.
        self._arrives = self._arrived
        self._number = id(self._arrives)
        number = ffi.cast("void *", self._number)
        check_err(lib.nng_aio_alloc(place, lib._async_complete, number))  # noqa: SLF001
        self._receiving = place[0]
        check_err(lib.nng_aio_alloc(place, ffi.NULL, ffi.NULL))
        self._sending = place[0]
        self._is_sending = False
        self._sent = False
        self._place = ffi.new("nng_msg **")

    def send(self, data: bytes) -> bool:
        """True: it has left. False: the connection is full, and it leaves when that has room.
        Raises pynng.NNGException; then nothing leaves."""
        self._sent = False
        if self._closed:
            check_err(lib.NNG_ECLOSED)
        place = self._place
        check_err(lib.nng_msg_alloc(place, 0))
        message = place[0]
        check_err(lib.nng_msg_append(message, data, len(data)))
        # A reply that was tried in vain is lost: nng forgets whom it answers.
        at_once = lib.NNG_FLAG_NONBLOCK
        if self._is_request and lib.nng_ctx_sendmsg(self._context.context, message, at_once) == 0:
            self._sent = True
            return True
        lib.nng_aio_set_msg(self._sending, message)
        lib.nng_ctx_send(self._context.context, self._sending)
        self._is_sending = True
        return self.has_sent()

    def has_sent(self) -> bool:
        """Whether the last one has left. Raises pynng.NNGException if it never will."""
        if self._is_sending and not lib.nng_aio_busy(self._sending):
            check_err(self._sending_ended())
        return self._sent

    def stop_sending(self) -> bool:
        """Whether the last one has left. If not, it never will."""
        if self._is_sending:
            lib.nng_aio_cancel(self._sending)
            lib.nng_aio_wait(self._sending)
            self._sending_ended()
        return self._sent

    def _sending_ended(self) -> int:
        """nng's error; 0: it has left."""
        error: int = lib.nng_aio_result(self._sending)
        self._is_sending = False
        self._sent = error == 0
        if not self._sent:
            lib.nng_msg_free(lib.nng_aio_get_msg(self._sending))  # it is ours again
        return error

    def receive(self) -> None:
        """The next message, or the answer to what was sent, even if that is still to leave."""
        if self._closed:
            return
        self._is_receiving = True
        _aio_map[self._number] = self._arrives
        lib.nng_ctx_recv(self._context.context, self._receiving)

    def close(self) -> None:
        """Nothing is called back any more. Closing twice is no error. Before the socket."""
        if self._closed:
            return
        self._closed = True
        self._context.close()
        self.stop_sending()
        if not self._is_receiving:
            self._free()

    def _arrived(self) -> None:
        """In nng's thread: the operation has ended."""
        self._ring(self._take)

    def _take(self) -> None:
        self._is_receiving = False
        error = lib.nng_aio_result(self._receiving)
        if error != 0:
            if self._closed:
                self._free()
            else:
                self._failed(_exception(error))
            return
        message = lib.nng_aio_get_msg(self._receiving)
        data = ffi.buffer(lib.nng_msg_body(message), lib.nng_msg_len(message))[:]
        pipe_id = 0 if self._is_request else lib.nng_pipe_id(lib.nng_msg_get_pipe(message))
        lib.nng_msg_free(message)
        if self._closed:
            self._free()
        else:
            self._received(data, pipe_id)

    def _free(self) -> None:
        _aio_map.pop(self._number, None)
        del self._arrives  # it refers to this
        lib.nng_aio_free(self._receiving)
        lib.nng_aio_free(self._sending)


def _exception(error: int) -> pynng.NNGException:
    try:
        check_err(error)
    except pynng.NNGException as exception:
        return exception
    raise AssertionError(error)
