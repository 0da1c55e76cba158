"""What the service manager is told, and when it is told nothing any more."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from raftd.driver.reports import NodeReport, PeerReport
from raftd.systemd import ServiceManager, status_line


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Its end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", receiver.getsockname())
        yield receiver


@pytest.fixture
def manager(systemd: socket.socket) -> Iterator[ServiceManager]:
    with closing(ServiceManager()) as manager:
        yield manager


def told(systemd: socket.socket) -> list[str]:
    messages = []
    with suppress(BlockingIOError):
        while True:
            messages.append(systemd.recv(4096).decode())
    return messages


async def test_the_watchdog_is_fed_while_there_is_progress_and_not_without(
    systemd: socket.socket,
    manager: ServiceManager,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "6000000")
    progress = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.feed_watchdog, lambda: progress)
        await trio.sleep(11)
        assert told(systemd) == ["WATCHDOG=1"] * 6, "three times in each interval"
        progress = False
        await trio.sleep(60)
        assert told(systemd) == []
        progress = True
        await trio.sleep(3)
        assert "WATCHDOG=1" in told(systemd)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("microseconds", ["", "0", "soon"])
async def test_without_a_watchdog_there_is_nothing_to_do(
    systemd: socket.socket,
    manager: ServiceManager,
    monkeypatch: pytest.MonkeyPatch,
    microseconds: str,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    await manager.feed_watchdog(lambda: True)
    assert told(systemd) == []


async def test_the_status_line_is_told_when_it_changes(
    systemd: socket.socket, manager: ServiceManager, autojump_clock: trio.testing.MockClock
) -> None:
    line = "follower"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.tell_status, lambda: line)
        await trio.sleep(10.5)
        assert told(systemd) == ["STATUS=follower"]
        line = "leader"
        await trio.sleep(10)
        assert told(systemd) == ["STATUS=leader"]
        nursery.cancel_scope.cancel()


async def test_without_systemd_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with closing(ServiceManager()) as manager:
        await manager.tell_status(lambda: pytest.fail("nobody reads it"))


def test_stopping_asks_for_the_time_it_may_take(
    systemd: socket.socket, manager: ServiceManager
) -> None:
    manager.stopping(20.0)
    (message,) = told(systemd)
    assert message.splitlines() == ["STOPPING=1", "STATUS=stops", "EXTEND_TIMEOUT_USEC=30000000"]


def test_a_reload_says_when_it_began(systemd: socket.socket, manager: ServiceManager) -> None:
    manager.reloading()
    manager.ready()
    first, second = told(systemd)
    assert first.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert second == "READY=1"


def report(role: str, **others: object) -> NodeReport:
    values: dict[str, object] = {
        "name": "node1",
        "version": "0.1.0",
        "role": role,
        "term": 5,
        "leader": "node2",
        "leader_since_ms": None,
        "first_index": 1,
        "last_index": 100,
        "commit_index": 100,
        "applied_index": 100,
        "snapshot_index": 0,
        "disk_used_bytes": 0,
        "uptime_ms": 0,
        "has_quorum": True,
    }
    return NodeReport(**(values | others))  # type: ignore[arg-type]


PEERS = (PeerReport("node2", 100, 5), PeerReport("node3", 97, 5))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (report("follower"), "follower in term 5, leader node2, up to date"),
        (
            report("follower", applied_index=88),
            "follower in term 5, leader node2, 12 entries to apply",
        ),
        (report("candidate", leader=None), "candidate in term 5, no leader"),
        (report("leader", peers=PEERS), "leader in term 5, node3 3 entries behind"),
        (report("leader", peers=PEERS[:1]), "leader in term 5, all others up to date"),
        (report("leader"), "leader in term 5, no other members"),
        (
            report("leader", peers=PEERS[:1], has_quorum=False),
            "leader in term 5, all others up to date, no quorum",
        ),
        (
            report("follower", problem="disk full:\nno space"),
            "follower in term 5, leader node2, up to date; disk full: no space",
        ),
    ],
)
def test_the_line_tells_role_term_leader_and_lag(given: NodeReport, line: str) -> None:
    assert status_line(given) == line
