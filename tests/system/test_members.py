"""Clusters of real processes whose members come, go, move and come back, under load."""

from __future__ import annotations

import shutil

import pytest

from tests.history import Recorder
from tests.system.client import CallError
from tests.system.cluster import CALM, Cluster, free_port
from tests.system.load import Load, assert_linearizable, read_back
from tests.system.members import add, change, forget, join, members, wait_until_voter
from tests.system.node import Node
from tests.system.test_partitions import partitionable_cluster
from tests.system.waiting import wait_until

KEYS = [f"key{number}" for number in range(4)]


def finish(cluster: Cluster, recorder: Recorder) -> None:
    """All members have the same, and everything that clients saw makes sense."""
    cluster.wait_for_leader()
    cluster.wait_until_converged()
    for node in cluster:
        read_back(node, KEYS, recorder)
    assert_linearizable(recorder.operations())


def wait_until_removed(node: Node) -> None:
    wait_until(lambda: _is_removed(node), f"{node.name} knows that it was removed")


def _is_removed(node: Node) -> bool:
    status = node.status()
    return status is not None and status["removed"] and status["role"] == "removed"


def test_a_name_is_used_again_after_a_wipe_under_load() -> None:
    """pitfalls 7 and 8: the disk of node3 is lost. Its name comes back as another member, and its
    old data, should it turn up again, is refused."""
    recorder = Recorder()
    with Cluster(3).start() as cluster:
        live: list[Node] = [cluster["node1"], cluster["node2"]]
        lost = cluster["node3"]
        with Load(live, recorder=recorder, clients=6) as load:
            load.wait_for_acknowledged(30)
            lost.kill()
            kept = cluster.directory / "kept"
            shutil.move(lost.data, kept)
            change(cluster, "remove", "node3")
            load.wait_for_acknowledged(20)
            fresh = add(cluster, "node3")
            live.append(fresh)
            load.wait_for_acknowledged(20)
        finish(cluster, recorder)
        fresh.kill()
        shutil.rmtree(fresh.data)
        shutil.move(kept, fresh.data)
        fresh.start()
        wait_until(lambda: _is_removed(fresh), "the old node3 knows that it is nobody any more")
        cluster.wait_for_leader([cluster["node1"], cluster["node2"]])
        with fresh.client() as client, pytest.raises(CallError, match="was removed from the clus"):
            client.put("a", "b")


def test_the_leader_is_removed_again_and_again_under_load() -> None:
    """pitfall 47: entries in flight survive, and there is always somebody who takes over."""
    recorder = Recorder()
    with Cluster(5).start() as cluster:
        live = list(cluster)
        with Load(live, recorder=recorder, clients=6) as load:
            for _ in range(3):
                load.wait_for_acknowledged(30)
                leader = cluster.wait_for_leader()
                change(cluster, "remove", leader.name)
                live.remove(leader)
                wait_until_removed(leader)
                term = cluster.others(leader)[0].wait_until_up()["term"]
                load.wait_for_acknowledged(30)
                assert cluster.others(leader)[0].wait_until_up()["term"] <= term + 1
                forget(cluster, leader.name)
        assert len(members(cluster)) == 2
        finish(cluster, recorder)


def test_members_change_while_one_is_cut_off() -> None:
    """pitfalls 18, 44 and 49: node3 is stopped while two others are added and it is removed, and
    disturbs nobody when it continues."""
    with Cluster(3, **CALM).start() as cluster:
        leader = cluster.wait_for_leader()
        away = cluster.others(leader)[0]
        away.pause()
        for name in ("node4", "node5"):
            report = change(cluster, "add", name, address=_address())
            join(cluster, name, report["configuration_file"])
            _wait_until_votes(leader, name)
        with leader.client() as client:
            report = client.call("Node.ChangeMembers", action="remove", name=away.name)["report"]
        assert report["index"] is not None
        term = leader.wait_until_up()["term"]
        away.resume()
        wait_until(lambda: _is_removed(away), f"{away.name} knows that it was removed")
        status = leader.wait_until_up()
        assert (status["term"], status["role"]) == (term, "leader")
        away.stop()
        away.start()
        assert _is_removed_at_once(away)
        forget(cluster, away.name)
        cluster.wait_until_converged()


def test_a_leader_that_is_cut_off_is_removed_by_the_others() -> None:
    """pitfalls 18, 47 and 48: the old leader goes on for a moment and can do nothing; it is removed
    without knowing it, and when the network heals it learns that, and disturbs nobody."""
    recorder = Recorder()
    with partitionable_cluster() as (cluster, network):
        live = list(cluster)
        with Load(live, recorder=recorder, clients=6) as load:
            load.wait_for_acknowledged(30)
            old = cluster.wait_for_leader()
            network.isolate(old.name)
            rest = cluster.others(old)
            cluster.wait_for_leader(rest)
            with rest[0].client() as client:
                report = client.call("Node.ChangeMembers", action="remove", name=old.name)["report"]
            assert report["index"] is not None
            load.wait_for_acknowledged(30)
            term = rest[0].wait_until_up()["term"]
            network.heal()
            live.remove(old)
            wait_until_removed(old)
            load.wait_for_acknowledged(30)
            assert rest[0].wait_until_up()["term"] == term
        forget(cluster, old.name)
        finish(cluster, recorder)


