"""`raftd cluster` with real nodes: it starts, dies in part, stops, and goes on where it was."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

PATIENCE_S = 30
"""Never reached when all is well."""
QUICK = ("--election-timeout-ms", "200", "400", "--heartbeat-interval-ms", "40")


@contextmanager
def running(directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "raftd", "cluster", "--data-dir", str(directory), *options]
    with subprocess.Popen([*command, *QUICK], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> list[str]:
    """The lines up to the first in which `pattern` is found."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    raise AssertionError(f"no {pattern!r} in {''.join(lines)}")


def kv(directory: Path, node: str, *arguments: str) -> str:
    """The answer of raftctl; tried again while there is no leader yet."""
    own = directory / node / "raftd.sock"
    command = [sys.executable, "-m", "raftctl", "--socket", str(own), "kv", *arguments]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        assert time.monotonic() < deadline, done.stderr


def free_base_port(count: int) -> str:
    while True:
        base = random.randrange(20_000, 32_000)
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return str(base)


def test_it_goes_on_with_the_same_data(tmp_path: Path) -> None:
    """pitfall 1"""
    with running(tmp_path, "--base-port", free_base_port(3)) as process:
        started = "".join(read_until(process, "node3 started, pid"))
        read_until(process, "leads term")
        kv(tmp_path, "node1", "put", "key", "value")
        match = re.search(r"node2 started, pid (\d+)", started)
        assert match
        os.kill(int(match[1]), signal.SIGKILL)
        read_until(process, "node2 was killed by SIGKILL")
        assert kv(tmp_path, "node3", "get", "key") == "value"
        process.send_signal(signal.SIGINT)
        said = "".join(read_until(process, "node3 stopped"))
        assert "node1 stopped" in said
        assert process.wait(PATIENCE_S) == 0
    with running(tmp_path) as process:
        read_until(process, "leads term")
        assert kv(tmp_path, "node2", "get", "key") == "value"
        process.send_signal(signal.SIGTERM)
        read_until(process, "node3 stopped")
        assert process.wait(PATIENCE_S) == 0


def test_nodes_that_cannot_listen_say_so_and_it_ends(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with running(tmp_path, "--nodes", "1", "--base-port", port) as process:
            said = "".join(read_until(process, "all nodes have ended"))
            assert process.wait(PATIENCE_S) == 1
    assert re.search(r"node1 +\| .*critical server: .*in use", said)
    assert "node1 ended with status 6 (address or socket in use)" in said
