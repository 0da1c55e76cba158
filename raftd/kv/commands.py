"""What clients may ask of the key-value store, and what it answers. Keys and values are bytes.

A revision is the log index of the entry that made a change: `raftctl log show REVISION` shows who
did it. Commands go through the log; queries do not.
"""

from __future__ import annotations

import msgspec

MAX_RANGE = 1000


class Put(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    key: bytes
    value: bytes


class Delete(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    key: bytes


class CompareAndSet(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """Set `key` to `value` (None: delete it) if its revision is `expected_revision` (0: it does not
    exist), or, when that is None, if its value is `expected_value` (None: it does not exist)."""

    key: bytes
    expected_revision: int | None
    expected_value: bytes | None
    value: bytes | None


Command = Put | Delete | CompareAndSet


class Changed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """Done. `existed`: the key existed before. A delete of nothing changes nothing but is done."""

    revision: int
    existed: bool


class CompareFailed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """The key was something else: `revision` 0 and `value` None when it does not exist."""

    revision: int
    value: bytes | None


class Invalid(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The command made no sense; nothing was changed."""

    reason: str


Result = Changed | CompareFailed | Invalid


class Get(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    key: bytes


class Range(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Keys that start with `prefix` and sort behind `after`, in byte order, at most `limit`."""

    prefix: bytes
    limit: int = MAX_RANGE
    after: bytes | None = None


Query = Get | Range


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    key: bytes
    value: bytes
    revision: int


class Items(msgspec.Struct, frozen=True, array_like=True):
    """What a query found. `more`: the limit, or the size of an answer, cut the list."""

    items: tuple[Item, ...]
    more: bool
    applied_index: int


encode = msgspec.msgpack.encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_result = msgspec.msgpack.Decoder(Result).decode
decode_query = msgspec.msgpack.Decoder(Query).decode
decode_items = msgspec.msgpack.Decoder(Items).decode
