"""raftctl run in this process, with a terminal or without, against a fake daemon."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from raftctl import discovery
from raftctl.cli import main
from tests.raftctl import canned
from tests.raftctl.fake_daemon import FakeDaemon

_GOLDEN = Path(__file__).parent / "golden"


class Result(NamedTuple):
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


class _Output(io.TextIOWrapper):
    """Standard output that may pretend to be a terminal (of COLUMNS columns)."""

    def __init__(self, *, terminal: bool) -> None:
        self.bytes = io.BytesIO()
        self._terminal = terminal
        super().__init__(self.bytes, encoding="utf-8")

    def isatty(self) -> bool:
        return self._terminal


class Raftctl:
    """Call it with the words of a command line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(
        self, *words: str | bytes, stdin: bytes = b"", terminal: bool = False, columns: int = 80
    ) -> Result:
        out, err = _Output(terminal=terminal), io.StringIO()
        with self._monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(columns))
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", _Errors(err))
            code = main([os.fsdecode(word) for word in words])
            out.flush()
        return Result(int(code), out.bytes.getvalue(), err.getvalue())


class _Errors(io.TextIOWrapper):
    def __init__(self, text: io.StringIO) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self._text = text

    def write(self, text: str) -> int:
        return self._text.write(text)


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No daemon of this machine is found, and time, colour and language are always the same."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setattr(discovery, "SYSTEM_DIRECTORY", str(tmp_path / "system"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("TZ", "UTC")
    for name in ("RAFTD_SOCKET", "NO_COLOR", "RAFTCTL_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def daemon(tmp_path: Path, surroundings: None) -> Iterator[FakeDaemon]:
    """The one daemon that is there, as node1 of the system."""
    with FakeDaemon(tmp_path / "system" / "node1" / "raftd.sock", canned.answers()) as fake:
        yield fake


@pytest.fixture
def raftctl(monkeypatch: pytest.MonkeyPatch) -> Raftctl:
    return Raftctl(monkeypatch)


class Golden:
    def check(self, name: str, text: str, *, columns: int = 80) -> None:
        """`text` is what golden/NAME.txt has (written anew if RAFTCTL_GOLDEN=write), and fits."""
        file = _GOLDEN / f"{name}.txt"
        if os.environ.get("RAFTCTL_GOLDEN") == "write":
            file.write_text(text)
        assert text == file.read_text()
        assert max(len(line) for line in text.splitlines()) <= columns


@pytest.fixture
def golden() -> Golden:
    return Golden()
