"""Three processes of PySyncObj, for comparison: another Raft in Python. It never syncs."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

import msgspec

from tests.bench.generator import Sample
from tests.bench.systems import NODES
from tests.system.cluster import free_port
from tests.system.node import REPOSITORY
from tests.system.waiting import wait_until

ANSWER_S = 60


def installed() -> bool:
    return importlib.util.find_spec("pysyncobj") is not None


class PySyncObj:
    """Leave it to end the processes and remove their files."""

    name = "pysyncobj"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()
        self._addresses = [f"127.0.0.1:{free_port()}" for _ in range(NODES)]
        self._processes = [self._start(node) for node in range(NODES)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        shutil.rmtree(self._directory)

    def _start(self, node: int) -> subprocess.Popen[bytes]:
        own = self._addresses[node]
        others = [address for address in self._addresses if address != own]
        with (self._directory / f"{node}.log").open("wb") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.bench.pysyncobj_node"),
                    *(self._socket(node), str(self._directory / f"{node}.journal"), own, *others),
                ],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _socket(self, node: int) -> str:
        return str(self._directory / f"{node}.sock")

    def _ask(self, node: int, line: str) -> str:
        """Raises OSError."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(self._socket(node))
            connection.sendall(line.encode() + b"\n")
            with connection.makefile() as stream:
                return stream.readline().strip()

    def leader(self) -> int:
        def agreed() -> list[int] | None:
            try:
                said = {self._ask(node, "leader") for node in range(NODES)}
            except OSError:
                return None
            leader = said.pop()
            return [self._addresses.index(leader)] if not said and ":" in leader else None

        return wait_until(agreed, "PySyncObj has a leader")[0]

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def load(self, node: int, clients: int, size: int, seconds: float) -> Sample:
        """Puts with `clients` calls in flight."""
        pids = ",".join(map(str, self.pids()))
        line = f"-target x -clients {clients} -size {size} -duration {seconds}s -pids {pids}"
        sample = msgspec.json.decode(self._ask(node, line), type=Sample)
        sample.generator_cpu_s = 0.0  # it is part of the leader
        return sample
