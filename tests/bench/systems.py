"""What is compared: clusters of real processes on loopback, all started and asked in the same way."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.system.client import CallError, NoAnswer, NoConnection
from tests.system.cluster import free_port
from tests.system.node import Node
from tests.system.waiting import wait_until

NODES = 3
ELECTION_TIMEOUT_MS = (1000, 2000)
"""raftd's default. etcd's default is the same: 1 s, and a random part of as much."""
ORPHANS_DIE = ("setpriv", "--pdeathsig", "KILL")
ETCD_QUOTA_BYTES = 8 << 30


class System(Protocol):
    """A cluster. Nodes are numbers from 0."""

    name: str
    directory: Path

    def start(self) -> None:
        """All nodes that do not run; returns when there is a leader that can write."""

    def leader(self) -> int: ...

    def target(self, node: int) -> str:
        """Where the load generator finds it."""

    def pids(self) -> list[int]: ...

    def kill(self, node: int) -> None:
        """SIGKILL."""

    def close(self) -> None: ...


class Raftd:
    """raftd with its defaults; `settings` go into the configuration."""

    def __init__(
        self,
        directory: Path,
        nodes: int = NODES,
        *,
        name: str = "raftd",
        source: Path | None = None,
        **settings: Any,
    ) -> None:
        """`source`: the tree whose raftd is run; default: this one."""
        self.name = name
        self.directory = directory
        names = [f"node{number}" for number in range(1, nodes + 1)]
        members = {name: f"tcp://127.0.0.1:{free_port()}" for name in names}
        self.nodes = [
            Node(
                directory / name,
                {"name": name, "listen": members[name], "advertise": members[name]}
                | {"log": "info", **settings, "members": members},
            )
            for name in names
        ]
        for node in self.nodes:
            if source:
                node.environment["PYTHONPATH"] = str(source.absolute())

    def start(self) -> None:
        for node in self.nodes:
            if not node.running:
                node.start()
        self.leader()

    def leader(self) -> int:
        names = [node.name for node in self.nodes]

        def agreed() -> list[int] | None:
            said = []
            for node in self.nodes:
                if node.running:
                    status = node.status()
                    if status is None or not status["writable"]:
                        return None
                    said.append(status["leader"])
            return [names.index(said[0])] if len(set(said)) == 1 else None

        return wait_until(agreed, "raftd has a leader")[0]

    def target(self, node: int) -> str:
        return str(self.nodes[node].socket)

    def pids(self) -> list[int]:
        return [node.pid for node in self.nodes]

    def kill(self, node: int) -> None:
        self.nodes[node].kill()

    def applied(self, node: int) -> int | None:
        """The index of the last entry it has applied; None while it does not answer."""
        status = self.nodes[node].status()
        if status is None:
            return None
        name = self.nodes[node].name
        index = next(each for each in status["members"] if each["name"] == name)["applied_index"]
        return None if index is None else int(index)

    def put(self, node: int, key: str) -> bool:
        """Was it acknowledged?"""
        try:
            with self.nodes[node].client() as client:
                client.put(key, "x", 5000)
        except (NoConnection, NoAnswer, CallError):
            return False
        return True

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Etcd:
    """etcd with its defaults, but for a larger quota: it keeps every version of every key."""

    def __init__(self, directory: Path, nodes: int = NODES) -> None:
        self.name = "etcd"
        self.directory = directory
        self._ports = [(free_port(), free_port()) for _ in range(nodes)]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * nodes
        self._ids: dict[str, int] = {}
        directory.mkdir(parents=True)

    def start(self) -> None:
        for node, process in enumerate(self._processes):
            if process is None:
                self._start(node)
        self.leader()

    def _start(self, node: int) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in self._ports[node])
        everybody = ",".join(
            f"n{number}=http://127.0.0.1:{port}" for number, (_, port) in enumerate(self._ports)
        )
        mercy = ORPHANS_DIE if shutil.which(ORPHANS_DIE[0]) else ()
        with (self.directory / f"n{node}.log").open("ab") as log:
            self._processes[node] = subprocess.Popen(
                [
                    *(*mercy, "etcd", "--name", f"n{node}"),
                    *("--data-dir", str(self.directory / f"n{node}")),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", everybody),
                    *("--quota-backend-bytes", str(ETCD_QUOTA_BYTES), "--logger", "zap"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("ETCD_")},
                start_new_session=True,
            )

    def _ask(self, node: int, path: str, body: object) -> dict[str, Any]:
        """Its JSON gateway. Raises OSError."""
        request = urllib.request.Request(
            f"http://{self.target(node)}{path}", json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=6) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def leader(self) -> int:
        def agreed() -> list[int] | None:
            leaders, own = set(), {}
            for node, process in enumerate(self._processes):
                if process is None:
                    continue
                try:
                    status = self._ask(node, "/v3/maintenance/status", {})
                except (OSError, ValueError):
                    return None
                leaders.add(status.get("leader"))
                own[status["header"]["member_id"]] = node
            leader = leaders.pop()
            return [own[leader]] if not leaders and leader in own else None

        return wait_until(agreed, "etcd has a leader")[0]

    def target(self, node: int) -> str:
        return f"127.0.0.1:{self._ports[node][0]}"

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes if process is not None]

    def kill(self, node: int) -> None:
        process = self._processes[node]
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            self._processes[node] = None

    def applied(self, node: int) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            status = self._ask(node, "/v3/maintenance/status", {})
            return int(status["raftAppliedIndex"])
        return None

    def put(self, node: int, key: str) -> bool:
        with contextlib.suppress(OSError, ValueError):
            self._ask(node, "/v3/kv/put", {"key": key, "value": "eA=="})
            return True
        return False

    def close(self) -> None:
        for node in range(len(self._processes)):
            self.kill(node)
        shutil.rmtree(self.directory, ignore_errors=True)


def first_acknowledged(system: Raftd | Etcd, nodes: Sequence[int], patience: float = 60) -> float:
    """Seconds until a put through one of `nodes`, asked in turn, is done."""
    start = time.monotonic()
    wait_until(
        lambda: any(system.put(node, "failover") for node in nodes),
        f"{system.name} takes a write again",
        patience,
    )
    return time.monotonic() - start
