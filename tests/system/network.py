"""A network of its own for each node: one namespace and one address per node, one bridge for all.

    namespace raftd-PID-hub    a bridge; no address
    namespace raftd-PID-NAME   eth0, 10.213.0.N/24, plugged into the bridge; nftables cuts wires

Nothing is changed outside of these namespaces, and no packet leaves them. Needs root, ip(8) and
nft(8). What processes that were killed left behind is removed at the next start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

PREFIX = "raftd-"
_RULES = "table inet cuts { chain input { type filter hook input priority 0; }; }"


def require_namespaces() -> None:
    """Skip, with the reason, where the machine cannot do it."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    for tool in ("ip", "nft"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    probe = f"{PREFIX}{os.getpid()}-probe"
    tried = _run("ip", "netns", "add", probe)
    try:
        if tried.returncode == 0:
            tried = _run("ip", "netns", "exec", probe, "nft", _RULES)
        if tried.returncode != 0:
            pytest.skip(f"no network namespaces here: {tried.stderr.strip()}")
    finally:
        _run("ip", "netns", "delete", probe)


WINDOW = 16 << 10
"""Bytes under way on a connection through a slow link."""


class Network:
    """Made in `with`, removed behind it; all processes in it must have ended by then."""

    def __init__(self, names: Iterable[str]) -> None:
        self.addresses = {name: f"10.213.0.{number}" for number, name in enumerate(names, start=1)}
        self._hub = f"{PREFIX}{os.getpid()}-hub"

    def namespace(self, name: str) -> str:
        return f"{PREFIX}{os.getpid()}-{name}"

    def wrapper(self, name: str) -> list[str]:
        """What to put in front of a command so that it runs in the network of `name`."""
        return ["ip", "netns", "exec", self.namespace(name)]

    def __enter__(self) -> Self:
        _remove_orphans()
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def _build(self) -> None:
        _must("ip", "netns", "add", self._hub)
        _must("ip", "-n", self._hub, "link", "add", "bridge0", "type", "bridge")
        _must("ip", "-n", self._hub, "link", "set", "bridge0", "up")
        for name, address in self.addresses.items():
            own = self.namespace(name)
            _must("ip", "netns", "add", own)
            peer = ("peer", "name", f"to-{name}", "netns", self._hub)
            _must("ip", "-n", own, "link", "add", "eth0", "type", "veth", *peer)
            _must("ip", "-n", own, "address", "add", f"{address}/24", "dev", "eth0")
            _must("ip", "-n", own, "link", "set", "lo", "up")
            _must("ip", "-n", own, "link", "set", "eth0", "up")
            _must("ip", "-n", self._hub, "link", "set", f"to-{name}", "master", "bridge0", "up")
            self._nft(name, _RULES)

    def _remove(self) -> None:
        for namespace in (*map(self.namespace, self.addresses), self._hub):
            _run("ip", "netns", "delete", namespace)

    def _nft(self, name: str, rule: str) -> None:
        _must(*self.wrapper(name), "nft", rule)

    def cut(self, source: str, target: str) -> None:
        """One way only: what `source` sends does not reach `target`; the other way is untouched."""
        address = self.addresses[source]
        self._nft(target, f"add rule inet cuts input ip saddr {address} drop")

    def lose(self, name: str, percent: int) -> None:
        """So many packets that should reach `name` do not."""
        self._nft(name, f"add rule inet cuts input numgen random mod 100 < {percent} drop")

    def slow_down(self, name: str, kbit: int) -> None:
        """What goes to `name` waits in one queue that gives out so many kbit a second. Before
        `name` is started: so that no packets are lost, which would be a matter of luck, it takes
        but little at a time."""
        window = f"echo 4096 {WINDOW} {WINDOW} > /proc/sys/net/ipv4/tcp_rmem"
        _must(*self.wrapper(name), "sh", "-c", window)
        shaper = ("tbf", "rate", f"{kbit}kbit", "burst", "8kb", "limit", f"{16 * WINDOW}")
        queue = ("tc", "-n", self._hub, "qdisc", "add", "dev", f"to-{name}", "root", *shaper)
        done = _run(*queue) if shutil.which("tc") else None
        if done is None or done.returncode != 0:
            pytest.skip(f"no slow links here: {done.stderr.strip() if done else 'no tc(8)'}")

    def isolate(self, name: str) -> None:
        """Nothing goes in or out."""
        for other in self.addresses:
            if other != name:
                self.cut(other, name)
                self.cut(name, other)

    def heal(self) -> None:
        """All wires are whole again."""
        for name in self.addresses:
            self._nft(name, "flush chain inet cuts input")


def _remove_orphans() -> None:
    for line in _run("ip", "netns", "list").stdout.splitlines():
        name = line.split()[0] if line else ""
        pid = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and pid.isdigit() and not Path("/proc", pid).exists():
            _run("ip", "netns", "delete", name)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _must(*command: str) -> None:
    done = _run(*command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
