"""Several real raftd processes that form one cluster, on loopback or in namespaces of their own."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.system.client import CallError, NoAnswer, NoConnection
from tests.system.node import Node
from tests.system.waiting import PATIENCE_S, wait_until

ELECTION_TIMEOUT_MS = (300, 600)
HEARTBEAT_INTERVAL_MS = 50
CALM: dict[str, Any] = {"election_timeout_ms": [1000, 2000], "heartbeat_interval_ms": 50}
"""Settings for tests in which no election may happen, however busy the machine is."""
LOG_TAIL_LINES = 60
KEEP = "RAFTD_TESTS_KEEP"
"""Environment: when set, the directories of clusters stay."""
_dice = random.SystemRandom()
_given: set[int] = set()


class Cluster:
    """`nodes` by name, node1 to nodeN. Leaving it ends and removes everything."""

    def __init__(
        self,
        size: int,
        *,
        addresses: Mapping[str, str] | None = None,
        label: str = "test",
        **settings: Any,
    ) -> None:
        """`settings` go into every node's configuration."""
        names = [f"node{number}" for number in range(1, size + 1)]
        members = dict(addresses or {name: f"tcp://127.0.0.1:{free_port()}" for name in names})
        # Not pytest's own: a socket's path has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="raftd-test-"))
        self._entered = False
        self.nodes: dict[str, Node] = {}
        self.belongings = contextlib.ExitStack()
        """Left when all processes have ended, before the directory is removed."""
        for name in names:
            own = {
                "name": name,
                "listen": members[name],
                "advertise": members[name],
                "cluster": label,
                "election_timeout_ms": list(ELECTION_TIMEOUT_MS),
                "heartbeat_interval_ms": HEARTBEAT_INTERVAL_MS,
                "log": "debug,transport=info,admin=info",
                "limits": {"segment_bytes": 4 << 20, "snapshot_log_bytes": 64 << 20},
                **settings,
                "members": members,
            }
            self.nodes[name] = Node(self.directory / name, own)

    def __enter__(self) -> Self:
        self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.check_health()
        except AssertionError as failure:
            failure.add_note(self.logs())
            raise
        finally:
            if error is not None:
                error.add_note(self.logs())
            self.close()

    def close(self) -> None:
        self.kill_all()
        self.belongings.close()
        if KEEP not in os.environ:
            shutil.rmtree(self.directory)

    def check_health(self) -> None:
        """Nobody died by itself, and no log has a traceback."""
        for node in self.nodes.values():
            assert not node.died, f"{node.name} ended by itself, with status {node.returncode}"
            assert "Traceback" not in node.log, f"{node.name} logged a traceback"

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.running]

    def others(self, *but: Node) -> list[Node]:
        return [node for node in self.nodes.values() if node not in but]

    def start(self) -> Self:
        """Start all that do not run, and wait until they have a leader that can write."""
        try:
            for node in self.nodes.values():
                if not node.running:
                    node.start()
            self.wait_for_leader()
        except BaseException as error:
            if not self._entered:  # nobody else will
                error.add_note(self.logs())
                self.close()
            raise
        return self

    def kill_all(self) -> None:
        for node in self.nodes.values():
            node.kill()

    def wait_for_leader(
        self, among: Iterable[Node] | None = None, patience: float = PATIENCE_S
    ) -> Node:
        """Until every one of `among` (all that run) answers and follows one writable leader."""
        nodes = list(among) if among is not None else self.running

        def agreed() -> Node | None:
            leaders: set[str] = set()
            for node in nodes:
                assert node.running, f"{node.name} ended with status {node.returncode}"
                status = node.status()
                if status is None or not status["writable"]:
                    return None
                leaders.add(f"{status['leader']} {status['term']}")
            return self.nodes[leaders.pop().split()[0]] if len(leaders) == 1 else None

        names = " ".join(node.name for node in nodes)
        return wait_until(agreed, f"{names} have one leader and can write", patience)

    def wait_until_writable(self, node: Node, key: str = "probe", value: str = "x") -> None:
        """Until a put at `node` is done."""

        def done() -> bool:
            try:
                with node.client() as client:
                    client.put(key, value, 2000)
            except (NoConnection, NoAnswer, CallError):
                return False
            return True

        wait_until(done, f"{node.name} takes a write")

    def wait_until_converged(self, among: Iterable[Node] | None = None) -> None:
        """Until all have applied the same index, which is the end of everybody's log."""
        nodes = list(among) if among is not None else self.running

        def same() -> bool:
            seen: set[tuple[int, int]] = set()
            for node in nodes:
                status = node.status()
                if status is None:
                    return False
                own = next(each for each in status["members"] if each["name"] == node.name)
                seen.add((own["last_index"], own["applied_index"]))
            return len(seen) == 1 and len(set(next(iter(seen)))) == 1

        wait_until(same, "all have applied the same log")

    def logs(self) -> str:
        """The ends of all logs, for a failure message."""
        parts = []
        for node in self.nodes.values():
            lines = node.log.splitlines()
            state = "running" if node.running else f"exit status {node.returncode}"
            parts.append(f"=== {node.name} ({state}), {len(lines)} lines, the last ones:")
            parts += lines[-LOG_TAIL_LINES:]
        return "\n".join(parts)


def free_port() -> int:
    """A loopback port that nobody uses, and none of those the kernel gives to outgoing connections.

    Were it one of them, a peer that dials a dead node could be connected with itself.
    """
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    highest = min(int(ephemeral[0]), 32768)
    for _ in range(1000):
        port = _dice.randrange(10_000, highest)
        if port in _given:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port found")
