"""The load generators in load/: building them, running them, and what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

SOURCE = Path(__file__).parent / "load"
DEBIAN_GO = Path("/usr/share/gocode")
ETCD_CLIENT = DEBIAN_GO / "src/go.etcd.io/etcd/clientv3"
INSTALL = "apt install golang-go golang-etcd-server-dev etcd-server"


class Sample(msgspec.Struct):
    """One measurement; CPU times are of the measured time only."""

    operations: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: int
    first_error: str
    server_cpu_s: list[float]
    generator_cpu_s: float
    machine_cpu_s: float
    """of all processes on this machine, also those that are not ours"""

    @property
    def rate(self) -> float:
        return self.operations / self.seconds

    @property
    def cpu_s_per_10k(self) -> float:
        """CPU seconds of all servers for 10,000 operations."""
        return sum(self.server_cpu_s) * 1e4 / max(self.operations, 1)


class Failed(Exception):
    """A generator could not be built or ended with an error."""


def command(system: str, directory: Path) -> Sequence[str]:
    """How to run the generator for `system`: that in Go, for raftd else that in Python. Failed."""
    if system == "raftd" and not shutil.which("go"):
        return [sys.executable, "-m", "tests.bench.python_load"]
    return [str(build(system, directory).absolute())]


def build(system: str, directory: Path) -> Path:
    """The generator for `system`, built into `directory` unless it is there already."""
    if system == "etcd" and not (ETCD_CLIENT.exists() and shutil.which("etcd")):
        raise Failed(f"it is not installed, or its Go client is not ({INSTALL})")
    binary = directory / f"{system}-load"
    sources = [SOURCE / "main.go", SOURCE / f"{system}.go"]
    if binary.exists() and all(
        source.stat().st_mtime < binary.stat().st_mtime for source in sources
    ):
        return binary
    if not shutil.which("go"):
        raise Failed(f"Go is missing ({INSTALL})")
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["go", "build", "-o", str(binary.absolute()), *(source.name for source in sources)],
        cwd=SOURCE,
        env={**os.environ, "GO111MODULE": "off", "GOPATH": str(DEBIAN_GO), "GOFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"the generator for {system} does not build: {done.stderr[:500]}")
    return binary


def run(command: Sequence[str], target: str, **options: object) -> Sample:
    """`options` are the generator's own (load/main.go). Raises Failed."""
    words = [word for name, value in options.items() for word in (f"-{name}", str(value))]
    done = subprocess.run(
        [*command, "-target", target, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return msgspec.json.decode(done.stdout, type=Sample)
