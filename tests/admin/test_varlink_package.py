"""The independent `varlink` package as a client of our socket, and its command line."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import varlink

from raftd import __version__
from tests.admin.fake_driver import FakeDriver
from tests.system.waiting import wait_until


@pytest.fixture
def address(live_path: Path) -> str:
    return f"unix:{live_path}"


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with varlink.Client(address) as client:
        yield client


@pytest.fixture
def kv(client: Any) -> Iterator[Any]:
    with client.open("io.raftd.KV") as connection:
        yield connection


@pytest.fixture
def node(client: Any) -> Iterator[Any]:
    with client.open("io.raftd.Node") as connection:
        yield connection


def b64(data: bytes) -> str:
    return b64encode(data).decode()


def test_introspection(client: Any) -> None:
    with client.open("org.varlink.service") as service:
        info = service.GetInfo()
    assert info["product"] == "raftd"
    assert info["version"] == __version__
    assert info["interfaces"] == [
        "org.varlink.service",
        "io.raftd.Node",
        "io.raftd.KV",
        "io.raftd.Snapshots",
    ]
    for name in info["interfaces"]:
        interface = client.get_interface(name)
        assert interface.name == name
        assert interface.members


def test_key_values(kv: Any) -> None:
    key, value = b64(b"\x00\xff"), b64(bytes(range(256)))
    assert kv.Put(key, value) == {"revision": 1, "existed": False}
    assert kv.Get(key) == {"item": {"key": key, "value": value, "revision": 1}}
    assert kv.CompareAndSet(key=key, expected_revision=1, value=b64(b"new"))["revision"] == 2
    assert kv.Range(limit=5)["items"][0]["value"] == b64(b"new")
    assert kv.Delete(key, timeout_ms=1000)["existed"] is True


def test_errors(kv: Any, node: Any) -> None:
    with pytest.raises(varlink.VarlinkError) as caught:
        kv.Get(b64(b"a"))
    assert caught.value.error() == "io.raftd.KV.NotFound"
    assert caught.value.parameters() == {"key": b64(b"a")}
    with pytest.raises(varlink.InvalidParameter):
        kv.Put("no base64!", "")
    with pytest.raises(varlink.VarlinkError) as caught:
        node.GetLogEntry(7)
    assert caught.value.error() == "io.raftd.Node.NoSuchEntry"
    with pytest.raises(varlink.VarlinkError) as caught:
        kv.CompareAndSet(key=b64(b"a"), expected_revision=3, value="")
    assert caught.value.error() == "io.raftd.KV.CompareFailed"
    assert kv.Put(b64(b"a"), "")["existed"] is False


def test_the_node(node: Any, driver: FakeDriver) -> None:
    status = node.GetStatus()["status"]
    assert status["leader"] == "node1"
    assert [member["role"] for member in status["members"]] == ["leader", "unknown"]
    assert node.GetVersion() == {"version": __version__, "node": "node1"}
    assert node.GetLogInfo()["info"]["segments"][0]["file"] == "wal/1.seg"
    assert node.TransferLeadership("node2") == {"leader": "node2"}
    assert node.Reload() == {}


def test_replies_as_objects(client: Any) -> None:
    with client.open("io.raftd.Node", namespaced=True) as node:
        assert node.GetStatus().status.members[0].name == "node1"


def test_more(node: Any, driver: FakeDriver) -> None:
    for _ in range(2500):
        driver.append()
    parts = list(node.ReadLog(count=2500, _more=True))
    assert [len(part["entries"]) for part in parts] == [1000, 1000, 500]
    assert parts[-1]["entries"][-1]["index"] == 2500


def test_follow(node: Any, kv: Any, driver: FakeDriver) -> None:
    driver.append()
    stream = node.ReadLog(first=1, follow=True, _more=True)
    assert next(stream)["entries"][0]["index"] == 1
    for index in range(2, 5):
        kv.Put(b64(b"a"), "")
        assert [part["entries"][0]["index"] for part in islice(stream, 1)] == [index]


def test_oneway(kv: Any, driver: FakeDriver) -> None:
    kv.Put(b64(b"a"), b64(b"1"), _oneway=True)
    assert kv.Put(b64(b"b"), "")["existed"] is False
    # What waits for nobody may be done last here: the fake driver has a task for each call.
    wait_until(lambda: set(driver.items) == {b"a", b"b"}, "both are done")


def test_its_command_line(address: str) -> None:
    def run(*words: str) -> str:
        command = [sys.executable, "-W", "ignore", "-m", "varlink.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "Product: raftd" in run("info", address)
    assert "method CompareAndSet" in run("help", f"{address}/io.raftd.KV")
    assert '"leader": "node1"' in run("call", f"{address}/io.raftd.Node.GetStatus")
