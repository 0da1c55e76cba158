"""Whatever bytes come: error replies or the end, and the next client is served as if nothing were.

pitfall 12, pitfall 77. Every example has a server of its own, under a virtual clock.
"""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from raftd.admin import idl, protocol
from tests.admin.clients import (
    VERSION,
    Message,
    call_bytes,
    close_all,
    connect,
    error_name,
    serving,
)
from tests.admin.fake_driver import FakeDriver

METHODS = {
    f"{name}.{method.name}": list(method.parameter_types)
    for name in protocol.INTERFACES
    for method in idl.parse(protocol.interface_text(name)).methods.values()
}
HARMLESS = {"GetVersion", "GetStatus", "GetLogInfo", "GetInfo", "Range", "Reload"}


def exchange(data: bytes, *, pieces: int = 1) -> list[Message]:
    """All replies to `data`. Fails unless an older client and a newer one are served as ever."""
    replies: list[Message] = []

    async def run() -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "raftd.sock"
            driver = FakeDriver()
            async with serving(path, driver):
                other = await connect(path)
                client = await connect(path)
                size = max(1, len(data) // pieces)
                try:
                    for start in range(0, len(data), size):
                        await client.send(data[start : start + size])
                    await client.stream.send_eof()
                except trio.BrokenResourceError:
                    pass  # it has ended the connection already
                with trio.move_on_after(3600):
                    while (reply := await client.receive()) is not None:
                        replies.append(reply)
                await client.close()
                for survivor in (other, await connect(path)):
                    assert error_name(await survivor.call(VERSION)) is None
                close_all()

    failures = Failures()
    logger = logging.getLogger("raftd.admin")
    logger.addHandler(failures)
    try:
        trio.run(run, clock=MockClock(autojump_threshold=0))
    finally:
        logger.removeHandler(failures)
    assert failures.records == [], "something of ours failed behind a client's back"
    return replies


class Failures(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def check(replies: list[Message], calls: int) -> None:
    """At most one final reply a call, and one for what comes behind the last NUL byte."""
    final = [reply for reply in replies if not reply.get("continues")]
    assert len(final) <= calls + 1
    for reply in replies:
        assert isinstance(reply["parameters"], dict)
        assert set(reply) <= {"parameters", "error", "continues"}
    assert "OutcomeUnknown" not in {error_name(reply) for reply in replies}


valid_calls = st.sampled_from(sorted(METHODS)).map(call_bytes)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(
        ["", "YQ==", "node2", 2**63, -(2**63) - 1, 10**400, "\ud800", "\0", "a" * 5000]
    )
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=2000), st.integers(1, 10))
def test_any_bytes(data: bytes, pieces: int) -> None:
    check(exchange(data, pieces=pieces), data.count(b"\0"))


@settings(max_examples=40, deadline=None)
@given(st.lists(valid_calls, min_size=1, max_size=5).map(b"".join), st.data())
def test_valid_calls_with_some_bytes_changed(calls: bytes, data: st.DataObject) -> None:
    damaged = bytearray(calls)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    check(exchange(bytes(damaged)), damaged.count(b"\0"))


@settings(max_examples=40, deadline=None)
@given(values)
def test_any_json_as_a_call(value: Any) -> None:
    replies = exchange(dump(value) + b"\0" + call_bytes(VERSION))
    check(replies, 2)
    assert replies


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(METHODS)), st.data())
def test_any_json_as_parameters(method: str, data: st.DataObject) -> None:
    names = st.sampled_from(METHODS[method] or ["x"]) | st.text()
    parameters = data.draw(st.dictionaries(names, values, max_size=4) | values)
    flags = data.draw(
        st.dictionaries(st.sampled_from(["more", "oneway", "upgrade"]), st.booleans() | values)
    )
    replies = exchange(dump({"method": method, "parameters": parameters, **flags}) + b"\0")
    check(replies, 1)
    if isinstance(parameters, dict) and set(parameters) - set(METHODS[method]):
        assert {error_name(reply) for reply in replies} <= {
            "InvalidParameter",
            "ProtocolError",
            "MethodNotImplemented",
        }


ALL_OPTIONAL = {"ReadLog", "TransferLeadership", "Drain", "Undrain", "Fetch"}
"""Methods that need none of their parameters."""


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(sorted(METHODS)), min_size=1, max_size=100), st.integers(1, 50))
def test_every_call_in_a_row_has_its_reply_in_its_place(methods: list[str], pieces: int) -> None:
    replies = exchange(b"".join(call_bytes(method) for method in methods), pieces=pieces)
    assert len(replies) == len(methods)
    for method, reply in zip(methods, replies, strict=True):
        _, _, name = method.rpartition(".")
        if name in HARMLESS:
            assert error_name(reply) is None
        elif METHODS[method] and name not in ALL_OPTIONAL:
            assert error_name(reply) == "InvalidParameter"
