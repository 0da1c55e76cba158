"""Bytes <-> Envelope: what one node sends another. `encode` is the way in, `decode` the way out.

    offset  size  field       (little-endian, unsigned)
    0       4     magic       b"RAFT"
    4       1     version     1
    5       4     length      bytes of header
    9       ...   header      msgpack: who sends what to whom, and the message but for its entries
    ...     ...   entries     an AppendEntriesRequest's: their records (raftd/record.py), unchanged,
                              back to back up to the end; nothing behind any other message

A message is valid if and only if all of that is there, every field of the header has its type
and range, and the records are whole (by their checksums), contiguous from prev_log_index + 1, of
terms that never fall and never exceed the message's. Everything else is a `DecodeError`; nothing
is allocated on the word of a length field alone.
"""

from __future__ import annotations

import re
import struct
from typing import Annotated

import msgspec

from raftd import record
from raftd.client_messages import NAME, ClientMessage, Name
from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry
from raftd.raft.messages import (
    AppendEntriesRequest,
    Counter,
    InstallSnapshotRequest,
    Message,
)

VERSION = 1
MAGIC = b"RAFT"
ID_BYTES = 16
_PREFIX = struct.Struct("<4sBI")

Id = Annotated[bytes, msgspec.Meta(min_length=ID_BYTES, max_length=ID_BYTES)]


class DecodeError(ValueError):
    """The bytes are no message; `reason` is one sentence that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class VersionMismatch(DecodeError):
    """The sender speaks another version of this protocol."""

    def __init__(self, theirs: int) -> None:
        super().__init__(
            f"the sender speaks version {theirs} of the peer protocol, this node version {VERSION}:"
            " install the same version of raftd on both"
        )
        self.theirs = theirs
        self.ours = VERSION


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A message with its sender (name, id and life of its data directory) and its recipient.

    `recipient_id` is the id the sender knows the recipient by, empty before they first met: a node
    whose data directory was wiped finds out from it.
    """

    cluster_id: Id
    sender: Name
    node_id: Id
    incarnation: Counter
    recipient: Name
    message: Message | ClientMessage
    recipient_id: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)
_is_name = re.compile(NAME).match


def encode(envelope: Envelope) -> bytes:
    """The bytes of `envelope`, which is taken to be in order: `decode` is what checks."""
    message = envelope.message
    if not isinstance(message, AppendEntriesRequest) or not message.entries:
        header = _encoder.encode(envelope)
        return _PREFIX.pack(MAGIC, VERSION, len(header)) + header
    without = msgspec.structs.replace(message, entries=())
    header = _encoder.encode(msgspec.structs.replace(envelope, message=without))
    prefix = _PREFIX.pack(MAGIC, VERSION, len(header))
    return b"".join([prefix, header, *[entry.record for entry in message.entries]])


def decode(data: bytes) -> Envelope:
    """The envelope in `data`.

    Raises VersionMismatch for another version of the protocol, DecodeError for anything else.
    """
    end = _header_end(data)
    view = memoryview(data)
    try:
        envelope = _decoder.decode(view[_PREFIX.size : end])
    except (ValueError, RecursionError) as error:
        # A ValueError, because msgspec raises UnicodeDecodeError for text that is not UTF-8.
        raise DecodeError(f"the header is wrong: {_printable(error)}") from error
    if envelope.recipient_id and len(envelope.recipient_id) != ID_BYTES:
        raise DecodeError(f"recipient_id has {len(envelope.recipient_id)} bytes, not {ID_BYTES}")
    message = envelope.message
    if isinstance(message, AppendEntriesRequest):
        if message.entries:
            raise DecodeError("the header is wrong: entries belong behind it")
        if message.prev_log_term > message.term:
            raise DecodeError(
                f"prev_log_term {message.prev_log_term} is above the message's term {message.term}"
            )
        if end < len(data):
            # Nobody else has seen this message yet.
            msgspec.structs.force_setattr(message, "entries", _entries(message, view[end:]))
    elif end < len(data):
        raise DecodeError(f"{len(data) - end} bytes too many behind the message")
    elif isinstance(message, InstallSnapshotRequest):
        _check_members(message.configuration)
    return envelope


def _header_end(data: bytes) -> int:
    """Where the header ends that begins behind the first fields."""
    if not data.startswith(MAGIC):
        raise DecodeError("this is no message between raftd nodes: it does not start with 'RAFT'")
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise VersionMismatch(data[len(MAGIC)])
    if len(data) < _PREFIX.size:
        raise DecodeError(f"the message ends after {len(data)} bytes, in its first fields")
    length: int = _PREFIX.unpack_from(data)[2]
    end = _PREFIX.size + length
    if end > len(data):
        present = len(data) - _PREFIX.size
        raise DecodeError(f"a header of {length} bytes is announced, {present} are there")
    return end


def _entries(message: AppendEntriesRequest, records: memoryview) -> tuple[Entry, ...]:
    try:
        entries = tuple(record.decode_all(records))
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the entries are damaged: {_printable(error)}") from error
    index, term = message.prev_log_index, message.prev_log_term
    for entry in entries:
        index += 1
        if entry.index != index:
            raise DecodeError(f"entry {entry.index} stands where {index} belongs")
        if not term <= entry.term <= message.term:
            raise DecodeError(
                f"entry {index} has term {entry.term}, which is not between its predecessor's"
                f" {term} and the message's {message.term}"
            )
        term = entry.term
        if entry.configuration is not None:
            _check_members(entry.configuration)
    return entries


def _check_members(configuration: Configuration) -> None:
    for name in (*configuration.members, *configuration.addresses):
        if not _is_name(name):
            raise DecodeError(f"{_printable(name)!r} in a configuration is no name of a node")


def _printable(what: object) -> str:
    """Fit for a log and a terminal, though a stranger chose the words."""
    text = str(what)[:200]
    return "".join(character if character.isprintable() else "?" for character in text)
