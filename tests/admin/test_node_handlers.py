"""io.raftd.Node: status, the log in one reply and in many, and who may change things."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from raftd import __version__
from raftd.admin import message
from raftd.admin.handlers.call import Call, Reply
from raftd.admin.protocol import CallError
from tests.admin.fake_driver import FakeDriver
from tests.admin.handler_calls import ROOT, Socket, checked, invalid, refused

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
    denied: tuple[str, dict[str, Any]] = ("org.varlink.service.PermissionDenied", {})
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
