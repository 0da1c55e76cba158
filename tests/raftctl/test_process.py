"""raftctl as a process of its own: pipes, signals, a real (pseudo) terminal, what it imports."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.raftctl import canned
from tests.raftctl.fake_daemon import SILENCE, FakeDaemon, Stream
from tests.raftctl.screen import Screen

pytestmark = pytest.mark.system

_RAFTCTL = [sys.executable, "-m", "raftctl"]
_REPOSITORY = Path(__file__).parents[2]


def _environment(daemon: FakeDaemon, **more: str) -> dict[str, str]:
    return os.environ | {"RAFTD_SOCKET": str(daemon.path), "TERM": "xterm", "TZ": "UTC"} | more


def _run(daemon: FakeDaemon, command: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    """A shell command, in which `raftctl` is this one."""
    script = f'raftctl() {{ "{sys.executable}" -m raftctl "$@"; }}; set -o pipefail; {command}'
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        env=_environment(daemon, **more),
        cwd=_REPOSITORY,
        timeout=30,
        check=False,
    )


def _takes_ctrl_c() -> None:
    """Though who runs the tests may ignore it, as what a shell runs in the background does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _at_a_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    _takes_ctrl_c()


class Terminal:
    """raftctl in a pseudo terminal of 80 columns."""

    def __init__(self, daemon: FakeDaemon, *words: str, rows: int = 24, **more: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
        self.process = subprocess.Popen(
            [*_RAFTCTL, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=_environment(daemon, **more),
            cwd=_REPOSITORY,
            start_new_session=True,
            preexec_fn=_at_a_terminal,  # noqa: PLW1509
        )
        os.close(slave)
        self.screen = Screen(80, rows)
        self.output = ""
        self._rest = b""

    def wait_for(self, line: str) -> None:
        """Feed the screen until one of its lines starts with `line`, its spaces aside."""
        while not any(" ".join(each.split()).startswith(line) for each in self.screen.lines):
            assert self._read(), f"{line!r} never came, but {self.screen.lines}"

    def _read(self) -> bool:
        """False at the end."""
        assert select.select([self._master], [], [], 20)[0], f"no end: {self.screen.lines}"
        try:
            data = os.read(self._master, 4096)
        except OSError:  # Linux: EIO when nobody has the other side open any more
            data = b""
        whole = self._rest + data
        shown = whole.decode(errors="ignore")
        self._rest = whole[len(shown.encode()) :]
        self.output += shown
        self.screen.feed(shown)
        return bool(data)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def end(self) -> int:
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait(20)


@pytest.fixture
def big_log(daemon: FakeDaemon) -> Iterator[FakeDaemon]:
    entries = [canned.entry(index) for index in range(1, 5001)]
    daemon.answers["ReadLog"] = {"entries": entries}
    items = [canned.item(b"key%d" % number, b"x" * 500) for number in range(1000)]
    daemon.answers["Range"] = {"items": items, "more": False}
    daemon.answers["Get"] = {"item": canned.item(b"k", b"line\n" * 100_000)}
    yield daemon


@pytest.mark.parametrize(
    "command",
    ["log tail", "log tail -o json", "kv range", "kv range -o json", "kv get k", "--help"],
)
def test_a_reader_that_has_enough_is_no_failure(big_log: FakeDaemon, command: str) -> None:
    done = _run(big_log, f"raftctl {command} | head -n 1")
    assert done.stdout.count(b"\n") == 1
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "command", ["status", "kv get k", "kv range -o json", "log tail", "log tail -f", "--help"]
)
def test_a_reader_that_was_never_there(daemon: FakeDaemon, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*_RAFTCTL, *command.split()],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=_environment(daemon),
        cwd=_REPOSITORY,
        timeout=30,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_follower_ends_when_its_reader_does(daemon: FakeDaemon) -> None:
    """Even if nothing happens in the log any more that it would have to print."""
    daemon.answers["ReadLog"] = Stream([{"entries": [canned.entry(1), canned.entry(2)]}])
    done = _run(daemon, "raftctl log tail -f -o json | head -n 2")
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (0, 2, b"")


@pytest.mark.parametrize("command", ["status", "kv get app/mode", "--help", "status -o json"])
def test_output_that_cannot_be_written_is_a_failure(daemon: FakeDaemon, command: str) -> None:
    done = _run(daemon, f"raftctl {command} > /dev/full")
    assert done.returncode == 1
    what = b"go on" if command == "--help" else b"write to standard output"
    assert done.stderr == b"raftctl: cannot " + what + b": No space left on device\n"


def test_closed_standard_streams(daemon: FakeDaemon) -> None:
    done = _run(daemon, "raftctl status >&-")
    assert (done.returncode, done.stderr) == (1, b"raftctl: standard output is closed\n")
    assert _run(daemon, "raftctl kv get app/mode 2>&-").stdout == b"blue"
    assert _run(daemon, "raftctl kv put k - <&-").returncode == 0
    assert daemon.asked("Put")[0]["value"] == ""


def test_bytes_survive_the_shell_in_any_language(daemon: FakeDaemon) -> None:
    for language in ("C", "C.UTF-8", "POSIX"):
        done = _run(daemon, r"raftctl kv put $'k\xff\xc3\xa4' $'v\x80'", LC_ALL=language)
        assert done.returncode == 0, done.stderr
    assert {asked["key"] for asked in daemon.asked("Put")} == {canned.base64(b"k\xff\xc3\xa4")}
    assert {asked["value"] for asked in daemon.asked("Put")} == {canned.base64(b"v\x80")}


def test_output_in_a_language_without_unicode(daemon: FakeDaemon) -> None:
    daemon.answers["ReadLog"] = {"entries": [canned.entry(1, what="世界")]}
    done = _run(daemon, "raftctl log tail", LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"\\u4e16\\u754c\n")


@pytest.mark.parametrize("command", ["kv get k", "status", "leader transfer"])
def test_ctrl_c_ends_with_130_quietly(daemon: FakeDaemon, command: str) -> None:
    asked = threading.Event()

    def answer(_: object) -> object:
        asked.set()
        return SILENCE

    daemon.answers.update(dict.fromkeys(daemon.answers, answer))
    with subprocess.Popen(
        [*_RAFTCTL, *command.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(daemon),
        cwd=_REPOSITORY,
        preexec_fn=_takes_ctrl_c,  # noqa: PLW1509
    ) as process:
        assert asked.wait(20)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 130


def test_following_on_a_terminal(daemon: FakeDaemon) -> None:
    go_on = [threading.Event(), threading.Event()]
    daemon.answers["ReadLog"] = Stream(
        [
            {"entries": [canned.entry(1), canned.entry(2, state="uncommitted")]},
            go_on[0],
            {"entries": [canned.entry(2, state="committed")]},
            go_on[1],
            {"entries": [canned.entry(2), canned.entry(3, state="uncommitted")]},
        ]
    )
    terminal = Terminal(daemon, "log", "tail", "-f")
    terminal.wait_for("○ 2 7")
    go_on[0].set()
    terminal.wait_for("◐ 2 7")
    go_on[1].set()
    terminal.wait_for("○ 3 7")
    terminal.press(b"\x03")
    assert terminal.end() == 0
    assert [line.split()[:2] for line in terminal.screen.lines[3:6]] == [
        ["●", "1"],
        ["●", "2"],
        ["○", "3"],
    ]


def test_status_on_a_terminal_fits_and_has_colour(daemon: FakeDaemon) -> None:
    daemon.answers["GetStatus"] = {"status": canned.no_quorum()}
    terminal = Terminal(daemon, "status")
    assert terminal.end() == 4
    assert "\x1b[1;31m" in terminal.output
    plain = Terminal(daemon, "status", NO_COLOR="1")
    assert plain.end() == 4
    assert "\x1b" not in plain.output
    assert plain.screen.lines == terminal.screen.lines


def test_get_on_a_terminal_ends_its_line(daemon: FakeDaemon) -> None:
    terminal = Terminal(daemon, "kv", "get", "app/mode")
    assert terminal.end() == 0
    assert terminal.output == "blue\r\n"


_MODULES = """
import json, sys
from raftctl.cli import main
code = main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def _imported(daemon: FakeDaemon, *words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _MODULES, *words],
        env=_environment(daemon),
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr))


@pytest.mark.parametrize(
    "words", ["--version", "status", "status -o json", "kv get k", "kv put k v", "log tail"]
)
def test_it_imports_little(daemon: FakeDaemon, words: str) -> None:
    imported = _imported(daemon, *words.split())
    packages = {name.partition(".")[0] for name in imported}
    assert {"click", "raftctl", "raftd"} <= packages
    slow = {"trio", "pynng", "msgspec", "rich", "platformdirs", "asyncio", "subprocess", "ssl"}
    assert not packages & slow
    assert "raftctl.answers" not in imported
    ours = {name for name in imported if name.startswith("raftd.")}
    assert ours == {"raftd.admin", "raftd.admin.protocol"}
    commands = {name for name in imported if name.startswith("raftctl.commands.")}
    command = words.partition(" ")[0]
    assert commands == ({f"raftctl.commands.{command}"} if command != "--version" else set())


def _complete(daemon: FakeDaemon, line: str) -> list[str]:
    words = line.split(" ")
    done = subprocess.run(
        _RAFTCTL,
        env=_environment(
            daemon,
            _RAFTCTL_COMPLETE="bash_complete",
            COMP_WORDS=line,
            COMP_CWORD=str(len(words) - 1),
        ),
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    return [found.partition(",")[2] for found in done.stdout.splitlines() if found]


def test_completion(daemon: FakeDaemon) -> None:
    assert _complete(daemon, "raftctl stat") == ["status", "state"]
    assert _complete(daemon, "raftctl log ") == ["tail", "show", "info"]
    assert _complete(daemon, "raftctl leader transfer node") == ["node1", "node2", "node3"]
    assert daemon.asked("GetStatus") == [{"timeout_ms": 400}]
    daemon.answers["GetStatus"] = {}
    assert _complete(daemon, "raftctl leader transfer node") == []


def test_completion_of_keys_goes_to_the_next_slash(daemon: FakeDaemon) -> None:
    found = [b"app/db/a", b"app/db/b", b"app/mode", b"app/\xff", b"app/bell\x07"]
    daemon.answers["Range"] = {
        "items": [canned.item(key, b"", 1) for key in found],
        "more": False,
    }
    assert _complete(daemon, "raftctl kv get app/") == ["app/db/", "app/mode"]
    assert _complete(daemon, "raftctl kv put app/db/") == ["app/db/a", "app/db/b"]
    asked = {"prefix": "YXBwLw==", "limit": 200, "stale": True, "timeout_ms": 400}
    assert daemon.asked("Range")[0] == asked
    daemon.answers["Range"] = {"items": [{}], "more": False}
    assert _complete(daemon, "raftctl kv get app/") == []


def test_completion_scripts(daemon: FakeDaemon) -> None:
    for shell in ("zsh", "fish"):
        done = _run(daemon, "raftctl", _RAFTCTL_COMPLETE=f"{shell}_source")
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"_RAFTCTL_COMPLETE" in done.stdout
