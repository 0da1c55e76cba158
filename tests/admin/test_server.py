"""The server as a whole: who gets in, who is turned away, how it starts and how it stops."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from raftd.admin import protocol
from raftd.admin.handlers import Handlers
from raftd.admin.limits import Memory
from raftd.admin.server import Limits, SocketError, SocketInUse, _Server, peer_uid, serve
from tests.admin.clients import PUT, VERSION, RawClient, call_bytes, connect, error_name, serving
from tests.admin.fake_driver import FakeDriver

TRANSFER = f"{protocol.NODE}.TransferLeadership"
SOMEBODY = 1_000_000


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may open a few thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4000:
        pytest.skip(f"this user may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_thousands_of_connections(
    path: Path, driver: FakeDriver, many_files: None, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(connections=100)
    async with serving(path, driver, limits=limits, uid_of=lambda _: SOMEBODY):
        clients = [await connect(path) for _ in range(2200)]
        for client in clients[:100]:
            assert error_name(await client.call(VERSION)) is None
        for client in clients[100:]:
            reply = await client.receive()
            assert reply == {"error": protocol.TOO_MANY_CONNECTIONS, "parameters": {"limit": 100}}
            assert await client.receive() is None
        assert caplog.text.count("100 connections are open, which is the limit") == 1
        for client in clients[:50]:
            await client.close()
        await wait_all_tasks_blocked()
        later = [await connect(path) for _ in range(50)]
        for client in later:
            assert error_name(await client.call(VERSION)) is None
        assert error_name(await (await connect(path)).receive()) == "TooManyConnections"
        for client in clients + later:
            await client.close()


async def test_a_refused_client_that_has_sent_its_call_already_reads_why(
    path: Path, driver: FakeDriver
) -> None:
    async with serving(path, driver, limits=Limits(connections=0, reserved=0)):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        client.send(call_bytes(VERSION))
        raw = RawClient(trio.SocketStream(trio.socket.from_stdlib_socket(client)))
        assert error_name(await raw.receive()) == "TooManyConnections"
        assert await raw.receive() is None
        await raw.close()


async def test_root_gets_in_when_the_socket_is_full(path: Path, driver: FakeDriver) -> None:
    uids = iter([SOMEBODY, SOMEBODY, 0, 0])
    limits = Limits(connections=1, reserved=1)
    async with serving(path, driver, limits=limits, uid_of=lambda _: next(uids)):
        assert error_name(await (await connect(path)).call(VERSION)) is None
        assert error_name(await (await connect(path)).receive()) == "TooManyConnections"
        assert error_name(await (await connect(path)).call(VERSION)) is None
        assert error_name(await (await connect(path)).receive()) == "TooManyConnections"


@pytest.mark.parametrize(
    ("uid", "allowed"), [(0, True), (os.geteuid(), True), (SOMEBODY, False), (2**32 - 1, False)]
)
async def test_the_callers_uid_decides(
    path: Path, driver: FakeDriver, uid: int, allowed: bool
) -> None:
    reloads: list[None] = []
    async with serving(path, driver, uid_of=lambda _: uid, reload=lambda: reloads.append(None)):
        client = await connect(path)
        denied = None if allowed else "PermissionDenied"
        assert error_name(await client.call(TRANSFER, {"name": "node2"})) == denied
        assert error_name(await client.call(f"{protocol.NODE}.Reload")) == denied
        assert error_name(await client.call(PUT, {"key": "YQ==", "value": ""})) is None
        for method in ("GetStatus", "GetVersion", "GetLogInfo", "ReadLog"):
            assert error_name(await client.call(f"{protocol.NODE}.{method}")) is None
    assert len(driver.targets) == len(reloads) == int(allowed)
    assert driver.proposals[0].uid == uid


async def test_the_kernel_says_who_calls(path: Path, driver: FakeDriver) -> None:
    async with serving(path, driver):
        assert error_name(await (await connect(path)).call(PUT, {"key": "", "value": ""}))
    assert driver.proposals[0].uid == os.geteuid()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()


class CrowdedListener(socket.socket):
    """accept(2) fails as it does in a process with too many open files."""

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX)
        self.accepts = 0
        self.failures = [
            errno.EMFILE,
            errno.ENFILE,
            errno.ENOMEM,
            errno.ECONNABORTED,
            errno.EMFILE,
        ]

    def accept(self) -> tuple[socket.socket, object]:
        self.accepts += 1
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


async def test_too_many_open_files_are_waited_for(
    path: Path, driver: FakeDriver, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = _Server(Handlers(driver, reload=lambda: None), Limits(), peer_uid)
    with CrowdedListener() as listener:
        listener.setblocking(False)
        listener.bind(str(path))
        listener.listen()
        async with trio.open_nursery() as nursery:
            await nursery.start(server.keep_connections)
            nursery.start_soon(server.accept, listener)
            start = trio.current_time()
            client = await connect(path)
            assert error_name(await client.call(VERSION)) is None
            assert trio.current_time() - start == pytest.approx(0.4)
            assert listener.accepts < 10
            server.stop()
            nursery.cancel_scope.cancel()
    assert caplog.text.count("cannot take new connections now: Too many open files") == 1


# Start and end


def is_gone(path: Path) -> bool:
    return not path.exists()


async def test_clients_can_connect_when_it_has_started(path: Path, driver: FakeDriver) -> None:
    async with serving(path, driver):
        await connect(path)
        with pytest.raises(SocketInUse):
            await serve(path, Handlers(driver, reload=lambda: None))
    assert is_gone(path)


async def test_a_group_that_does_not_exist(path: Path, driver: FakeDriver) -> None:
    with pytest.raises(SocketError, match="there is no group"):
        await serve(path, Handlers(driver, reload=lambda: None), group="nobodys-group")


async def test_calls_under_way_are_answered_before_it_stops(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    """pitfall 97"""
    driver.gates[b"a"] = trio.Event()
    async with trio.open_nursery() as nursery:
        async with serving(path, driver) as scope:
            client, idle = await connect(path), await connect(path)
            assert error_name(await idle.call(VERSION)) is None
            await client.send(call_bytes(PUT, {"key": "YQ==", "value": ""}))
            await wait_all_tasks_blocked()

            async def finish_late() -> None:
                await trio.sleep(1)
                driver.gates[b"a"].set()

            nursery.start_soon(finish_late)
            start = trio.current_time()
            scope.cancel()
        assert trio.current_time() - start == pytest.approx(1)
    assert error_name(await client.receive()) is None
    assert await client.receive() is None
    assert await idle.receive() is None
    assert is_gone(path)


async def test_calls_that_take_too_long_do_not_keep_it_from_stopping(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    """pitfall 97"""
    driver.gates[b"a"] = trio.Event()
    async with serving(path, driver) as scope:
        client, follower = await connect(path), await connect(path)
        await client.send(call_bytes(PUT, {"key": "YQ==", "value": ""}))
        await follower.send(call_bytes(f"{protocol.NODE}.ReadLog", {"follow": True}, more=True))
        await wait_all_tasks_blocked()
        start = trio.current_time()
        scope.cancel()
        with trio.CancelScope(shield=True):
            assert await follower.receive() is None
            assert trio.current_time() == start
            with pytest.raises(OSError, match="No such file"):
                await connect(path)
    assert trio.current_time() - start == pytest.approx(Limits().grace)
    assert await client.receive() is None


async def test_a_client_that_does_not_read_does_not_keep_it_from_stopping(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    for _ in range(10_000):
        driver.append()
    async with serving(path, driver) as scope:
        client = await connect(path)
        await client.send(call_bytes(f"{protocol.NODE}.ReadLog", {"count": 10_000}))
        await wait_all_tasks_blocked()
        start = trio.current_time()
        scope.cancel()
    assert trio.current_time() - start <= Limits().grace + 0.1


async def test_a_bug_of_ours_stops_it(
    path: Path, driver: FakeDriver, autojump_clock: MockClock
) -> None:
    driver.failure = AssertionError("a log has no gaps")
    with pytest.raises(BaseExceptionGroup) as caught:
        async with serving(path, driver):
            client = await connect(path)
            await client.send(call_bytes(PUT, {"key": "YQ==", "value": ""}))
            assert await client.receive() is None
            await trio.sleep_forever()
    assert caught.group_contains(AssertionError, match="a log has no gaps")
    assert is_gone(path)


def test_memory_is_shared() -> None:
    memory = Memory(10)
    assert memory.take(10)
    assert not memory.take(1)
    assert memory.take(-4)
    assert memory.take(4)
    assert memory.free == 0


def test_limits_leave_room_for_an_entry_in_base64() -> None:
    assert Limits.for_entries(1 << 20, 7) == Limits(connections=7)
    assert Limits.for_entries(16 << 20, 7).message_bytes > (16 << 20) * 4 / 3


def test_many_clients_at_once_from_threads(live_path: Path, driver: FakeDriver) -> None:
    """Connections of their own, serial calls each; every write is there once."""

    def write(name: int) -> None:
        with protocol.Connection(live_path) as connection:
            for _ in range(50):
                key = protocol_key(name)
                connection.call(PUT, {"key": key, "value": key})

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert driver.answered == 400
    assert len(driver.items) == 8


def protocol_key(name: int) -> str:
    return f"{name:04d}"


async def test_a_connection_that_fails_unexpectedly_ends_alone(
    path: Path, driver: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that JSON cannot hold is a bug, and none that touches what the daemon holds."""
    async with serving(path, driver):
        other = await connect(path)
        assert error_name(await other.call(VERSION)) is None
        driver.name = object()  # type: ignore[assignment]
        client = await connect(path)
        await client.send(call_bytes(VERSION))
        assert await client.receive() is None
        driver.name = "node1"
        assert error_name(await other.call(VERSION)) is None
    assert "a client's connection ended unexpectedly" in caplog.text


async def test_a_client_that_says_nothing(path: Path, driver: FakeDriver) -> None:
    async with serving(path, driver):
        client = await connect(path)
        await client.stream.send_eof()
        assert await client.receive() is None
