"""io.raftd.KV: JSON on the socket, commands and queries in msgpack for the driver."""

from __future__ import annotations

from collections.abc import Callable

from raftd.admin.handlers.call import (
    Call,
    Later,
    Reply,
    from_base64,
    invalid,
    timeout_seconds,
)
from raftd.admin.handlers.driver_api import Driver
from raftd.admin.protocol import KV as INTERFACE
from raftd.admin.protocol import CallError
from raftd.driver.proposal import Applied
from raftd.kv import commands

DEFAULT_TIMEOUT_MS = 5000


class KV:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def put(self, call: Call, key: bytes, value: bytes, timeout_ms: int | None) -> Later[Applied]:
        return self._change(call, commands.Put(key, value), timeout_ms)

    def delete(self, call: Call, key: bytes, timeout_ms: int | None) -> Later[Applied]:
        return self._change(call, commands.Delete(key), timeout_ms)

    def compare_and_set(
        self,
        call: Call,
        key: bytes,
        expected_revision: int | None,
        expected_value: bytes | None,
        absent: bool | None,
        value: bytes | None,
        timeout_ms: int | None,
    ) -> Later[Applied]:
        given = [
            name
            for name, present in (
                ("expected_revision", expected_revision is not None),
                ("expected_value", expected_value is not None),
                ("absent", bool(absent)),
            )
            if present
        ]
        if len(given) != 1:
            raise invalid(given[1] if given else "expected_revision")
        if expected_revision is not None and expected_revision < 0:
            raise invalid("expected_revision")
        command = commands.CompareAndSet(key, expected_revision, expected_value, value)
        return self._change(call, command, timeout_ms)

    def get(self, _: Call, key: str, stale: bool | None, timeout_ms: int | None) -> Later[bytes]:
        """The key stays as the caller wrote it, for NotFound."""
        query = commands.Get(from_base64("key", key))
        return self._read(query, stale, timeout_ms, lambda answer: _found(key, answer))

    def range(
        self,
        _: Call,
        prefix: bytes | None,
        limit: int | None,
        after: bytes | None,
        stale: bool | None,
        timeout_ms: int | None,
    ) -> Later[bytes]:
        if limit is not None and limit < 1:
            raise invalid("limit")
        query = commands.Range(
            prefix=prefix or b"",
            limit=min(limit or commands.MAX_RANGE, commands.MAX_RANGE),
            after=after,
        )
        return self._read(query, stale, timeout_ms, _listed)

    def _change(
        self, call: Call, command: commands.Command, timeout_ms: int | None
    ) -> Later[Applied]:
        body = commands.encode(command)
        timeout = timeout_seconds(timeout_ms, DEFAULT_TIMEOUT_MS)
        return Later(self._driver.propose(body, uid=call.uid, timeout=timeout), _changed)

    def _read(
        self,
        query: commands.Query,
        stale: bool | None,
        timeout_ms: int | None,
        to_reply: Callable[[bytes], Reply],
    ) -> Later[bytes]:
        timeout = timeout_seconds(timeout_ms, DEFAULT_TIMEOUT_MS)
        encoded = commands.encode(query)
        return Later(self._driver.read(encoded, stale=bool(stale), timeout=timeout), to_reply)


def _changed(applied: Applied) -> Reply:
    result = commands.decode_result(applied.result)
    if isinstance(result, commands.Changed):
        return {"revision": result.revision, "existed": result.existed}
    if isinstance(result, commands.CompareFailed):
        details = {"revision": result.revision, "value": result.value}
        raise CallError(f"{INTERFACE}.CompareFailed", details)
    raise CallError(f"{INTERFACE}.Invalid", {"reason": result.reason})


def _found(key: str, answer: bytes) -> Reply:
    found = commands.decode_items(answer)
    if not found.items:
        raise CallError(f"{INTERFACE}.NotFound", {"key": key})
    return {"item": _item(found.items[0])}


def _listed(answer: bytes) -> Reply:
    found = commands.decode_items(answer)
    return {"items": [_item(item) for item in found.items], "more": found.more}


def _item(item: commands.Item) -> Reply:
    return {"key": item.key, "value": item.value, "revision": item.revision}
