"""The server's side of a Varlink message: the bytes of a call in, the bytes of a reply out.

Framing is the connection's; here a message is what stands before the NUL byte. Where a key comes
twice in an object, the last one counts (RFC 8259 leaves it open).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

from raftd.admin.protocol import CallError

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON, not the right one, or nested too deeply."""


class Malformed(Exception):
    """The bytes are no Varlink call; says why. The connection cannot go on."""


class Message(msgspec.Struct):
    """A call. Fields that are unknown here are left alone, as Varlink wants it."""

    method: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    oneway: bool | None = None
    more: bool | None = None
    upgrade: bool | None = None


_decoder = msgspec.json.Decoder(Message)


def decode(data: bytes | bytearray) -> Message:
    """Raises Malformed."""
    try:
        return _decoder.decode(data)
    except MALFORMED as error:
        raise Malformed(str(error)) from None


def encode(reply: Mapping[str, object]) -> bytes:
    """With the NUL byte. What cannot be written in UTF-8 becomes a question mark."""
    try:
        return msgspec.json.encode(reply) + b"\0"
    except UnicodeEncodeError:  # a file name that is no UTF-8, in a sentence about it
        text = json.dumps(msgspec.to_builtins(reply), ensure_ascii=False)
        return text.encode("utf-8", "replace") + b"\0"


def encode_error(error: CallError) -> bytes:
    return encode({"error": error.name, "parameters": error.parameters})
