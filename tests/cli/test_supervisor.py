"""Several processes in the foreground, with real processes."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

pytestmark = pytest.mark.system

SUPERVISE = """
import sys
from raftd.cli.supervisor import Child, supervise
sys.exit(supervise([
    Child(f"n{number}", [sys.executable, "-S", "-c", script], f"about {number}")
    for number, script in enumerate(sys.argv[1:], 1)
]))
"""
UNTIL_TERM = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("up", flush=True)
signal.sigwait([signal.SIGTERM])
print("bye", flush=True)
sys.exit(0)
"""
DEAF = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("up", flush=True)
while signal.sigwait([signal.SIGTERM]):
    print("no", flush=True)
"""
PATIENCE_S = 30
"""Never reached when all is well."""


class Running:
    def __init__(self, process: subprocess.Popen[str], output: IO[str]) -> None:
        self.process = process
        self._output = output
        self.said: list[str] = []
        self.pids: dict[str, int] = {}

    def read_until(self, *wanted: str) -> None:
        """Read lines until each of `wanted` was the end of one, in any order."""
        missing = set(wanted)
        while missing:
            line = self._output.readline()
            assert line, f"ended without {missing}: {self.said}"
            self._note(line)
            missing -= {text for text in missing if line.rstrip().endswith(text)}

    def finish(self) -> int:
        for line in self._output:
            self._note(line)
        return self.process.wait(PATIENCE_S)

    def _note(self, line: str) -> None:
        self.said.append(line.rstrip("\n"))
        prefix, _, text = line.partition(" | ")
        if prefix.strip() == "cluster" and " started, pid " in text:
            self.pids[text.split()[0]] = int(text.split()[3].rstrip(":"))


@contextmanager
def supervised(*scripts: str) -> Iterator[Running]:
    command = [sys.executable, "-c", SUPERVISE, *scripts]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            yield Running(process, process.stdout)
        finally:
            process.kill()


def test_each_line_has_the_name_in_front_and_nobody_is_restarted() -> None:
    with supervised("print('one\\ntwo')", "import sys; print('three', end=''); sys.exit(6)") as run:
        assert run.finish() == 1
    assert f"cluster | n1 started, pid {run.pids['n1']}: about 1" in run.said
    assert run.said.index("n1      | one") < run.said.index("n1      | two")
    assert "n2      | three" in run.said
    assert "cluster | n1 stopped" in run.said
    assert "cluster | n2 ended with status 6 (address or socket in use)" in run.said
    assert run.said[-1] == "cluster | all nodes have ended"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_one_after_the_other(number: signal.Signals) -> None:
    with supervised(*[UNTIL_TERM] * 3) as run:
        run.read_until("n1      | up", "n2      | up", "n3      | up")
        os.killpg(run.process.pid, number)  # as the terminal does at Ctrl-C
        assert run.finish() == 0
    ends = [line for line in run.said if line.endswith(("bye", "stopped"))]
    assert ends == [
        *("n1      | bye", "cluster | n1 stopped", "n2      | bye", "cluster | n2 stopped"),
        *("n3      | bye", "cluster | n3 stopped"),
    ]


def test_nohup_is_respected() -> None:
    command = [sys.executable, "-c", SUPERVISE, UNTIL_TERM]
    with subprocess.Popen(
        ["/usr/bin/nohup", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        run = Running(process, process.stdout)
        run.read_until("n1      | up")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert run.finish() == 0
    assert not any("SIGHUP" in line for line in run.said)


def test_a_second_signal_kills() -> None:
    with supervised(DEAF, UNTIL_TERM) as run:
        run.read_until("n1      | up", "n2      | up")
        run.process.send_signal(signal.SIGINT)
        run.read_until("n1      | no")
        run.process.send_signal(signal.SIGINT)
        assert run.finish() == 1
    assert "cluster | n1 was killed by SIGKILL" in run.said


def test_a_node_that_dies_is_reported_and_the_others_go_on() -> None:
    with supervised(UNTIL_TERM, UNTIL_TERM) as run:
        run.read_until("n1      | up", "n2      | up")
        os.kill(run.pids["n1"], signal.SIGKILL)
        run.read_until("cluster | n1 was killed by SIGKILL")
        assert run.process.poll() is None
        run.process.send_signal(signal.SIGTERM)
        assert run.finish() == 0, "it died before it was told to stop"


def test_a_node_that_fails_while_stopping_makes_it_fail() -> None:
    with supervised(UNTIL_TERM.replace("sys.exit(0)", "sys.exit(5)")) as run:
        run.read_until("n1      | up")
        run.process.send_signal(signal.SIGTERM)
        assert run.finish() == 1
    assert "cluster | n1 ended with status 5 (a write or fsync failed)" in run.said


def test_odd_output_comes_through() -> None:
    script = "import os; os.write(1, b'\\xff\\n\\n' + b'x' * 200_000); os.write(2, b'e')"
    with supervised(script) as run:
        run.finish()
    assert "n1      | \ufffd" in run.said
    assert "n1      | " in run.said
    assert sum(line.count("x") for line in run.said if line.startswith("n1 ")) == 200_000
    assert "n1      | e" in run.said or any(line.endswith("xe") for line in run.said)


def test_when_nobody_reads_it_stops() -> None:
    with supervised(UNTIL_TERM, UNTIL_TERM) as run:
        run.read_until("n1      | up", "n2      | up")
        assert run.process.stdout is not None
        run.process.stdout.close()
        os.kill(run.pids["n1"], signal.SIGKILL)  # so that it has something to say
        assert run.process.wait(PATIENCE_S) == 0


def test_children_do_not_outlive_it() -> None:
    with supervised(UNTIL_TERM) as run:
        run.read_until("n1      | up")
        child = os.pidfd_open(run.pids["n1"])
        run.process.kill()
        assert select.select([child], [], [], PATIENCE_S)[0], "the kernel has stopped it"
        os.close(child)


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("1", False)])
def test_names_are_coloured_on_a_terminal(no_color: str | None, coloured: bool) -> None:
    try:
        master, slave = pty.openpty()
    except OSError:
        pytest.skip("there are no terminals: /dev/pts is not mounted")
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    if no_color:
        environment["NO_COLOR"] = no_color
    command = [sys.executable, "-c", SUPERVISE, "print('hello')"]
    subprocess.run(command, stdout=slave, env=environment, check=False, timeout=PATIENCE_S)
    os.close(slave)
    said = os.read(master, 65536).decode()
    os.close(master)
    assert "| hello" in said if not coloured else "hello" in said
    assert ("\x1b[36mn1      |" in said) == coloured
