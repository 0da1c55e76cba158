"""Clusters of real processes on loopback, all started, asked and killed in one way; raftd's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

from tests.system.client import CallError, NoAnswer, NoConnection
from tests.system.cluster import free_port
from tests.system.node import Node
from tests.system.waiting import wait_until

NODES = 3
ELECTION_TIMEOUT_MS = (1000, 2000)
"""raftd's default. etcd's is the same: a second, and a random part of as much."""


class Cluster(Protocol):
    """Nodes are numbers from 0."""

    name: str

    def start(self) -> None:
        """All nodes that do not run; returns when there is a leader."""

    def start_node(self, node: int) -> None:
        """Returns at once."""

    def leader(self) -> int:
        """Waits until all nodes that run agree on one."""

    def target(self, node: int) -> str:
        """Where the load generator finds it."""

    def pids(self) -> list[int]:
        """Of all nodes; only while all run."""

    def kill(self, node: int) -> None:
        """SIGKILL."""

    def applied(self, node: int) -> int | None:
        """The index of the last entry that it has applied; None while it does not answer."""

    def put(self, node: int, key: str) -> bool:
        """Was it acknowledged? Answers within seconds."""

    def forget_state(self, node: int) -> bool:
        """Remove what a stopped node can make again from its log; False if it cannot."""

    def close(self) -> None:
        """Kill all, remove all."""


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
                {
                    "name": name,
                    "listen": members[name],
                    "advertise": members[name],
                    "log": "info",
                    **settings,
                    "members": members,
                },
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

    def start_node(self, node: int) -> None:
        self.nodes[node].start()

    def leader(self) -> int:
        names = [node.name for node in self.nodes]

        def agreed() -> list[int] | None:
            said = set()
            for node in self.nodes:
                assert not node.died, f"{node.name} ended by itself:\n{node.log[-1000:]}"
                if node.running:
                    status = node.status()
                    if status is None or not status["writable"]:
                        return None
                    said.add(status["leader"])
            return [names.index(said.pop())] if len(said) == 1 else None

        return wait_until(agreed, f"{self.name} has a leader")[0]

    def target(self, node: int) -> str:
        return str(self.nodes[node].socket)

    def pids(self) -> list[int]:
        return [node.pid for node in self.nodes]

    def kill(self, node: int) -> None:
        self.nodes[node].kill()

    def applied(self, node: int) -> int | None:
        status = self.nodes[node].status()
        if status is None:
            return None
        name = self.nodes[node].name
        index = next(each for each in status["members"] if each["name"] == name)["applied_index"]
        return None if index is None else int(index)

    def put(self, node: int, key: str) -> bool:
        try:
            with self.nodes[node].client() as client:
                client.put(key, "x", 5000)
        except (NoConnection, NoAnswer, CallError):
            return False
        return True

    def forget_state(self, node: int) -> bool:
        shutil.rmtree(self.nodes[node].data / "state")
        return True

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
