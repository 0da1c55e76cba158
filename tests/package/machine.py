"""A booted Debian: systemd-nspawn on a tree that stays as it is, with changes kept in memory.

No machined, no terminal, no D-Bus to the outside: systemd is the child of systemd-nspawn, and
commands enter its namespaces. Mounts that systemd-nspawn needs are in a mount namespace of its own,
so that nothing is left behind on the host.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

CGROUPS = Path("/sys/fs/cgroup")
_NUMBERS = itertools.count(1)
_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
_START = """
mount --make-rprivate /
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
for group in $GROUPS_OF_MACHINE; do echo $$ >"$group/cgroup.procs"; done
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --boot --volatile=overlay --register=no --keep-unit --console=pipe "$@"
"""
DEADLINE_S = 60.0


class Failed(AssertionError):
    """A command in the machine has failed; with all it said."""


class Machine:
    """One machine, until `stop`. `shared` is /shared in it, read-only."""

    def __init__(
        self, root: Path, shared: Path, log: Path, *, network: str = "", name: str = ""
    ) -> None:
        """`network`: a network namespace with a bridge br0 to join; the machine is alone without,
        with the loopback only."""
        self.name = name or f"raftd{os.getpid()}n{next(_NUMBERS)}"
        self._log = log
        tops = [CGROUPS / "unified", CGROUPS / "systemd"]
        self._groups = [top / f"{self.name}-{os.getpid()}" for top in tops if top.is_dir()] or [
            CGROUPS / f"{self.name}-{os.getpid()}"
        ]
        for group in self._groups:
            group.mkdir(exist_ok=True)
        enter = ["nsenter", f"--net=/run/netns/{network}"] if network else []
        link = ["--network-bridge=br0"] if network else ["--private-network"]
        with log.open("wb") as output:
            self._nspawn = subprocess.Popen(
                [
                    *enter,
                    *("unshare", "--mount", "sh", "-ec", _START, "sh"),
                    *(f"--machine={self.name}", f"--directory={root}", *link),
                    f"--bind-ro={shared}:/shared",
                ],
                env={**os.environ, "GROUPS_OF_MACHINE": " ".join(map(str, self._groups))},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._leader = 0
        try:
            self._leader = self._find_leader()
            self.until("systemctl is-system-running | grep -Eqx 'running|degraded'")
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _find_leader(self) -> int:
        """The machine's own pid 1, as the host counts."""
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end and self._nspawn.poll() is None:
            with suppress(OSError):  # a child that has ended meanwhile
                for pid in children.read_text().split():
                    if Path(f"/proc/{pid}/exe").readlink().name == "systemd":
                        return int(pid)
            time.sleep(0.02)
        raise Failed(f"{self.name} does not boot: {self._log.read_text(errors='replace')}")

    def run(
        self, *command: str, check: bool = True, user: str = "", text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, as root or as `user`, with `text` as its input."""
        become = ["setpriv", f"--reuid={user}", "--init-groups", "--reset-env"] if user else []
        done = subprocess.run(
            [
                *("nsenter", "--target", str(self._leader), "--all", "--wd=/", "--"),
                *("env", "-i", _PATH, "DEBIAN_FRONTEND=noninteractive", *become, *command),
            ],
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S * 2,
            check=False,
        )
        if check and done.returncode != 0:
            said = f"{done.stdout}{done.stderr}\n{self.journal()}"
            raise Failed(f"{self.name}: {' '.join(command)}: status {done.returncode}: {said}")
        return done

    def out(self, *command: str) -> str:
        return self.run(*command).stdout.strip()

    def sh(self, script: str) -> str:
        return self.out("sh", "-ec", script)

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-ec", 'cat >"$1"', "sh", path, text=text)

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """Of a unit, as `systemctl show` tells them."""
        shown = self.out("systemctl", "show", unit, f"--property={','.join(names)}")
        return dict(line.split("=", 1) for line in shown.splitlines())

    def show(self, unit: str, name: str) -> str:
        return self.properties(unit, name)[name]

    def journal(self, *arguments: str) -> str:
        """Its last lines, for a failure's message, or what `arguments` ask for."""
        command = ("journalctl", "--no-pager", *(arguments or ("--lines=60",)))
        return self.run(*command, check=False).stdout

    def entries(self, *arguments: str) -> list[dict[str, Any]]:
        """The entries of the journal that `arguments` match, with all their fields."""
        lines = self.journal("--output=json", *arguments).splitlines()
        return [json.loads(line) for line in lines]

    def until(self, script: str, seconds: float = DEADLINE_S) -> str:
        """Run a shell script in the machine again and again until it succeeds; its output."""
        end = time.monotonic() + seconds
        while True:
            done = self.run("sh", "-ec", script, check=False)
            if done.returncode == 0:
                return done.stdout.strip()
            if time.monotonic() > end:
                said = f"{done.stdout}{done.stderr}\n{self.journal()}"
                raise Failed(f"{self.name}: not in {seconds} s: {script}: {said}")
            time.sleep(0.05)

    def in_network(self, *command: str) -> None:
        """With the host's tools, in the network of the machine."""
        enter: Sequence[str] = ("nsenter", "--target", str(self._leader), "--net")
        subprocess.run([*enter, *command], check=True, capture_output=True)

    def stop(self) -> None:
        if self._leader and self._nspawn.poll() is None:
            os.kill(self._leader, signal.SIGRTMIN + 4)  # poweroff.target, systemd(1)
            try:
                self._nspawn.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.kill(self._leader, signal.SIGKILL)
        self._nspawn.kill()
        self._nspawn.wait(timeout=20)
        for group in self._groups:
            for directory, _, _ in os.walk(group, topdown=False):
                Path(directory).rmdir()
