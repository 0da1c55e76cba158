"""What a run has found: kept in memory while it goes on, written as JSON at its end."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from raftd import __version__
from tests.bench.generator import Sample


class Row(msgspec.Struct):
    """One measurement of one system in one round. `leader` is an index into the servers' times."""

    scenario: str
    system: str
    round: int
    leader: int
    sample: Sample


class MemoryRow(msgspec.Struct):
    """Of one node, when all measurements with values of one size are done. In bytes."""

    system: str
    after: str
    leader: bool
    peak: int
    """VmHWM: the most that was ever resident, pages of mapped files too"""
    anonymous: int
    """RssAnon: resident at that moment, without pages of files"""


class Restart(msgspec.Struct):
    """How long a killed follower takes from its start until it has applied what it had before."""

    system: str
    entries: int
    rebuilt: bool
    """the state machine was lost, too, and is made again from the log"""
    seconds: float


class Results(msgspec.Struct):
    """Everything. Times in seconds."""

    machine: dict[str, str]
    rows: list[Row] = []
    memory: list[MemoryRow] = []
    idle_cores: dict[str, float] = {}
    """CPU seconds a second that a whole cluster takes when nobody asks anything"""
    failover_s: dict[str, list[float]] = {}
    restarts: list[Restart] = []
    status_s: list[float] = []
    """`raftctl status`, from start to exit"""
    status_cpu_s: float = 0.0
    left_out: list[str] = []
    """what was not measured, and why"""
    seconds: float = 0.0

    def samples(self, scenario: str, system: str) -> dict[int, Sample]:
        """By round."""
        return {
            row.round: row.sample
            for row in self.rows
            if row.scenario == scenario and row.system == system
        }

    def systems(self) -> list[str]:
        """In the order in which they had their turns."""
        return list(dict.fromkeys(row.system for row in self.rows))

    def median(self, scenario: str, system: str, of: Callable[[Sample], float]) -> float | None:
        samples = self.samples(scenario, system).values()
        return statistics.median(of(sample) for sample in samples) if samples else None

    def ratio(
        self,
        scenario: str,
        system: str,
        of: Callable[[Sample], float],
        *,
        other_scenario: str | None = None,
        other: str = "etcd",
    ) -> float | None:
        """The median of the rounds' ratios: what disturbs a round disturbs both systems in it."""
        ours = self.samples(scenario, system)
        theirs = self.samples(other_scenario or scenario, other)
        found = [
            of(ours[number]) / of(theirs[number])
            for number in ours.keys() & theirs.keys()
            if of(theirs[number]) > 0
        ]
        return statistics.median(found) if found else None

    def disturbance(self) -> float:
        """Cores that processes took which do not belong to the measurement; the mean."""
        found = [
            (each.machine_cpu_s - each.generator_cpu_s - sum(each.server_cpu_s)) / each.seconds
            for each in (row.sample for row in self.rows)
        ]
        return max(0.0, statistics.fmean(found)) if found else 0.0

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))


def read(file: Path) -> Results:
    """Raises OSError, or msgspec.ValidationError if the file has another form."""
    return msgspec.json.decode(file.read_bytes(), type=Results)


def describe_machine(directory: Path) -> dict[str, str]:
    """What figures depend on; `directory` is where the data is."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
    return {
        "cpu": f"{os.cpu_count()} x {cpu}",
        "kernel": platform.release(),
        "disk": f"{filesystem(directory)}, {directory}",
        "raftd": f"{__version__}, Python {sys.version.split()[0]}",
        "etcd": _first_line("etcd", "--version").removeprefix("etcd Version: "),
        "go": _first_line("go", "version").removeprefix("go version "),
    }


def filesystem(directory: Path) -> str:
    """Its type, as in proc_pid_mountinfo(5)."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, rest = line.partition(" - ")
        if mount.split()[2] == wanted:
            return rest.split()[0]
    return "unknown file system"


def _first_line(*command: str) -> str:
    if not shutil.which(command[0]):
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]
