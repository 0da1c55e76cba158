"""Three hosts with addresses of their own, on one bridge, form one cluster; and one is cut off."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.package.machine import Machine

HOSTS = {"node1": "192.0.2.1", "node2": "192.0.2.2", "node3": "192.0.2.3"}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def network() -> Iterator[str]:
    """A network namespace with a bridge that the machines join."""
    name = f"raftd-package-{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "add", "br0", "type", "bridge")
        ip("-n", name, "link", "set", "br0", "up")
        yield name
    finally:
        ip("netns", "delete", name)


@pytest.fixture
def hosts(
    installed: Path, shared: Path, network: str, tmp_path: Path
) -> Iterator[dict[str, Machine]]:
    """Node -> machine, each with the package and its address."""
    with ExitStack() as stack:
        machines = {}
        for node, address in HOSTS.items():
            log = tmp_path / f"{node}.log"
            machine = stack.enter_context(
                Machine(installed, shared, log, network=network, name=node)
            )
            machine.in_network("ip", "addr", "add", f"{address}/24", "dev", "host0")
            machine.in_network("ip", "link", "set", "host0", "up")
            machines[node] = machine
        yield machines


def _certify(hosts: dict[str, Machine]) -> None:
    """As the commands say: made on one host, copied to the others, where the group is given."""
    first, *others = hosts
    said = hosts[first].out("raftd", "certificates", *hosts)
    give = next(line for line in said.splitlines() if "chgrp" in line)
    for node in others:
        hosts[node].sh("mkdir --mode=755 /etc/raftd/tls")
        for file in ("ca.pem", f"{node}.pem", f"{node}.key"):
            path = f"/etc/raftd/tls/{file}"
            hosts[node].write(path, hosts[first].run("cat", path).stdout)
        hosts[node].sh(f"chmod 600 /etc/raftd/tls/*.key; {give}")


@pytest.mark.parametrize("security", ["--trust-network", "--tls"])
def test_three_hosts_form_a_cluster_which_survives_the_loss_of_one(
    hosts: dict[str, Machine], network: str, security: str
) -> None:
    members = [f"{node}={address}" for node, address in HOSTS.items()]
    if security == "--tls":
        _certify(hosts)
    for node, machine in hosts.items():
        said = machine.out("raftd", "init", security, *members)
        assert f"systemctl enable --now raftd@{node}" in said
        machine.run("systemctl", "enable", "--now", f"raftd@{node}")
    hosts["node1"].until("raftctl kv put from node1")
    assert hosts["node3"].until("raftctl kv get from") == "node1"
    first = hosts["node1"].until("raftctl -o json leader | cut -d'\"' -f4")
    others = sorted(set(HOSTS) - {first})

    ip("-n", network, "link", "set", f"vb-{first}", "down")
    hosts[others[0]].until("raftctl kv put without the-first")
    assert hosts[others[1]].until("raftctl kv get without") == "the-first"
    hosts[first].until(
        f"journalctl -u raftd@{first} MESSAGE_ID=feb695d25cd04e9ba0388102a520a211 | grep -q quorum"
    )
    alone = hosts[first].run("raftctl", "--timeout", "1", "kv", "put", "a", "b", check=False)
    assert alone.returncode == 4, alone.stderr
    shown = hosts[first].properties(f"raftd@{first}", "ActiveState", "NRestarts")
    assert shown == {"ActiveState": "active", "NRestarts": "0"}, "to be cut off is no failure"

    ip("-n", network, "link", "set", f"vb-{first}", "up")
    assert hosts[first].until("raftctl kv get without") == "the-first"
