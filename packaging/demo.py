"""`make demo`: three nodes on this machine; write, read, kill the leader, look again, stop.

Each command is shown as one would type it in the directory of the cluster. Every step checks what
it has seen: exit status 0 means that all of it was so.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NODES = ("node1", "node2", "node3")
PATIENCE_S = 30.0
PAUSE_S = 0.1
CLIENT_TIMEOUT_S = "2"
BIN = Path(sys.executable).parent


class Unexpected(Exception):
    """Something is not as it should be; the message says what."""


def main() -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="raftd-demo-") as directory:
        demo = Demo(Path(directory))
        try:
            demo.play()
        except Unexpected as error:
            print(f"\ndemo: {error}\n\nWhat the nodes said:\n{demo.said()}", flush=True)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            demo.clean_up()
    print(f"\nAll as it should be, in {time.monotonic() - started:.0f} seconds.")
    return 0


class Demo:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._log = directory / "output"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._written = {"fruit/apple": "red", "fruit/lemon": "yellow", "fruit/plum": "blue"}

    def play(self) -> None:
        heading("Three nodes, each a process of its own, in an empty directory")
        cluster = self.start("cluster", "--data-dir", ".", "--base-port", str(free_base_port()))
        leader = self.leadership(NODES)["leader"]
        self.print_said(" started, pid ", " raft: ")

        heading("Write through one node, read through another")
        for node, (key, value) in zip(NODES, self._written.items(), strict=True):
            self.show(node, "kv", "put", key, value)
        for node, (key, value) in zip(reversed(NODES), self._written.items(), strict=True):
            expect(self.show(node, "kv", "get", key) == value, f"{key} is {value} on {node}")
        self.show("node1", "status")

        heading(f"Kill the leader, {leader}, while a client writes")
        survivors = tuple(node for node in NODES if node != leader)
        client = Client(self, survivors)
        client.wait_for(3)
        pid = self.pid(leader)
        print(f"$ kill -9 {pid}   # {leader}")
        os.kill(pid, signal.SIGKILL)
        killed = time.time()
        leadership = self.leadership(survivors)
        new_leader = leadership["leader"]
        seconds = leadership["leader_since_ms"] / 1000 - killed
        print(f"{new_leader} became the leader {seconds:.1f} seconds later.", flush=True)
        client.wait_for(3)
        self._written |= client.stop()

        heading("The new leader has every key that was acknowledged")
        self.show(survivors[0], "status")
        for node in survivors:
            self.check_all(node)
        self.show(survivors[1], "log", "tail", "-n", "12")

        heading(f"{leader} comes back with what it had, and catches up")
        self.start("run", "--config", f"{leader}/raftd.toml")
        self.wait("the node catches up", lambda: self.has_caught_up(leader, new_leader))
        self.check_all(leader)
        self.show(leader, "status")

        heading("Stop everything")
        before = len(self.said())
        for process in reversed(self._processes):
            process.send_signal(signal.SIGINT)
        for process in self._processes:
            expect(process.wait(PATIENCE_S) == 0, "everything stops in order")
        self.print_said("cluster | ", before=before)
        expect(cluster.returncode == 0, "the cluster stops in order")

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        print(f"$ raftd {' '.join(arguments)} &", flush=True)
        with self._log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [str(BIN / "raftd"), *arguments],
                cwd=self._directory,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C on the terminal is for the demo alone
            )
        self._processes.append(process)
        return process

    def raftctl(self, node: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own command
            [str(BIN / "raftctl"), "--socket", f"{node}/raftd.sock", *arguments],
            cwd=self._directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def show(self, node: str, *arguments: str) -> str:
        print(f"$ raftctl --socket {node}/raftd.sock {' '.join(arguments)}", flush=True)
        done = self.raftctl(node, *arguments)
        text = done.stdout.rstrip("\n")
        print(text + "\n" if "\n" in text else text, flush=True)
        expect(done.returncode == 0, f"raftctl ended with status {done.returncode}, 0 is right")
        return text

    def status(self, node: str) -> dict[str, Any]:
        """Empty while there is no answer."""
        done = self.raftctl(node, "-o", "json", "status")
        status: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return status

    def leadership(self, nodes: tuple[str, ...]) -> dict[str, Any]:
        """The status once one of `nodes` leads, and it can write."""
        found: dict[str, Any] = {}

        def led() -> bool:
            found.update(self.status(nodes[0]))
            return bool(found) and found["leader"] in nodes and found["writable"]

        self.wait("a leader that can write", led)
        return found

    def has_caught_up(self, node: str, leader: str) -> bool:
        members = self.status(leader).get("members", [])
        return any(member["name"] == node and member["behind"] == 0 for member in members)

    def check_all(self, node: str) -> None:
        command = ("kv", "range", "-o", "json")
        print(f"$ raftctl --socket {node}/raftd.sock {' '.join(command)} | wc -l")
        lines = self.raftctl(node, *command).stdout.splitlines()
        print(len(lines))
        found = {item["key"]: item["value"] for item in map(json.loads, lines)}
        lost = {key for key, value in self._written.items() if found.get(key) != value}
        expect(not lost, f"{node} has every acknowledged key; it lacks {sorted(lost)}")
        print(f"All {len(self._written)} acknowledged keys are there.", flush=True)

    def pid(self, node: str) -> int:
        for line in self.said().splitlines():
            words = line.split()
            if words[2:5] == [node, "started,", "pid"]:
                return int(words[5].rstrip(":"))
        raise Unexpected(f"raftd cluster did not say the process id of {node}")

    def said(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def print_said(self, *marks: str, before: int = 0) -> None:
        """The lines of the nodes that have one of `marks`, after the first `before` characters."""
        lines = self.said()[before:].splitlines()
        print("\n".join(line for line in lines if any(mark in line for mark in marks)))

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if self._processes[0].poll() is not None:
                raise Unexpected("the cluster has ended")
            if time.monotonic() > deadline:
                raise Unexpected(f"waited {PATIENCE_S:.0f} seconds in vain for {what}")
            time.sleep(PAUSE_S)

    def clean_up(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._processes:
                if process.poll() is None:
                    process.send_signal(number)
            for process in self._processes:
                try:
                    process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    continue


class Client:
    """Writes one key after the other, through `nodes` in turn, and keeps what was acknowledged."""

    def __init__(self, demo: Demo, nodes: tuple[str, ...]) -> None:
        self._demo = demo
        self._nodes = nodes
        self._acknowledged: dict[str, str] = {}
        self._failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            key, value = f"count/{number:04}", str(number)
            node = self._nodes[number % len(self._nodes)]
            done = self._demo.raftctl(node, "--timeout", CLIENT_TIMEOUT_S, "kv", "put", key, value)
            if done.returncode == 0:
                self._acknowledged[key] = value
            else:
                self._failures.append(done.stdout.strip())

    def wait_for(self, more: int) -> None:
        """Wait until `more` writes have been acknowledged."""
        wanted = len(self._acknowledged) + more
        self._demo.wait("writes to be acknowledged", lambda: len(self._acknowledged) >= wanted)

    def stop(self) -> dict[str, str]:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        print(f"Acknowledged meanwhile: {len(self._acknowledged)} writes.")
        for failure in self._failures[:1]:
            print(f"Not acknowledged: {len(self._failures)}. {failure}")
        return self._acknowledged


def heading(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}== {text}{plain}\n", flush=True)


def expect(fact: bool, what: str) -> None:
    if not fact:
        raise Unexpected(f"this should be so, and is not: {what}")


def free_base_port() -> int:
    """The first of as many ports in a row as there are nodes, free a moment ago."""
    while True:
        base = random.randrange(20_000, 32_000)  # noqa: S311 - below the ephemeral ports
        try:
            for port in range(base, base + len(NODES)):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base


if __name__ == "__main__":
    sys.exit(main())
