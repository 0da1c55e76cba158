"""What a change of the members would mean, before anything is done."""

from __future__ import annotations

import pytest

from raftd.driver.assessment import assess
from raftd.raft.changes import (
    AddMember,
    Change,
    DemoteMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
    SetAddress,
)
from raftd.raft.configuration import Configuration
from tests.raft.network import Network


def led(voters: int = 3, dead: tuple[str, ...] = (), learners: tuple[str, ...] = ()) -> Network:
    """n1 leads; who is `dead` has not answered for a while."""
    names = tuple(f"n{number}" for number in range(1, voters + 1))
    addresses = {name: f"tcp://{name}.test:1" for name in (*names, *learners)}
    network = Network(Configuration(names, learners=learners, addresses=addresses))
    network.elect("n1")
    network.heartbeat("n1")
    for name in dead:
        network.crash(name)
    for _ in range(30):
        network.heartbeat("n1")
    assert network.leaders == ["n1"]
    return network


@pytest.mark.parametrize(
    ("voters", "dead", "change", "may_fail"),
    [
        (3, (), AddMember("n9", "tcp://x.test:1"), (1, 1)),
        (3, (), AddMember("n9", "tcp://x.test:1", voter=False), (1, 1)),
        (3, (), RemoveMember("n3"), (1, 0)),
        (3, ("n3",), RemoveMember("n3"), (0, 0)),
        (3, ("n3",), ReplaceMember("n3", "n9", "tcp://x.test:1"), (0, 1)),
        (5, ("n4", "n5"), RemoveMember("n5"), (0, 0)),
        (5, (), DemoteMember("n1"), (2, 1)),
        (5, (), SetAddress("n2", "tcp://x.test:1"), (2, 1)),
        (1, (), AddMember("n9", "tcp://x.test:1"), (0, 0)),
    ],
)
def test_what_may_fail_before_and_after(
    voters: int, dead: tuple[str, ...], change: Change, may_fail: tuple[int, int]
) -> None:
    network = led(voters, dead)
    report = assess(network["n1"].server, network.now, change)
    assert (report.before.may_fail, report.after.may_fail) == may_fail
    assert report.refused is None


@pytest.mark.parametrize(
    ("voters", "dead", "change"),
    [
        (3, ("n3",), RemoveMember("n2")),
        (3, ("n3",), RemoveMember("n1")),
        (3, ("n3",), DemoteMember("n2")),
        (5, ("n4", "n5"), RemoveMember("n3")),
        (3, ("n3",), SetAddress("n2", "tcp://x.test:1")),
        (2, (), SetAddress("n2", "tcp://x.test:1")),
    ],
)
def test_what_would_lose_the_quorum(voters: int, dead: tuple[str, ...], change: Change) -> None:
    """An operator may insist: a host may be about to come back."""
    network = led(voters, dead)
    report = assess(network["n1"].server, network.now, change)
    assert report.refused is not None
    assert report.refused.startswith("the cluster would lose its quorum")
    assert report.forcible


def test_what_is_under_way_cannot_be_forced() -> None:
    network = led()
    network.partition(["n1"], ["n2", "n3"])
    network.change("n1", RemoveMember("n3"))
    report = assess(network["n1"].server, network.now, RemoveMember("n2"))
    assert (report.refused or "").endswith("is still under way: one change at a time")
    assert not report.forcible


def test_warnings() -> None:
    network = led(dead=("n3",), learners=("n4",))
    server = network["n1"].server
    assert assess(server, network.now, PromoteMember("n4")).warnings == (
        "4 voters survive no more failures than 3",
        "no answer from n3 now",
    )
    network = led()
    assert assess(network["n1"].server, network.now, RemoveMember("n3")).warnings == (
        "2 voters survive no more failures than 1",
        "of failures from now on, no failure would be survived (1 now)",
    )
    moved = assess(network["n1"].server, network.now, SetAddress("n2", "tcp://x.test:1")).warnings
    assert moved[-1] == "n2 has to listen there: its own configuration file says where (listen)"


def test_a_dry_run_changes_nothing() -> None:
    network = led()
    before = network["n1"].server.log.last_index
    assess(network["n1"].server, network.now, RemoveMember("n3"))
    network.heartbeat("n1")
    assert network["n1"].server.log.last_index == before
