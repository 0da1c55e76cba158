"""What /proc tells of a process: CPU time, memory, file descriptors. See proc(5)."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

MIB = 1 << 20
_TICKS = os.sysconf("SC_CLK_TCK")


class Memory(msgspec.Struct, frozen=True):
    """In bytes."""

    peak: int
    """VmHWM: the most that was ever resident"""
    anonymous: int
    """RssAnon: resident now, and not pages of a file that is mapped"""


def memory(pid: int) -> Memory:
    """Raises OSError if there is no such process."""
    fields: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in {"VmHWM", "RssAnon"}:
            fields[name] = int(rest.split()[0]) * 1024
    return Memory(fields["VmHWM"], fields["RssAnon"])


def cpu_seconds(pid: int) -> float:
    """User and system time so far, to 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def open_files(pid: int) -> int:
    """How many file descriptors it has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def machine_cpu_seconds() -> float:
    """That all processes on this machine have used so far, those that have ended too."""
    fields = Path("/proc/stat").read_text().split(None, 9)[1:9]
    return sum(int(each) for number, each in enumerate(fields) if number not in {3, 4}) / _TICKS
