"""Changing the members of a cluster of real processes, as an administrator would."""

from __future__ import annotations

import shutil
import tomllib
from typing import Any

from tests.system.client import CallError, NoAnswer, NoConnection
from tests.system.cluster import Cluster, free_port
from tests.system.node import Node
from tests.system.waiting import wait_until

TIMEOUT_MS = 10_000


def change(cluster: Cluster, action: str, name: str, **parameters: Any) -> dict[str, Any]:
    """Through any node that takes it, again until it is certain that it was done."""

    def done() -> dict[str, Any] | None:
        for node in cluster.running:
            try:
                with node.client(timeout=TIMEOUT_MS / 1000 + 5) as client:
                    answer: dict[str, Any] = client.call(
                        "Node.ChangeMembers",
                        action=action,
                        name=name,
                        timeout_ms=TIMEOUT_MS,
                        **parameters,
                    )["report"]
            except CallError as error:
                if error.name == "NoSuchMember":
                    return {"refused": None}  # an earlier try had been done
                continue
            except (NoConnection, NoAnswer):
                continue
            refused = answer.get("refused") or ""
            if "already" in refused:
                return answer  # an earlier try had been done, or this is a test of refusals
            if answer.get("index") is not None or parameters.get("dry_run") or "quorum" in refused:
                return answer
        return None

    return wait_until(done, f"{action} {name} is done")


def join(cluster: Cluster, name: str, file: str) -> Node:
    """Start a new host with the file that was printed for it, and nothing else of substance."""
    old = cluster.nodes.get(name)
    if old is not None:
        old.kill()
        shutil.rmtree(old.directory)
    settings = tomllib.loads(file)
    some = next(iter(cluster))
    settings = {
        **{key: some.settings[key] for key in ("log", "limits")},
        "listen": settings["members"][name],
        **settings,
    }
    node = Node(cluster.directory / name, settings)
    node.wrapper = ()
    cluster.nodes[name] = node
    node.start()
    return node


def add(cluster: Cluster, name: str, **parameters: Any) -> Node:
    """A new voter, up and promoted."""
    report = change(cluster, "add", name, address=f"tcp://127.0.0.1:{free_port()}", **parameters)
    node = join(cluster, name, report["configuration_file"])
    wait_until_voter(cluster, name)
    return node


def replace(cluster: Cluster, old: str, new: str) -> Node:
    address = f"tcp://127.0.0.1:{free_port()}"
    report = change(cluster, "replace", old, new_name=new, address=address)
    node = join(cluster, new, report["configuration_file"])
    wait_until_voter(cluster, new)
    return node


def wait_until_voter(cluster: Cluster, name: str) -> None:
    wait_until(lambda: members(cluster).get(name) == "voter", f"{name} is a voter")


def members(cluster: Cluster) -> dict[str, str]:
    """Name -> voter, learner, joining or leaving, by whoever has a leader; none if nobody does."""
    for node in cluster.running:
        status = node.status()
        if status is not None and status["writable"] and not status["joint"]:
            return {each["name"]: each["membership"] for each in status["members"]}
    return {}


def forget(cluster: Cluster, name: str) -> None:
    """The host of a removed member is switched off."""
    cluster.nodes.pop(name).kill()
