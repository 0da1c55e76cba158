"""Between the bytes of a call and its handler: names, parameters, failures, introspection."""

from __future__ import annotations

import base64
import binascii
import json
import logging
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd import __version__
from raftd.admin import idl, protocol
from raftd.admin.handlers import Handlers
from raftd.admin.message import Malformed
from raftd.admin.protocol import CallError
from raftd.driver import errors
from tests.admin.fake_driver import FakeDriver
from tests.admin.handler_calls import ROOT, SOMEBODY, A, B, Socket, check_error, refused

DELETE = Handlers(FakeDriver(), reload=lambda: None).method("io.raftd.KV.Delete")

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
        # Of several: types first, then what is no base64, each in its order.
        ('{"key": "?", "value": 5}', "value"),
        ('{"value": "?", "key": "?"}', "key"),
        ('{"key": "?"}', "value"),
        ('{"key": "?", "value": "", "timeout_ms": true}', "timeout_ms"),
    ],
)
def test_a_wrong_parameter_is_named(socket: Socket, parameters: str, wrong: str) -> None:
    """pitfall 13"""
    with pytest.raises(CallError) as caught:
        socket.handlers.method("io.raftd.KV.Put").arguments(msgspec.Raw(parameters.encode()))
    assert caught.value.name == protocol.INVALID_PARAMETER
    assert caught.value.parameters == {"parameter": wrong}


@given(
    st.text("YQJ=A/+- \n\u00e9", max_size=12) | st.binary().map(base64.b64encode).map(bytes.decode)
)
def test_base64_is_that_of_the_standard_library(text: str) -> None:
    """What decodes it with the JSON is another than what finds out which parameter is wrong."""
    parameters = msgspec.Raw(json.dumps({"key": text}).encode())
    try:
        expected = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        with pytest.raises(CallError):
            DELETE.arguments(parameters)
    else:
        assert DELETE.arguments(parameters) == (expected, None)


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
    assert plain == null == (b"a", b"", None)
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


# org.varlink.service


def test_info_and_descriptions(socket: Socket) -> None:
    def answer(name: str, *arguments: Any) -> Any:
        full = f"org.varlink.service.{name}"
        return socket.handlers.method(full).handler(SOMEBODY, *arguments)

    info = answer("GetInfo")
    assert info["product"] == "raftd"
    assert info["version"] == __version__
    assert info["interfaces"] == protocol.INTERFACES
    for name in info["interfaces"]:
        described = answer("GetInterfaceDescription", name)
        assert idl.parse(described["description"]).name == name
    with pytest.raises(CallError) as caught:
        answer("GetInterfaceDescription", "org.example")
    assert caught.value.name == protocol.INTERFACE_NOT_FOUND
