"""One real raftd process: its configuration file, its lives and deaths, its log."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.system.client import CallError, Client, NoAnswer, NoConnection
from tests.system.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
_ORPHANS_DIE = ("setpriv", "--pdeathsig", "KILL")  # util-linux; the parent is the thread that forks


class Node:
    """Starts as often as one likes; `pid` and `returncode` speak of the newest process.

    Call it from the main thread only: a process ends with the thread that started it.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        """`settings` is the configuration without data_dir and socket."""
        self.name: str = settings["name"]
        self.directory = directory
        self.data = directory / "data"
        self.socket = directory / "raftd.sock"
        self.config = directory / "raftd.toml"
        self.log_file = directory / "log"
        self.settings: dict[str, Any] = {
            **settings,
            "data_dir": str(self.data),
            "socket": str(self.socket),
        }
        self.wrapper: Sequence[str] = ()
        """A command in front of the next starts, which must exec the daemon (`ip netns exec X`)."""
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._expected: set[int] = set()
        self._lives = 0
        directory.mkdir(parents=True, exist_ok=True)

    def write_config(self) -> None:
        self.config.write_text(to_toml(self.settings))

    # Life and death.

    def start(self) -> None:
        """A new process; returns at once."""
        assert not self.running, f"{self.name} runs already"
        self.write_config()
        self._lives += 1
        self._expected = set()
        mercy = _ORPHANS_DIE if shutil.which(_ORPHANS_DIE[0]) else ()
        command = [*self.wrapper, *mercy, sys.executable, "-m", "raftd", "run"]
        environment = {
            **{key: value for key, value in os.environ.items() if key != "RAFTD_LOG"},
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONFAULTHANDLER": "1",
            **self.environment,
        }
        with self.log_file.open("ab") as log:
            log.write(f"--- life {self._lives} of {self.name}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [*command, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.directory,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        return None if self._process is None else self._process.poll()

    @property
    def died(self) -> bool:
        """It ended, and no test made it end."""
        status = self.returncode
        return status is not None and status not in self._expected

    def signal(self, number: signal.Signals) -> None:
        assert self.running, f"{self.name} does not run"
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL; nothing happens if it does not run."""
        if self.running:
            self._expected.add(-signal.SIGKILL)
            os.kill(self.pid, signal.SIGKILL)
            assert self._process is not None
            self._process.wait()

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, and it must end with status 0."""
        self.signal(signal.SIGTERM)
        self.wait_for_exit(0)

    def wait_for_exit(self, status: int) -> None:
        """It ends by itself, with this status."""
        self._expected.add(status)
        wait_until(lambda: not self.running, f"{self.name} ends")
        assert self.returncode == status, f"{self.name} ended with status {self.returncode}"

    # What it says.

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def log_of_this_life(self) -> str:
        return self.log.rpartition(f"--- life {self._lives} of {self.name}\n")[2]

    def wait_for_log(self, text: str) -> None:
        """Until this life's log has `text`."""
        wait_until(lambda: text in self.log_of_this_life, f"{self.name} says {text!r}")

    def client(self, timeout: float | None = None) -> Client:
        """A new connection; NoConnection if there is none to be had."""
        if timeout is None:
            return Client(self.socket, self.name)
        return Client(self.socket, self.name, timeout)

    def status(self) -> dict[str, Any] | None:
        """Its answer to GetStatus, None while it does not answer."""
        if not self.running:
            return None
        try:
            with self.client(timeout=5) as client:
                return client.status(300)
        except (NoConnection, NoAnswer, CallError):
            return None

    def wait_until_up(self) -> dict[str, Any]:
        """Its status, once it answers."""

        def answers() -> dict[str, Any] | None:
            assert self.running, f"{self.name} ended with status {self.returncode}"
            return self.status()

        return wait_until(answers, f"{self.name} answers")


def to_toml(settings: Mapping[str, Any]) -> str:
    """Tables last; JSON strings, numbers, booleans and lists of them are TOML too."""
    lines = [
        f"{key} = {json.dumps(value)}\n"
        for key, value in settings.items()
        if not isinstance(value, dict)
    ]
    for key, value in settings.items():
        if isinstance(value, dict):
            lines.append(f"\n[{key}]\n")
            lines += [f"{name} = {json.dumps(each)}\n" for name, each in value.items()]
    return "".join(lines)