def _address() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


def _wait_until_votes(leader: Node, name: str) -> None:
    """By what the leader says."""

    def votes() -> bool:
        status = leader.status() or {"members": []}
        return any(
            each["name"] == name and each["membership"] == "voter" for each in status["members"]
        )

    wait_until(votes, f"{name} is a voter")


def _is_removed_at_once(node: Node) -> bool:
    """A restart remembers: before anybody could have told it again."""
    return bool(node.wait_until_up()["removed"])


def test_refusals_and_dry_runs() -> None:
    """What would lose the quorum is refused, by a dry run too; nothing is changed."""
    with Cluster(3, **CALM).start() as cluster:
        leader = cluster.wait_for_leader()
        dead, other = cluster.others(leader)
        dry = change(cluster, "remove", other.name, dry_run=True)
        assert (dry["before"]["tolerates"], dry["after"]["tolerates"]) == (1, 0)
        assert dry["refused"] is None
        dead.kill()
        wait_until(
            lambda: change(cluster, "remove", other.name, dry_run=True)["refused"] is not None,
            f"the leader notices that {dead.name} is dead",
        )
        report = change(cluster, "remove", other.name)
        assert report["forcible"]
        assert f"only {leader.name} answers, and 2 are needed" in report["refused"]
        assert sorted(members(cluster)) == ["node1", "node2", "node3"]
        assert change(cluster, "remove", dead.name)["refused"] is None
        assert sorted(members(cluster)) == sorted([leader.name, other.name])


def test_a_member_moves_to_another_address() -> None:
    """All follow at run time, and still do after a restart with the old configuration file."""
    with Cluster(3, **CALM).start() as cluster:
        leader = cluster.wait_for_leader()
        moved, other = cluster.others(leader)
        address = _address()
        report = change(cluster, "set_address", moved.name, address=address)
        assert report["refused"] is None
        moved.stop()
        moved.settings["listen"] = address
        del moved.settings["advertise"]
        moved.settings["members"] = {**moved.settings["members"], moved.name: address}
        moved.start()
        cluster.wait_for_leader()
        cluster.wait_until_writable(leader)
        other.stop()
        other.start()
        cluster.wait_for_leader()
        cluster.wait_until_converged()
        for node in (leader, other):
            assert _address_of(node, moved.name) == address


def _address_of(node: Node, name: str) -> str:
    found = {each["name"]: each["address"] for each in node.wait_until_up()["members"]}
    return str(found[name])


def test_drained_over_a_restart() -> None:
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        with leader.client() as client:
            assert client.call("Node.Drain") == {"name": leader.name}
        wait_until(lambda: cluster.wait_for_leader() is not leader, "another one leads")
        leader.stop()
        leader.start()
        others = cluster.others(leader)
        for _ in range(3):
            old = cluster.wait_for_leader()
            assert old is not leader
            with old.client() as client:
                new = client.call("Node.TransferLeadership", timeout_ms=5000)["leader"]
            assert new in {each.name for each in others}
        status = others[0].wait_until_up()
        assert [each["name"] for each in status["members"] if each["drained"]] == [leader.name]
        with others[0].client() as client:
            assert client.call("Node.Undrain", name=leader.name) == {"name": leader.name}
            wait_until(lambda: _can_lead(cluster, leader), f"{leader.name} leads again")


def _can_lead(cluster: Cluster, node: Node) -> bool:
    try:
        with cluster.wait_for_leader().client() as client:
            client.call("Node.TransferLeadership", name=node.name, timeout_ms=3000)
    except CallError:
        return False
    return cluster.wait_for_leader() is node


def test_a_learner_gets_everything_and_counts_for_nothing() -> None:
    """pitfall 45: and stays one over restarts of everybody."""
    with Cluster(3).start() as cluster:
        report = change(cluster, "add", "node4", address=_address(), learner=True)
        join(cluster, "node4", report["configuration_file"])
        cluster.wait_until_writable(cluster["node1"], "a", "1")
        wait_until(lambda: (cluster["node4"].status() or {}).get("role") == "learner", "it learns")
        cluster.kill_all()
        cluster.start()
        cluster.wait_until_converged()
        assert members(cluster)["node4"] == "learner"
        with cluster["node4"].client() as client:
            assert client.get("a") == "1"
        change(cluster, "promote", "node4")
        wait_until_voter(cluster, "node4")
