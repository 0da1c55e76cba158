"""Who may take part: wiped nodes, strange clusters, two daemons in one directory."""

from __future__ import annotations

from tests.history import Recorder
from tests.system.cluster import CALM, Cluster, free_port
from tests.system.load import read_back
from tests.system.node import Node
from tests.system.waiting import wait_until


def test_wiped_node_under_its_old_name_is_refused_and_said_so_on_both_sides() -> None:
    """pitfall 7, 9: with no traffic; it neither votes nor acknowledges, and its old disk heals."""
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        wiped, other = cluster.others(leader)
        cluster.wait_until_writable(leader, "a", "1")
        cluster.wait_until_converged()
        wiped.kill()
        kept = wiped.directory / "kept"
        wiped.data.rename(kept)
        wiped.start()
        leader.wait_for_log(f"{wiped.name} came back with another node id")
        wiped.wait_for_log("refuses this node")
        status = wiped.wait_until_up()
        assert "wiped" in str(_problem(status, wiped)), "it says so itself"
        assert "wiped" in str(_problem(leader.wait_until_up(), wiped)), "and so does the leader"
        assert wiped.log_of_this_life.count("refuses this node") <= 2, "once for each peer"

        leader.kill()
        wait_until(
            lambda: (other.status() or {}).get("role") == "pre-candidate",
            f"{other.name} asks for votes",
        )
        term = other.wait_until_up()["term"]
        waited = _asks_again(other, times=3)
        assert waited["leader"] is None, "a wiped node's vote must not count"
        assert waited["term"] == term

        leader.start()
        leader.wait_until_up()
        assert cluster.wait_for_leader([leader, other]) in {leader, other}
        wiped.kill()
        wiped.data.rename(wiped.directory / "thrown away")
        kept.rename(wiped.data)
        wiped.start()
        cluster.wait_for_leader()
        cluster.wait_until_converged()
        assert _problem(cluster.wait_for_leader().wait_until_up(), wiped) is None
        assert read_back(wiped, ["a"], Recorder()) == {"a": "1"}


def test_two_clusters_on_swapped_addresses_refuse_each_other() -> None:
    """pitfall 10, 11: nothing of the other cluster is believed, each says why, data stays apart."""
    addresses = {f"node{number}": f"tcp://127.0.0.1:{free_port()}" for number in range(1, 4)}
    with (
        Cluster(3, addresses=addresses, label="red", **CALM).start() as red,
        Cluster(3, label="blue", **CALM).start() as blue,
    ):
        red.wait_until_writable(red["node1"], "colour", "red")
        blue.wait_until_writable(blue["node1"], "colour", "blue")
        red["node3"].kill()
        blue["node3"].kill()
        red_address, blue_address = (each["node3"].settings["listen"] for each in (red, blue))
        red["node3"].settings["listen"] = blue_address
        blue["node3"].settings["listen"] = red_address
        for cluster in (red, blue):
            cluster.wait_for_leader()
        terms = {node.directory: node.wait_until_up()["term"] for node in _first_two(red, blue)}
        red["node3"].start()
        blue["node3"].start()
        for cluster in (red, blue):
            cluster.wait_for_leader([cluster["node1"], cluster["node2"]]).wait_for_log(
                "belongs to another cluster"
            )
        for stranger in (red["node3"], blue["node3"]):
            stranger.wait_for_log("belongs to another cluster")
            assert " follows " not in stranger.log_of_this_life
        for node in _first_two(red, blue):
            assert node.wait_until_up()["term"] == terms[node.directory], "nobody was disturbed"
        for cluster, address in ((red, red_address), (blue, blue_address)):
            cluster["node3"].kill()
            cluster["node3"].settings["listen"] = address
        for cluster, colour in ((red, "red"), (blue, "blue")):
            cluster.start()
            assert read_back(cluster["node3"], ["colour"], Recorder()) == {"colour": colour}


def test_second_daemon_on_a_data_directory_says_who_has_it() -> None:
    """pitfall 76: exit status 3, with the holder's process id; the first one goes on."""
    with Cluster(1).start() as cluster:
        first = cluster["node1"]
        address = f"tcp://127.0.0.1:{free_port()}"
        second = Node(
            cluster.directory / "second",
            {
                **first.settings,
                "listen": address,
                "advertise": address,
                "members": {"node1": address},
            },
        )
        second.settings["data_dir"] = str(first.data)
        cluster.nodes["second"] = second
        second.start()
        second.wait_for_exit(3)
        assert f"process {first.pid}" in second.log
        assert str(first.data) in second.log
        cluster.wait_until_writable(first)


def test_data_directory_of_another_node_is_refused() -> None:
    """pitfall 8: a directory that was copied to the wrong node; status 4, both names."""
    with Cluster(3).start() as cluster:
        follower, other = cluster.others(cluster.wait_for_leader())
        follower.kill()
        other.kill()
        follower.data.rename(follower.directory / "own")
        other.data.rename(follower.data)
        follower.start()
        follower.wait_for_exit(4)
        assert other.name in follower.log_of_this_life
        assert follower.name in follower.log_of_this_life


def test_address_in_use_is_said() -> None:
    with Cluster(1).start() as cluster:
        first = cluster["node1"]
        second = Node(cluster.directory / "second", first.settings)
        cluster.nodes["second"] = second
        second.start()
        second.wait_for_exit(6)
        assert first.settings["listen"] in second.log


def _problem(status: dict[str, object], node: Node) -> object:
    members = status["members"]
    assert isinstance(members, list)
    return next(each["problem"] for each in members if each["name"] == node.name)


def _first_two(*clusters: Cluster) -> list[Node]:
    return [cluster[name] for cluster in clusters for name in ("node1", "node2")]


def _asks_again(node: Node, times: int) -> dict[str, object]:
    """The status of `node` after it asked for pre-votes that often again."""
    asked = node.log_of_this_life.count("asks for pre-votes")
    wait_until(
        lambda: node.log_of_this_life.count("asks for pre-votes") >= asked + times,
        f"{node.name} asks for pre-votes {times} times more",
    )
    return node.wait_until_up()
