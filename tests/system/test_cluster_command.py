"""`raftd cluster`: a whole cluster in the foreground, as somebody tries it out at a terminal."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from tests.system.client import CallError, Client, NoAnswer, NoConnection
from tests.system.cluster import free_port
from tests.system.node import REPOSITORY
from tests.system.waiting import wait_until


@pytest.fixture
def directory() -> Generator[Path, None, None]:
    with tempfile.TemporaryDirectory(prefix="raftd-test-") as name:
        yield Path(name)


def test_start_put_stop_and_start_again(directory: Path) -> None:
    """Ctrl-C stops all, the next start has the data, and no process is left behind."""
    port = _three_free_ports()
    with _Command(directory, "--base-port", str(port)) as command:
        _put(directory, "node1", "a", "1")
        _put(directory, "node3", "b", "2")
        command.interrupt()
        assert command.returncode == 0, command.output
        assert not _listening(port)
    with _Command(directory) as command:
        for name in ("node1", "node2", "node3"):
            with _client(directory, name) as client:
                assert wait_until(partial(_get, client, "a"), "a is there") == "1"
                assert _get(client, "b") == "2"
        for name in ("node1", "node2", "node3"):
            assert f"{name}" in command.output
        command.interrupt()
        assert command.returncode == 0, command.output


class _Command:
    """A running `raftd cluster`; killed at the end, and its children with it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._log = directory / "output"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "raftd", "cluster", "--nodes", "3"),
                    *("--data-dir", str(directory), *options),
                    *("--election-timeout-ms", "300", "600", "--heartbeat-interval-ms", "50"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            error.add_note(self.output)
        if self._process.poll() is None:
            self._process.kill()  # the kernel then stops its children: it asked for that
        self._process.wait()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)
        wait_until(lambda: self._process.poll() is not None, "the command ends")

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")


def _three_free_ports() -> int:
    """The first of three ports in a row that nobody uses."""
    while True:
        port = free_port()
        if not _listening(port + 1) and not _listening(port + 2):
            return port


def _listening(port: int) -> bool:
    """Somebody listens on that loopback port (Linux, /proc/net/tcp)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and " 0A " in line for line in lines)


def _client(directory: Path, name: str) -> Client:
    def connect() -> Client | None:
        try:
            return Client(directory / name / "raftd.sock", name)
        except NoConnection:
            return None

    client = wait_until(connect, f"{name} is there")
    assert client is not None
    return client


def _get(client: Client, key: str) -> str | None:
    try:
        return client.get(key)
    except CallError:
        return None


def _put(directory: Path, name: str, key: str, value: str) -> None:
    def done() -> bool:
        try:
            with _client(directory, name) as client:
                client.put(key, value, 2000)
        except (CallError, NoAnswer):
            return False
        return True

    wait_until(done, f"{name} takes a write")
