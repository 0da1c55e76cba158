"""Looking at, and spoiling, the system calls of a running daemon: strace(1) attached to it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

from tests.system.node import Node
from tests.system.waiting import wait_until

_LINE = re.compile(r"(?P<thread>\d+) +(?P<resumed><\.\.\. )?(?P<name>\w+)(?P<rest>.*)")
_BASE = re.compile(r'iov_base="((?:\\x[0-9a-f]{2})*)"')
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class Call(NamedTuple):
    """One system call. `begun` and `ended` are positions in the order of all that was seen."""

    name: str
    descriptor: int
    data: bytes
    begun: int
    ended: int
    """after everything, if it was never seen to end"""
    thread: int
    succeeded: bool


class Trace:
    """strace on all threads of a node, from `with` to the end of the block."""

    def __init__(self, node: Node, calls: str, *inject: str) -> None:
        """`calls`, separated by commas, are traced; each of `inject` is an injection to strace."""
        self._node = node
        self._file = node.directory / "trace"
        self._errors = node.directory / "trace-errors"
        options = [f"--inject={each}" for each in inject]
        self._command = [
            *(
                "strace",
                "-f",
                "-xx",
                "-s",
                "1000000",
                "-o",
                str(self._file),
                "-e",
                f"trace={calls}",
            ),
            *(*options, "-p", str(node.pid)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(self._command, stderr=errors)
        wait_until(lambda: "attached" in self.said() or self._ended(), "strace is attached")
        if self._ended():
            pytest.skip(f"strace cannot attach here: {self.said().strip()}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        if not self._ended():
            self._process.send_signal(signal.SIGINT)  # it lets go of the daemon
        self._process.wait()

    def said(self) -> str:
        return self._errors.read_text(errors="replace")

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def calls(self) -> list[Call]:
        """What was seen, in the order in which the calls began. After the block."""
        return _parse(self._file)


def require_strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")


def _parse(file: Path) -> list[Call]:
    found: list[Call] = []
    open_calls: dict[tuple[int, str], int] = {}
    lines = file.read_text(errors="replace").splitlines()
    for position, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None:
            continue
        thread, name, rest = int(match["thread"]), match["name"], match["rest"]
        ok = re.search(r"= \d+( \([A-Z]+\))?$", rest) is not None
        if match["resumed"]:
            number = open_calls.pop((thread, name), None)
            if number is not None:
                found[number] = found[number]._replace(ended=position, succeeded=ok)
            continue
        unfinished = rest.endswith("<unfinished ...>")
        if unfinished:
            open_calls[thread, name] = len(found)
        ended = len(lines) if unfinished else position
        descriptor = re.match(r"\((\d+)", rest)
        strings = _BASE.findall(rest) or _STRING.findall(rest)
        data = bytes.fromhex("".join(strings).replace("\\x", ""))
        number = int(descriptor[1]) if descriptor else -1
        found.append(Call(name, number, data, position, ended, thread, ok and not unfinished))
    return found
