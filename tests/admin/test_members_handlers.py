"""io.raftd.Node: changing members, draining; who may, and what the driver is told."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from raftd.admin.protocol import PERMISSION_DENIED
from raftd.raft.changes import (
    AddMember,
    Change,
    DemoteMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
    SetAddress,
)
from tests.admin.fake_driver import FakeDriver
from tests.admin.handler_calls import ROOT, Socket, invalid, refused

CHANGE = "Node.ChangeMembers"
URL = "tcp://192.0.2.1:7001"


@pytest.mark.parametrize(
    ("parameters", "change"),
    [
        ({"action": "add", "name": "n4", "address": URL}, AddMember("n4", URL)),
        (
            {"action": "add", "name": "n4", "address": URL, "learner": True},
            AddMember("n4", URL, voter=False),
        ),
        ({"action": "promote", "name": "n4"}, PromoteMember("n4")),
        ({"action": "demote", "name": "n4"}, DemoteMember("n4")),
        ({"action": "remove", "name": "n4"}, RemoveMember("n4")),
        (
            {"action": "replace", "name": "n3", "new_name": "n4", "address": URL},
            ReplaceMember("n3", "n4", URL),
        ),
        ({"action": "set_address", "name": "n3", "address": URL}, SetAddress("n3", URL)),
    ],
)
async def test_each_action(
    socket: Socket, driver: FakeDriver, parameters: dict[str, Any], change: Change
) -> None:
    await socket.call(CHANGE, ROOT, **parameters, dry_run=True, force=True)
    assert driver.changes == [(change, True, True)]


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [
        ({"action": "add", "name": "n4"}, "address"),
        ({"action": "replace", "name": "n4", "address": URL}, "new_name"),
        ({"action": "replace", "name": "n4", "new_name": "n5"}, "address"),
        ({"action": "set_address", "name": "n4"}, "address"),
        ({"action": "explode", "name": "n4"}, "action"),
        ({"action": "add"}, "name"),
    ],
)
async def test_what_an_action_needs(
    socket: Socket, driver: FakeDriver, parameters: dict[str, Any], wrong: str
) -> None:
    assert await refused(socket, CHANGE, ROOT, **parameters) == invalid(wrong)
    assert driver.changes == []


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"action": "add", "name": "no de", "address": URL}, "'no de' is no name"),
        ({"action": "add", "name": "n4", "address": "192.0.2.1:7001"}, "no tcp:// or tls+tcp://"),
        ({"action": "add", "name": "n4", "address": "tcp://[::]:1"}, "nobody can dial it"),
        ({"action": "replace", "name": "n3", "new_name": "", "address": URL}, "'' is no name"),
        ({"action": "set_address", "name": "n3", "address": "tcp://x"}, "the port is missing"),
    ],
)
async def test_names_and_addresses_that_are_none(
    socket: Socket, driver: FakeDriver, parameters: dict[str, Any], reason: str
) -> None:
    """The command line makes no sense, whatever the cluster is."""
    name, told = await refused(socket, CHANGE, ROOT, **parameters)
    assert (name, reason in told["reason"]) == ("Node.Invalid", True), told
    assert driver.changes == []


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("action", ["promote", "demote", "remove", "set_address", "replace"])
async def test_somebody_who_is_no_member(
    socket: Socket, driver: FakeDriver, action: str, dry_run: bool
) -> None:
    """As for `drain` and a transfer of leadership."""
    driver.members = ("node1",)
    more = {"address": URL} if action in {"set_address", "replace"} else {}
    more |= {"new_name": "n5"} if action == "replace" else {}
    parameters = {"action": action, "name": "ghost", "dry_run": dry_run, **more}
    answer = await refused(socket, CHANGE, ROOT, **parameters)
    assert answer == ("Node.NoSuchMember", {"name": "ghost"})


async def test_the_file_for_the_new_host(socket: Socket) -> None:
    """Ready to be started with, and with what has to be the same on all hosts."""
    reply = await socket.call(CHANGE, ROOT, action="add", name="n.4", address=URL)
    report = reply["report"]
    assert report["index"] == 7
    assert tomllib.loads(report["configuration_file"]) == {
        "name": "n.4",
        "join": f"{'ab' * 16}:7",
        "allow_plaintext": True,
        "election_timeout_ms": [300, 600],
        "members": {"node1": "tcp://127.0.0.1:7001", "n.4": "tcp://192.0.2.1:7001"},
    }


@pytest.mark.parametrize("dry_run", [True, False])
async def test_an_address_without_tls_among_others_with_it(
    socket: Socket, driver: FakeDriver, dry_run: bool
) -> None:
    async def warnings(action: str, address: str, name: str = "n4") -> list[str]:
        more = {"new_name": "n5"} if action == "replace" else {}
        words = {"action": action, "name": name, "address": address, "dry_run": dry_run}
        reply = await socket.call(CHANGE, ROOT, **words, **more)
        found: list[str] = reply["report"]["warnings"]
        return [warning for warning in found if "tls+tcp" in warning]

    told = [f"the other members encrypt what they say; at {URL} nothing is encrypted (tls+tcp)"]
    driver.scheme = "tls+tcp"
    for action in ("add", "replace", "set_address"):
        assert await warnings(action, URL) == told
        assert await warnings(action, f"tls+{URL}") == []
    assert await warnings("set_address", URL, "node2") == told, "as it is the only one"
    driver.scheme = "tcp"
    assert await warnings("add", URL) == []


async def test_a_refusal_is_an_answer(socket: Socket) -> None:
    reply = await socket.call(CHANGE, ROOT, action="remove", name="n4", dry_run=True)
    report = reply["report"]
    assert (report["refused"], report["forcible"]) == ("it would be unsafe", True)
    assert (report["index"], report["configuration_file"]) == (None, None)


@pytest.mark.parametrize("drained", [True, False])
async def test_drain(socket: Socket, driver: FakeDriver, drained: bool) -> None:
    method = "Node.Drain" if drained else "Node.Undrain"
    assert await socket.call(method, ROOT) == {"name": "node1"}
    assert await socket.call(method, ROOT, name="node2") == {"name": "node2"}
    assert driver.drains == [(None, drained, False), ("node2", drained, False)]
    answer = await refused(socket, method, ROOT, name="x")
    assert answer == ("Node.NoSuchMember", {"name": "x"})


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("ChangeMembers", {"action": "remove", "name": "n4"}),
        ("Drain", {}),
        ("Undrain", {}),
    ],
)
async def test_not_everybody_may(
    socket: Socket, driver: FakeDriver, method: str, parameters: dict[str, Any]
) -> None:
    name, _ = await refused(socket, f"Node.{method}", **parameters)
    assert name == PERMISSION_DENIED
    assert not driver.changes
    assert not driver.drains
