"""Bytes that no client and no peer would send, at the addresses where they listen."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from pathlib import Path

from tests.history import Recorder
from tests.system.cluster import CALM, Cluster
from tests.system.load import read_back
from tests.system.node import Node

SP_REQUEST = b"\x00SP\x00\x00\x30\x00\x00"
"""The handshake of a request socket (SP protocol mapping for TCP, protocol 48)."""
MAX_RESIDENT_BYTES = 400 << 20


def test_hostile_bytes_on_the_peer_port() -> None:
    """pitfall 13, 74, 77: the daemon lives, stays small, and serves."""
    dice = random.Random(11)
    with Cluster(3, **CALM).start() as cluster:
        leader = cluster.wait_for_leader()
        term = leader.wait_until_up()["term"]
        cluster.wait_until_writable(leader, "a", "1")
        host, port = leader.settings["listen"].removeprefix("tcp://").split(":")
        for data in _peer_garbage(dice):
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                _send_and_listen(connection, data)
        idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(100)]
        for connection in idle:
            connection.close()
        _still_well(cluster, leader)
        assert leader.wait_until_up()["term"] == term, "nobody was disturbed"


def test_hostile_bytes_on_the_unix_socket() -> None:
    """pitfall 77: also from many clients at once, half-sent, and never read."""
    dice = random.Random(12)
    with Cluster(1).start() as cluster:
        node = cluster["node1"]
        cluster.wait_until_writable(node, "a", "1")
        for data in _client_garbage(dice):
            with _connect(node) as connection:
                _send_and_listen(connection, data)
        with contextlib.ExitStack() as open_connections:
            for number in range(200):
                connection = open_connections.enter_context(_connect(node))
                with contextlib.suppress(OSError):
                    connection.sendall(b'{"method":"io.raftd.Node.GetStat'[: number % 30])
            reader = open_connections.enter_context(_connect(node))
            reader.settimeout(0.2)
            call = b'{"method":"io.raftd.Node.GetStatus"}\0'
            with contextlib.suppress(OSError):
                for _ in range(2000):  # pipelined, and no answer is ever read
                    reader.sendall(call * 10)
            _still_well(cluster, node)


def _peer_garbage(dice: random.Random) -> list[bytes]:
    noise = [dice.randbytes(dice.randrange(1, 300)) for _ in range(30)]
    huge = struct.pack(">Q", 2**62)
    return [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        SP_REQUEST,
        SP_REQUEST + huge,
        SP_REQUEST + huge + b"x" * 100_000,
        SP_REQUEST + struct.pack(">Q", 2**63 + 5) + b"x",
        SP_REQUEST + struct.pack(">Q", 100) + b"only some",
        *noise,
        *(
            SP_REQUEST + struct.pack(">Q", len(each) + 4) + b"\x80\x00\x00\x01" + each
            for each in noise
        ),
    ]


def _client_garbage(dice: random.Random) -> list[bytes]:
    noise = [dice.randbytes(dice.randrange(1, 300)) + b"\0" for _ in range(30)]
    method = b'"method":"io.raftd.KV.Put"'
    return [
        b"",
        b"\0",
        b"\0" * 1000,
        b"{}\0",
        b"[]\0",
        b"null\0",
        b'"\xff\xfe"\0',
        b"[" * 100_000 + b"\0",
        b'{"method":5}\0',
        b'{"method":"io.raftd.KV.Put","parameters":7}\0',
        b"{" + method + b',"parameters":{"key":"not base64!","value":"YQ=="}}\0',
        b"{" + method + b',"parameters":{"key":"YQ==","value":"YQ==","timeout_ms":-1}}\0',
        b"{" + method + b',"parameters":{"key":"YQ==","value":"YQ==","timeout_ms":1e400}}\0',
        b"{" + method + b',"parameters":{"key":"YQ==","value":true}}\0',
        b'{"method":"io.raftd.Node.GetLogEntry","parameters":{"index":-1}}\0',
        b'{"method":"io.raftd.Node.GetLogEntry","parameters":{"index":18446744073709551616}}\0',
        b'{"method":"io.raftd.Node.ReadLog","parameters":{"count":9223372036854775807}}\0',
        b"x" * (8 << 20),
        b'{"method":"' + b"m" * (8 << 20) + b'"}\0',
        *noise,
    ]


def _connect(node: Node) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(node.socket))
    return connection


def _send_and_listen(connection: socket.socket, data: bytes) -> None:
    """It may answer, or hang up in the middle; both are right."""
    with contextlib.suppress(OSError):
        connection.sendall(data)
        connection.settimeout(0.05)
        connection.recv(65536)


def _still_well(cluster: Cluster, node: Node) -> None:
    assert node.running
    assert read_back(node, ["a"], Recorder()) == {"a": "1"}
    cluster.wait_until_writable(node, "b", str(time.monotonic_ns()))
    for line in (node.log_file.parent / "log").read_text().splitlines():
        assert len(line) < 2000, "no hostile bytes in the log"
    pages = int(_proc(node, "statm").split()[1])
    assert pages * 4096 < MAX_RESIDENT_BYTES


def _proc(node: Node, name: str) -> str:
    return Path(f"/proc/{node.pid}/{name}").read_text()
