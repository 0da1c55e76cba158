"""Clusters that encrypt what they say, as real processes."""

from __future__ import annotations

import shutil

from tests.certificates import make, needs_openssl
from tests.history import Recorder
from tests.system.certified import issue
from tests.system.cluster import CALM, Cluster, free_port
from tests.system.load import read_back
from tests.system.node import Node
from tests.system.waiting import wait_until

pytestmark = needs_openssl

NAMES = ("node1", "node2", "node3")


def _encrypted() -> dict[str, str]:
    return {name: f"tls+tcp://127.0.0.1:{free_port()}" for name in NAMES}


def test_an_encrypted_cluster_survives_its_leader_and_hears_no_stranger() -> None:
    with Cluster(3, addresses=_encrypted()) as cluster:
        place = issue(cluster)
        cluster.start()
        first = cluster.wait_for_leader()
        cluster.wait_until_writable(first, "a", "1")
        first.kill()
        second = cluster.wait_for_leader()
        cluster.wait_until_writable(second, "b", "2")
        first.start()
        cluster.wait_until_converged()
        first.kill()

        # The same node with a certificate of its own making is not heard, and hears nobody.
        make(place / "foreign", first.name)
        good = first.directory / "tls"
        good.rename(first.directory / "good")
        shutil.copytree(place / "foreign", good)
        first.start()
        first.wait_until_up()
        cluster.wait_until_writable(second, "c", "3")
        assert first.wait_until_up()["leader"] is None
        wait_until(
            lambda: (
                "is not believed here" in str(_problem(second, first.name))
                and "is not believed here" in str(_problem(first, second.name))
            ),
            "both say why",
        )
        assert _last_index(first) < _last_index(second)
        first.kill()
        shutil.rmtree(good)
        (first.directory / "good").rename(good)
        first.start()
        cluster.wait_until_converged()
        assert read_back(first, ["a", "b", "c"], Recorder()) == {"a": "1", "b": "2", "c": "3"}


def _problem(node: Node, name: str) -> object:
    """What `node` has to say of the member `name`."""
    members = node.wait_until_up()["members"]
    return next(each.get("problem") for each in members if each["name"] == name)


def _last_index(node: Node) -> int:
    """Of its own log."""
    members = node.wait_until_up()["members"]
    return int(next(each["last_index"] for each in members if each["name"] == node.name))


def test_a_node_whose_certificate_is_not_usable_says_so_and_ends() -> None:
    with Cluster(3, addresses=_encrypted()) as cluster:
        node = cluster["node1"]
        node.start()
        node.wait_for_exit(2)
        assert f"{node.directory}/tls/ca.pem: cannot be read (No such file" in node.log
        assert not node.data.exists(), "before anything else is done"


def test_a_running_cluster_becomes_encrypted_one_node_after_the_other() -> None:
    with Cluster(3, tls={}, **CALM) as cluster:
        issue(cluster)
        cluster.start()
        cluster.wait_until_writable(cluster["node1"], "a", "1")
        for node in cluster:
            address = f"tls+tcp://127.0.0.1:{free_port()}"
            with cluster.wait_for_leader().client() as client:  # nobody has to find it for this
                report = client.call(
                    "Node.ChangeMembers", action="set_address", name=node.name, address=address
                )["report"]
            assert report["refused"] is None
            node.stop()
            node.settings["listen"] = address
            node.start()
            cluster.wait_until_converged()
            cluster.wait_until_writable(node, "last", node.name)
        leader = cluster.wait_for_leader()
        addresses = [each["address"] for each in leader.wait_until_up()["members"]]
        assert all(address.startswith("tls+tcp://") for address in addresses)
        wait_until(
            lambda: read_back(leader, ["last"], Recorder()) == {"last": "node3"}, "it is kept"
        )
