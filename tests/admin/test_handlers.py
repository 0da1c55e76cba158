"""What each method does with the driver, without a socket. Every reply is checked against the IDL."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from raftd import __version__
from raftd.admin import idl, message, protocol
from raftd.admin.handlers import Handlers
from raftd.admin.handlers.call import Call, Reply
from raftd.admin.message import Malformed
from raftd.admin.protocol import CallError
from raftd.driver import errors
from raftd.kv import commands
from tests.admin.fake_driver import FakeDriver

A, B, C = "YQ==", "Yg==", "Yw=="
SOMEBODY = Call(uid=1000, privileged=False)
ROOT = Call(uid=0, privileged=True)
INTERFACES = {name: idl.parse(protocol.interface_text(name)) for name in protocol.INTERFACES}


class Socket:
    """Calls methods as a connection does, JSON included."""

    def __init__(self, driver: FakeDriver) -> None:
        self.reloads = 0
        self.reload_failure: Exception | None = None
        self.handlers = Handlers(driver, reload=self._reload)

    def _reload(self) -> None:
        self.reloads += 1
        if self.reload_failure:
            raise self.reload_failure

    async def call(self, name: str, /, _caller: Call = SOMEBODY, **parameters: Any) -> Any:
        """`name` without io.raftd. The reply as JSON has it."""
        full = f"io.raftd.{name}"
        method = self.handlers.method(full)
        arguments = method.arguments(msgspec.Raw(json.dumps(parameters).encode()))
        try:
            if method.quick:
                reply = method.answer(_caller, arguments)
            else:
                reply = await method.answer_later(_caller, arguments)
        except CallError as error:
            check_error(error)
            raise
        data = message.encode({"parameters": reply}).removesuffix(b"\0")
        return checked(full, json.loads(data)["parameters"])


def checked(full_name: str, reply: Any) -> Any:
    interface, _, name = full_name.rpartition(".")
    msgspec.convert(reply, INTERFACES[interface].methods[name].reply)
    return reply


def check_error(error: CallError) -> None:
    interface, _, name = error.name.rpartition(".")
    msgspec.convert(error.parameters, INTERFACES[interface].errors[name])


@pytest.fixture
def socket(driver: FakeDriver) -> Socket:
    return Socket(driver)


async def refused(
    socket: Socket, name: str, _caller: Call = SOMEBODY, /, **parameters: Any
) -> tuple[str, dict[str, Any]]:
    with pytest.raises(CallError) as caught:
        await socket.call(name, _caller, **parameters)
    return caught.value.name.removeprefix("io.raftd."), caught.value.parameters


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


async def test_a_command_that_makes_no_sense_is_refused(socket: Socket) -> None:
    answer = await refused(socket, "KV.Put", key="", value=A)
    assert answer == ("KV.Refused", {"reason": "a key has at least one byte"})


def invalid(parameter: str) -> tuple[str, dict[str, str]]:
    return "org.varlink.service.InvalidParameter", {"parameter": parameter}


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


# Parameters in general


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [
        ('{"value": "YQ=="}', "key"),
        ('{"key": null, "value": "YQ=="}', "key"),
        ('{"key": 5, "value": "YQ=="}', "key"),
        ('{"key": "YQ==", "value": "YQ==", "keys": 1}', "keys"),
        ('{"key": "YQ==", "value": "YQ==", "timeout_ms": "5"}', "timeout_ms"),
        ('{"key": "YQ==", "value": "YQ==", "timeout_ms": true}', "timeout_ms"),
        ('{"key": "YQ==", "value": "YQ==", "timeout_ms": 1.0}', "timeout_ms"),
        ('{"key": "YQ==", "value": "YQ==", "timeout_ms": 1e999}', "timeout_ms"),
        ('{"key": "YQ==", "value": "YQ==", "timeout_ms": 9223372036854775808}', "timeout_ms"),
        ('{"key": "YQ==", "value": "YQ==", "timeout_ms": -1' + "0" * 9999 + "}", "timeout_ms"),
        ("{}", "key"),
        ("null", "key"),
    ],
)
def test_a_wrong_parameter_is_named(socket: Socket, parameters: str, wrong: str) -> None:
    """pitfall 13"""
    with pytest.raises(CallError) as caught:
        socket.handlers.method("io.raftd.KV.Put").arguments(msgspec.Raw(parameters.encode()))
    assert caught.value.name == protocol.INVALID_PARAMETER
    assert caught.value.parameters == {"parameter": wrong}


@pytest.mark.parametrize(
    "parameters",
    [
        b"[]",
        b"5",
        b'"text"',
        b'{"key": "\xff"}',
        b'{"key": "\\ud800"}',
        b'{"key": NaN}',
        b'{"key": ' + b"[" * 100_000,
    ],
)
def test_parameters_that_are_no_object_end_the_connection(
    socket: Socket, parameters: bytes
) -> None:
    with pytest.raises(Malformed):
        socket.handlers.method("io.raftd.KV.Put").arguments(msgspec.Raw(parameters))


def test_null_is_as_good_as_absent_and_the_last_of_two_counts(socket: Socket) -> None:
    method = socket.handlers.method("io.raftd.KV.Put")
    plain = method.arguments(msgspec.Raw(b'{"key": "YQ==", "value": ""}'))
    null = method.arguments(msgspec.Raw(b'{"key": "YQ==", "value": "", "timeout_ms": null}'))
    assert plain == null == {"key": "YQ==", "value": "", "timeout_ms": None}
    for first in (b"5", b'"Yg=="'):
        twice = b'{"key": ' + first + b', "key": "YQ==", "value": ""}'
        assert method.arguments(msgspec.Raw(twice)) == plain


@pytest.mark.parametrize(
    ("name", "error", "parameters"),
    [
        ("io.raftd.KV.Nope", protocol.METHOD_NOT_FOUND, {"method": "io.raftd.KV.Nope"}),
        ("io.raftd.KV.put", protocol.METHOD_NOT_FOUND, {"method": "io.raftd.KV.put"}),
        ("io.raftd.Nope.Put", protocol.INTERFACE_NOT_FOUND, {"interface": "io.raftd.Nope"}),
        ("Put", protocol.INTERFACE_NOT_FOUND, {"interface": "Put"}),
        ("", protocol.INTERFACE_NOT_FOUND, {"interface": ""}),
        ("x" * 10**6, protocol.INTERFACE_NOT_FOUND, {"interface": "x" * 200}),
    ],
)
def test_unknown_methods(socket: Socket, name: str, error: str, parameters: dict[str, str]) -> None:
    with pytest.raises(CallError) as caught:
        socket.handlers.method(name)
    assert (caught.value.name, caught.value.parameters) == (error, parameters)
    check_error(caught.value)


# What the driver refuses


@pytest.mark.parametrize(
    ("failure", "name", "parameters"),
    [
        (errors.NoQuorum("why"), "NoQuorum", {"reason": "why"}),
        (errors.OutcomeUnknown("why"), "OutcomeUnknown", {"reason": "why"}),
        (errors.Busy("why"), "Busy", {"reason": "why"}),
        (errors.Refused("why"), "Refused", {"reason": "why"}),
        (errors.TooLarge(9, 5), "TooLarge", {"size": 9, "limit": 5}),
        (errors.NoSuchMember("why"), "Refused", {"reason": "why"}),
    ],
)
async def test_failures_of_writes(
    socket: Socket, driver: FakeDriver, failure: Exception, name: str, parameters: Any
) -> None:
    driver.failure = failure
    assert await refused(socket, "KV.Put", key=A, value=B) == (f"KV.{name}", parameters)
    assert await refused(socket, "KV.Get", key=A) == (f"KV.{name}", parameters)


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        (errors.NoQuorum("why"), "NoQuorum"),
        (errors.OutcomeUnknown("why"), "NoQuorum"),
        (errors.Busy("why"), "Refused"),
        (errors.Refused("why"), "Refused"),
    ],
)
async def test_failures_of_a_transfer(
    socket: Socket, driver: FakeDriver, failure: Exception, name: str
) -> None:
    driver.failure = failure
    answer = await refused(socket, "Node.TransferLeadership", ROOT)
    assert answer == (f"Node.{name}", {"reason": "why"})


async def test_what_nobody_expected_is_told_and_logged(
    socket: Socket, driver: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.failure = OSError("the disk is gone")
    reason = {"reason": "unexpected failure (OSError); the daemon's log has more"}
    with caplog.at_level(logging.ERROR):
        assert await refused(socket, "KV.Put", key=A, value=B) == ("KV.OutcomeUnknown", reason)
        assert await refused(socket, "Node.GetLogEntry", index=1) == ("Node.Refused", reason)
        assert await refused(socket, "Node.GetLogInfo") == ("Node.Refused", reason)
    assert "io.raftd.KV.Put failed unexpectedly" in caplog.text
    assert "the disk is gone" in caplog.text


async def test_a_bug_of_ours_is_not_hidden(socket: Socket, driver: FakeDriver) -> None:
    driver.failure = AssertionError("a log has no gaps")
    with pytest.raises(AssertionError):
        await socket.call("KV.Put", key=A, value=B)
    with pytest.raises(AssertionError):
        await socket.call("Node.GetLogInfo")


# io.raftd.Node


async def test_status_version_and_log(socket: Socket, driver: FakeDriver) -> None:
    driver.append()
    driver.append("command", uid=5, what="put a")
    status = (await socket.call("Node.GetStatus"))["status"]
    assert (status["leader"], status["must_not_stop"]) == ("node1", ["node1"])
    assert [member["reachable"] for member in status["members"]] == [True, False]
    assert await socket.call("Node.GetVersion") == {"version": __version__, "node": "node1"}
    assert (await socket.call("Node.GetLogInfo"))["info"]["last_index"] == 2
    found = await socket.call("Node.GetLogEntry", index=2)
    assert found["entry"]["what"] == "put a"
    assert found["payload"] == "cGF5bG9hZCD/"
    answer = await refused(socket, "Node.GetLogEntry", index=3)
    assert answer == ("Node.NoSuchEntry", {"index": 3, "first_index": 1, "last_index": 2})


async def indexes(socket: Socket, **parameters: Any) -> list[int]:
    reply = await socket.call("Node.ReadLog", **parameters)
    return [entry["index"] for entry in reply["entries"]]


async def test_read_log_in_one_reply(socket: Socket, driver: FakeDriver) -> None:
    assert await indexes(socket) == []
    for _ in range(2500):
        driver.append()
    assert await indexes(socket) == list(range(2401, 2501))
    assert await indexes(socket, count=2) == [2499, 2500]
    assert await indexes(socket, first=1, count=3) == [1, 2, 3]
    assert await indexes(socket, first=2499, count=10) == [2499, 2500]
    assert await indexes(socket, first=2501) == []
    assert await indexes(socket, count=0) == []
    assert await indexes(socket, count=10_000) == list(range(1, 2501))
    assert await indexes(socket, first=2**63 - 1, count=10_000) == []
    assert await refused(socket, "Node.ReadLog", count=10_001) == invalid("count")
    assert await refused(socket, "Node.ReadLog", count=-1) == invalid("count")
    assert await refused(socket, "Node.ReadLog", first=0) == invalid("first")


async def test_read_log_in_many_replies(socket: Socket, driver: FakeDriver) -> None:
    for _ in range(2500):
        driver.append()
    parts: list[list[int]] = []

    async def send(reply: Reply) -> None:
        checked("io.raftd.Node.ReadLog", msgspec.to_builtins(reply))
        entries: Any = reply["entries"]
        parts.append([entry.index for entry in entries])

    call = Call(1000, privileged=False, send=send)
    last = await indexes_of(socket, call, count=20_000)
    assert [len(part) for part in parts] == [1000, 1000]
    assert [*parts[0], *parts[1], *last] == list(range(1, 2501))
    parts.clear()
    assert await indexes_of(socket, call, first=2000, count=1) == [2000]
    assert parts == []


async def indexes_of(socket: Socket, call: Call, **parameters: Any) -> list[int]:
    reply = await socket.call("Node.ReadLog", call, **parameters)
    return [entry["index"] for entry in reply["entries"]]


async def test_following_needs_more(socket: Socket) -> None:
    answer = await refused(socket, "Node.ReadLog", follow=True)
    assert answer == ("org.varlink.service.ExpectedMore", {})


async def test_only_root_and_the_daemons_user_may_change_things(
    socket: Socket, driver: FakeDriver
) -> None:
    denied = ("org.varlink.service.PermissionDenied", {})
    assert await refused(socket, "Node.TransferLeadership", name="node2") == denied
    assert await refused(socket, "Node.Reload") == denied
    assert (driver.targets, socket.reloads) == ([], 0)
    transferred = await socket.call("Node.TransferLeadership", ROOT, name="node2")
    assert transferred == {"leader": "node2"}
    assert await socket.call("Node.TransferLeadership", ROOT) == {"leader": "node2"}
    assert await socket.call("Node.Reload", ROOT) == {}
    assert (driver.targets, socket.reloads) == (["node2", None], 1)


async def test_transfer_to_a_stranger(socket: Socket) -> None:
    answer = await refused(socket, "Node.TransferLeadership", ROOT, name="node9")
    assert answer == ("Node.NoSuchMember", {"name": "node9"})


async def test_a_reload_that_fails_says_why(socket: Socket) -> None:
    socket.reload_failure = ValueError("raftd.toml: log: no such level")
    answer = await refused(socket, "Node.Reload", ROOT)
    assert answer == ("Node.Refused", {"reason": "raftd.toml: log: no such level"})


def test_a_reason_that_is_no_utf8_can_be_said() -> None:
    error = CallError("io.raftd.Node.Refused", {"reason": "cannot read /etc/\udcff.toml"})
    reply = json.loads(message.encode_error(error).removesuffix(b"\0"))
    assert reply["parameters"] == {"reason": "cannot read /etc/?.toml"}


# org.varlink.service


def test_info_and_descriptions(socket: Socket) -> None:
    def answer(name: str, arguments: Mapping[str, Any]) -> Any:
        full = f"org.varlink.service.{name}"
        return socket.handlers.method(full).answer(SOMEBODY, arguments)

    info = answer("GetInfo", {})
    assert info["product"] == "raftd"
    assert info["version"] == __version__
    assert info["interfaces"] == ("org.varlink.service", "io.raftd.Node", "io.raftd.KV")
    for name in info["interfaces"]:
        described = answer("GetInterfaceDescription", {"interface": name})
        assert idl.parse(described["description"]).name == name
    with pytest.raises(CallError) as caught:
        answer("GetInterfaceDescription", {"interface": "org.example"})
    assert caught.value.name == protocol.INTERFACE_NOT_FOUND
