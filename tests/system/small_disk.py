"""A file system of a few megabytes below a node's data directory, and something that fills it."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

PAGE_BYTES = 4096


@contextlib.contextmanager
def mounted(kind: str, directory: Path, size_mb: int) -> Generator[None, None, None]:
    """`directory` is made, and is a file system of its own: tmpfs, or ext4 in a file."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    directory.mkdir(parents=True, exist_ok=True)
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(directory)]
    else:
        image = directory.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(size_mb << 20)
        _must(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image)])
        command = ["mount", "-o", "loop", str(image), str(directory)]
    _must(command)
    try:
        yield
    finally:
        # Lazy: a process that dies slowly does not keep the test from cleaning up.
        subprocess.run(["umount", "-l", str(directory)], check=False)


def fill(file: Path) -> None:
    """Write `file` until not one more page fits."""
    with file.open("wb", buffering=0) as filler:
        for chunk in (1 << 18, PAGE_BYTES):
            try:
                while True:
                    filler.write(b"f" * chunk)
                    os.fsync(filler.fileno())
            except OSError as error:
                assert error.errno == errno.ENOSPC, error


def _must(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot make a small disk here: {command[0]}: {done.stderr.strip()}")
