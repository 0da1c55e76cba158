"""The client that raftctl uses: what it sends, what it accepts, and how it says what went wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raftd.admin import protocol
from raftd.admin.protocol import (
    CallError,
    Connection,
    Disconnected,
    NoDaemon,
    NotPermitted,
    ProtocolViolation,
    TimedOut,
)
from tests.admin.fake_driver import FakeDriver

PING = "org.example.Ping"


@contextmanager
def answering(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server that takes one connection and does `serve` with it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(10)

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            serve(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)
        listener.close()
        assert not thread.is_alive()


def replying(*parts: bytes) -> Callable[[socket.socket], None]:
    """Take one call, send the parts, end the connection."""

    def serve(connection: socket.socket) -> None:
        while not connection.recv(65536).endswith(b"\0"):
            pass
        for part in parts:
            connection.sendall(part)

    return serve


def hanging(connection: socket.socket) -> None:
    """Never answer; go when the client goes."""
    while connection.recv(65536):
        pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raftd.sock"


def test_call_and_stream(live_path: Path, driver: FakeDriver) -> None:
    for _ in range(3):
        driver.append()
    with Connection(live_path) as connection:
        version = connection.call(f"{protocol.NODE}.GetVersion")
        assert version["node"] == "node1"
        parts = list(connection.stream(f"{protocol.NODE}.ReadLog", {"count": 2}))
        assert [entry["index"] for part in parts for entry in part["entries"]] == [2, 3]
        with pytest.raises(CallError) as caught:
            connection.call(f"{protocol.KV}.Get", {"key": "QQ=="})
        assert caught.value.name == "io.raftd.KV.NotFound"
        assert caught.value.parameters == {"key": "QQ=="}
        assert str(caught.value) == "io.raftd.KV.NotFound (key QQ==)"
        assert connection.call(f"{protocol.NODE}.GetVersion") == version


def test_replies_in_pieces_and_several_at_once(path: Path) -> None:
    parts = [b'{"parameters":{"n":1},"contin', b'ues":true}\0{"parameters":{"n":2}}\0']
    with answering(path, replying(*parts)), Connection(path) as connection:
        assert list(connection.stream(PING)) == [{"n": 1}, {"n": 2}]


def test_no_socket_there(path: Path) -> None:
    with pytest.raises(NoDaemon, match="there is no such socket") as caught:
        Connection(path)
    assert caught.value.path == str(path)


def test_below_a_file_there_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NoDaemon, match="there is no such socket"):
        Connection(tmp_path / "file" / "raftd.sock")


def test_a_socket_that_a_killed_daemon_left(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(NoDaemon, match="nobody listens there any more"):
        Connection(path)


def test_a_path_no_socket_can_have(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match="at most 107 bytes"):
        Connection(tmp_path / ("x" * 120))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not")
def test_not_permitted(path: Path) -> None:
    script = (
        "import os, sys\n"
        "from raftd.admin import protocol\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: protocol.Connection(sys.argv[1])\n"
        "except protocol.NotPermitted as error: print(error)\n"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
        command = [sys.executable, "-c", script, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "not permitted to connect" in done.stdout, done.stderr


def test_not_permitted_says_what_to_do(path: Path) -> None:
    assert "join the socket's group" in str(NotPermitted(str(path)))


def test_no_answer_in_time_ends_the_connection(path: Path) -> None:
    with answering(path, hanging), Connection(path, timeout=0.05) as connection:
        with pytest.raises(TimedOut, match=r"within 0\.05 s"):
            connection.call(PING)
        with pytest.raises(Disconnected, match="this connection has been closed"):
            connection.call(PING)


def test_a_server_that_does_not_read_times_out(path: Path) -> None:
    def reading_nothing(_: socket.socket) -> None:
        assert done.wait(10)

    done = threading.Event()
    with answering(path, reading_nothing), Connection(path, timeout=0.05) as connection:
        with pytest.raises(TimedOut):
            connection.call(PING, {"value": "x" * (8 << 20)})
        done.set()


def test_replies_that_drip_do_not_stretch_the_time(path: Path) -> None:
    """The bound is for the whole call, not for each piece of its reply."""

    def dripping(connection: socket.socket) -> None:
        connection.recv(65536)
        try:
            for _ in range(1000):
                connection.sendall(b" ")
                time.sleep(0.01)
        except OSError:
            pass

    with (
        answering(path, dripping),
        Connection(path, timeout=0.1) as connection,
        pytest.raises(TimedOut),
    ):
        connection.call(PING)


def test_a_full_queue_of_connections_is_waited_for_and_bounded(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with Connection(path), pytest.raises(TimedOut):
            Connection(path, timeout=0.05)


@pytest.mark.parametrize("reply", [b"", b'{"parameters":{"a":'])
def test_the_daemon_ends_in_the_middle(path: Path, reply: bytes) -> None:
    with (
        answering(path, replying(reply)),
        Connection(path) as connection,
        pytest.raises(Disconnected, match="before it had answered"),
    ):
        connection.call(PING)


def test_the_reason_of_a_server_that_hangs_up_is_read(path: Path) -> None:
    """A server that refuses a connection answers before it is asked, and does not read."""

    def refusing(connection: socket.socket) -> None:
        connection.sendall(
            b'{"error":"io.raftd.Node.TooManyConnections","parameters":{"limit":5}}\0'
        )

    with answering(path, refusing), Connection(path) as connection:
        with pytest.raises(CallError) as caught:
            connection.call(PING, {"value": "x" * (8 << 20)})
        assert caught.value.name == protocol.TOO_MANY_CONNECTIONS


@pytest.mark.parametrize(
    "reply",
    [
        b"hello",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        b"",
        b'{"parameters":[]}',
        b'{"error":5}',
        b'{"parameters":{},"continues":true}',
    ],
)
def test_a_reply_that_is_none(path: Path, reply: bytes) -> None:
    with (
        answering(path, replying(reply + b"\0")),
        Connection(path) as connection,
        pytest.raises(ProtocolViolation),
    ):
        connection.call(PING)


def test_a_reply_without_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_REPLY_BYTES", 1 << 20)

    def endless(connection: socket.socket) -> None:
        connection.recv(65536)
        try:
            while True:
                connection.sendall(b"x" * 65536)
        except OSError:
            pass

    with (
        answering(path, endless),
        Connection(path) as connection,
        pytest.raises(ProtocolViolation, match="longer than 1048576 bytes"),
    ):
        connection.call(PING)


def test_a_stream_can_bound_the_wait_for_each_reply(path: Path) -> None:
    def one_reply(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b'{"parameters":{"n":1},"continues":true}\0')
        hanging(connection)

    with answering(path, one_reply), Connection(path) as connection:
        stream = connection.stream(PING, reply_timeout=0.05)
        assert next(stream) == {"n": 1}
        with pytest.raises(TimedOut):
            next(stream)


def test_a_stream_that_is_left_closes_the_connection(path: Path) -> None:
    part = b'{"parameters":{"n":1},"continues":true}\0'
    with answering(path, replying(part, part)), Connection(path) as connection:
        stream = connection.stream(PING)
        assert next(stream) == {"n": 1}
        stream.close()  # type: ignore[attr-defined]
        with pytest.raises(Disconnected):
            connection.call(PING)


def test_what_is_sent_is_what_varlink_says(path: Path) -> None:
    calls: list[bytes] = []

    def recording(connection: socket.socket) -> None:
        for _ in range(2):
            calls.append(connection.recv(65536))
            connection.sendall(b'{"parameters":null}\0')

    with answering(path, recording), Connection(path) as connection:
        assert connection.call(PING, {"word": "é"}) == {}
        assert list(connection.stream(PING)) == [{}]
    first, second = (json.loads(call.removesuffix(b"\0")) for call in calls)
    assert first == {"method": PING, "parameters": {"word": "é"}}
    assert second == {"method": PING, "parameters": {}, "more": True}


def test_importing_it_needs_the_standard_library_only() -> None:
    script = "import sys, raftd.admin.protocol; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"trio", "msgspec", "pynng", "asyncio", "importlib.resources"} & set(loaded)


def test_the_interfaces_are_part_of_the_package() -> None:
    for name in protocol.INTERFACES:
        assert f"interface {name}\n" in protocol.interface_text(name)
