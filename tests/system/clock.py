"""A wall clock that jumps, below a running daemon: libfaketime, told by a file what to add."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.system.node import Node

_PLACES = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
_LIBRARY = "libfaketimeMT.so.1"


def find_library() -> Path | None:
    """libfaketime for programs with threads, if this machine has it."""
    for place in _PLACES:
        for found in sorted(Path(place).glob(f"**/faketime/{_LIBRARY}")):
            return found
    return None


class WallClock:
    """The wall clock of one node, from its next start on; its monotonic clock stays right."""

    def __init__(self, node: Node, library: Path) -> None:
        self._file = node.directory / "clock"
        self.set(0)
        node.environment |= {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds between two looks at the file
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Its way around an old fault of glibc makes timed waits of today's glibc spin.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def set(self, offset_s: int) -> None:
        """Within a second it is that much ahead of (or, below 0, behind) the machine's."""
        temporary = self._file.with_suffix(".new")
        temporary.write_text(f"{offset_s:+d}s\n")
        os.replace(temporary, self._file)  # noqa: PTH105 - atomic, and says so


def require_library() -> Path:
    library = find_library()
    if library is None:
        pytest.skip(f"{_LIBRARY} is not installed (Debian: libfaketime)")
    return library
