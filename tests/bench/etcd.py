"""A cluster of etcd (Debian's etcd-server), spoken to over its JSON gateway."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from tests.bench.systems import NODES
from tests.system.cluster import free_port
from tests.system.waiting import wait_until

QUOTA_BYTES = 8 << 30
ORPHANS_DIE = ("setpriv", "--pdeathsig", "KILL")


class Etcd:
    """etcd with its defaults, but for a larger quota: it keeps every version of every key."""

    name = "etcd"

    def __init__(self, directory: Path, nodes: int = NODES) -> None:
        self.directory = directory
        self._ports = [(free_port(), free_port()) for _ in range(nodes)]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * nodes
        directory.mkdir(parents=True)

    def start(self) -> None:
        for node, process in enumerate(self._processes):
            if process is None:
                self.start_node(node)
        self.leader()

    def start_node(self, node: int) -> None:
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
                    *("--quota-backend-bytes", str(QUOTA_BYTES), "--logger", "zap"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={key: value for key, value in os.environ.items() if key[:5] != "ETCD_"},
                start_new_session=True,
            )

    def leader(self) -> int:
        def agreed() -> list[int] | None:
            said, own = set(), {}
            for node, process in enumerate(self._processes):
                if process is not None:
                    status = self._status(node)
                    if status is None:
                        return None
                    said.add(status.get("leader"))
                    own[status["header"]["member_id"]] = node
            leader = said.pop()
            return [own[leader]] if not said and leader in own else None

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
        status = self._status(node)
        return None if status is None else int(status.get("raftAppliedIndex", 0))

    def put(self, node: int, key: str) -> bool:
        with contextlib.suppress(OSError, ValueError):
            self._ask(node, "/v3/kv/put", {"key": key, "value": "eA=="})
            return True
        return False

    def forget_state(self, node: int) -> bool:
        return False

    def close(self) -> None:
        for node in range(len(self._processes)):
            self.kill(node)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _status(self, node: int) -> dict[str, Any] | None:
        with contextlib.suppress(OSError, ValueError):
            return self._ask(node, "/v3/maintenance/status", {})
        return None

    def _ask(self, node: int, path: str, body: object) -> dict[str, Any]:
        """Raises OSError or ValueError."""
        request = urllib.request.Request(
            f"http://{self.target(node)}{path}", json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found
