"""io.raftd.KV: what goes to the driver, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from raftd.admin.handlers.call import Call
from raftd.kv import commands
from tests.admin.fake_driver import FakeDriver
from tests.admin.handler_calls import A, B, C, Socket, invalid, refused

# io.raftd.KV


async def test_put_get_delete(socket: Socket, driver: FakeDriver) -> None:
    assert await socket.call("KV.Put", key=A, value=B) == {"revision": 1, "existed": False}
    assert await socket.call("KV.Get", key=A) == {"item": {"key": A, "value": B, "revision": 1}}
    assert await socket.call("KV.Delete", key=A) == {"revision": 2, "existed": True}
    assert await socket.call("KV.Delete", key=A) == {"revision": 3, "existed": False}
    assert await refused(socket, "KV.Get", key=A) == ("KV.NotFound", {"key": A})
    assert [proposal.command for proposal in driver.proposals] == [
        commands.Put(b"a", b"b"),
        commands.Delete(b"a"),
        commands.Delete(b"a"),
    ]


async def test_the_callers_uid_goes_into_the_log(socket: Socket, driver: FakeDriver) -> None:
    await socket.call("KV.Put", Call(uid=4711, privileged=False), key=A, value=B)
    assert driver.proposals[0].uid == 4711


async def test_any_bytes_are_keys_and_values(socket: Socket, driver: FakeDriver) -> None:
    every_byte = commands.encode(bytes(range(256)))[2:]
    text = json.loads(msgspec.json.encode(every_byte))
    await socket.call("KV.Put", key=text, value=text)
    assert driver.proposals[0].command == commands.Put(every_byte, every_byte)
    assert (await socket.call("KV.Get", key=text))["item"]["value"] == text


async def test_range(socket: Socket, driver: FakeDriver) -> None:
    for key in (A, B, C):
        await socket.call("KV.Put", key=key, value=key)

    async def keys(**parameters: Any) -> tuple[list[str], bool]:
        reply = await socket.call("KV.Range", **parameters)
        return [item["key"] for item in reply["items"]], reply["more"]

    assert await keys() == ([A, B, C], False)
    assert await keys(limit=2) == ([A, B], True)
    assert await keys(after=A, stale=True) == ([B, C], False)
    assert await keys(prefix=B) == ([B], False)
    assert await keys(limit=10**9) == ([A, B, C], False)
    assert driver.stale == [False, False, True, False, False]
    for limit in (0, -1):
        assert await refused(socket, "KV.Range", limit=limit) == invalid("limit")


async def test_compare_and_set(socket: Socket, driver: FakeDriver) -> None:
    assert await socket.call("KV.CompareAndSet", key=A, absent=True, value=B)
    assert await socket.call("KV.CompareAndSet", key=A, expected_revision=1, value=C)
    assert await socket.call("KV.CompareAndSet", key=A, expected_value=C, absent=False, value=A)
    failed = await refused(socket, "KV.CompareAndSet", key=A, absent=True, value=B)
    assert failed == ("KV.CompareFailed", {"revision": 3, "value": A})
    assert await socket.call("KV.CompareAndSet", key=A, expected_value=A)
    failed = await refused(socket, "KV.CompareAndSet", key=A, expected_revision=3)
    assert failed == ("KV.CompareFailed", {"revision": 0, "value": None})
    assert driver.items == {}


@pytest.mark.parametrize(
    ("expectation", "wrong"),
    [
        ({}, "expected_revision"),
        ({"absent": False}, "expected_revision"),
        ({"absent": True, "expected_revision": 0}, "absent"),
        ({"expected_value": A, "expected_revision": 1}, "expected_value"),
        ({"expected_revision": -1}, "expected_revision"),
        ({"expected_value": "?"}, "expected_value"),
    ],
)
async def test_compare_and_set_wants_one_expectation(
    socket: Socket, driver: FakeDriver, expectation: dict[str, Any], wrong: str
) -> None:
    assert await refused(socket, "KV.CompareAndSet", key=A, **expectation) == invalid(wrong)
    assert driver.proposals == []


async def test_a_command_that_makes_no_sense_is_invalid(socket: Socket) -> None:
    answer = await refused(socket, "KV.Put", key="", value=A)
    assert answer == ("KV.Invalid", {"reason": "a key has at least one byte"})


@pytest.mark.parametrize("text", ["YQ", "YQ=", "Y Q==", "YQ==\n", "YQ==YQ==", "é", "=", "-_=="])
async def test_base64_is_strict(socket: Socket, driver: FakeDriver, text: str) -> None:
    assert await refused(socket, "KV.Put", key=text, value=A) == invalid("key")
    assert await refused(socket, "KV.Put", key=A, value=text) == invalid("value")
    assert driver.proposals == []


@pytest.mark.parametrize(
    ("timeout_ms", "seconds"),
    [(None, 5.0), (1, 0.001), (60_000, 60.0), (60_001, 60.0), (2**63 - 1, 60.0)],
)
async def test_timeouts_are_bounded(
    socket: Socket, driver: FakeDriver, timeout_ms: int | None, seconds: float
) -> None:
    await socket.call("KV.Put", key=A, value=B, timeout_ms=timeout_ms)
    await socket.call("KV.Get", key=A, timeout_ms=timeout_ms)
    await socket.call("Node.GetStatus", timeout_ms=timeout_ms)
    assert driver.proposals[0].timeout == seconds
    assert driver.timeouts == [seconds, seconds if timeout_ms else 1.0]
    for wrong in (0, -1):
        assert await refused(socket, "KV.Get", key=A, timeout_ms=wrong) == invalid("timeout_ms")
