"""Members that come and go, in whole drivers under virtual time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from raftd.driver.errors import NoQuorum, NoSuchMember, Refused
from raftd.driver.reports import ChangeReport
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
from raftd.raft.state import Role
from tests.driver.cluster import Cluster, Node, running, until


async def change(
    node: Node, what: Change, *, dry_run: bool = False, force: bool = False, timeout: float = 5.0
) -> ChangeReport:
    return await node.driver.change_members(what, dry_run=dry_run, force=force, timeout=timeout)


def voters(node: Node) -> tuple[str, ...]:
    return node.driver.raft.server.configuration.voters


def _told(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    """The journal's kinds of event of all records with that text."""
    return [record.raftd.event for record in caplog.records if text in record.getMessage()]  # type: ignore[attr-defined]


async def add(cluster: Cluster, name: str, *, voter: bool = True) -> None:
    """Admitted, started, and, as a voter, promoted."""
    leader = await cluster.leader()
    report = await change(leader, AddMember(name, f"tcp://{name}.test:1", voter))
    assert report.index is not None
    await cluster.join(name, report.index)
    if voter:
        await until(lambda: name in voters(leader))
    await until(lambda: cluster[name].driver.applier.applied_index >= (report.index or 0))


async def test_one_becomes_three_and_one_again(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Any node takes the call; who is removed hands over, is told, and says so."""
    caplog.set_level("INFO")
    async with running(tmp_path, 1) as cluster:
        await cluster["n1"].put("a", "1")
        for name in ("n2", "n3"):
            await add(cluster, name)
        assert voters(cluster["n3"]) == ("n1", "n2", "n3")
        await until(lambda: len(_told(caplog, "the voters are n1, n2, n3 now")) == 3)
        assert set(_told(caplog, "the voters are n1, n2, n3 now")) == {"member-changed"}
        assert await cluster["n3"].get("a") == "1"
        report = await change(cluster["n3"], RemoveMember("n1"))
        assert (report.before.tolerates, report.after.tolerates) == (1, 0)
        leader = await cluster.leader(among=["n2", "n3"])
        await leader.put("b", "2")
        gone = cluster["n1"].driver.raft.server
        await until(lambda: gone.is_removed and gone.role is Role.FOLLOWER)
        with pytest.raises(Refused, match="n1 was removed from the cluster: ask another node"):
            await cluster["n1"].put("c", "3")
        status = await cluster["n1"].driver.status(timeout=1)
        assert (status.removed, status.role) == (True, "removed")
        assert status.reason is not None
        assert "n1 was removed from the cluster" in status.reason
        other = "n2" if leader.name == "n3" else "n3"
        await change(cluster[other], RemoveMember(leader.name))
        await cluster.leader(among=[other])
        await cluster[other].put("d", "4")


async def test_a_removed_node_learns_it_and_a_restart_remembers(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """It was cut off when it happened, so that only the others can tell. pitfalls 18 and 49"""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        gone = next(node for node in await cluster.followers())
        cluster.network.isolate(gone.name, cluster.names)
        term = leader.driver.raft.server.current_term
        await trio.sleep(10)
        await change(leader, RemoveMember(gone.name))
        cluster.network.heal()
        await until(lambda: gone.disk.standing.removed_at > 0)
        await cluster.crash(gone.name)
        cluster.network.isolate(gone.name, cluster.names)
        await cluster.start(gone.name)
        await trio.sleep(30)
        assert gone.driver.raft.server.is_removed
        assert gone.role is Role.FOLLOWER
        assert leader.driver.raft.server.current_term == term


@pytest.mark.parametrize("voter", [True, False])
async def test_a_name_that_comes_back_is_somebody_else(
    autojump_clock: MockClock, tmp_path: Path, voter: bool
) -> None:
    """Wiped, removed, admitted again: it is fed, and counts; the old directory stays refused.
    pitfalls 7, 8 and 9: without any write in between."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        old = next(node for node in await cluster.followers())
        await cluster.crash(old.name)
        kept = tmp_path / "kept"
        shutil.move(old.directory, kept)
        await cluster.start(old.name)  # wiped: refused by all
        await trio.sleep(10)
        assert old.driver.raft.server.log.last_index == 0
        await cluster.crash(old.name)
        shutil.rmtree(old.directory)
        await change(leader, RemoveMember(old.name))
        await add(cluster, old.name, voter=voter)
        assert await cluster[old.name].get("a", stale=True) == "1"
        assert leader.name not in cluster[old.name].driver.peers.refused
        await cluster.crash(old.name)
        shutil.rmtree(cluster[old.name].directory)
        shutil.move(kept, cluster[old.name].directory)
        await cluster.start(old.name)
        await until(lambda: cluster[old.name].driver.raft.server.is_removed)
        others = [name for name in cluster.names if name != old.name]
        await (await cluster.leader(among=others)).put("b", "2")


async def test_replaced_in_one_step(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        dead, other = await cluster.followers()
        await cluster.crash(dead.name)
        await trio.sleep(3)
        report = await change(other, ReplaceMember(dead.name, "n4", "tcp://n4.test:1"))
        assert report.index is not None
        assert report.after.voters == tuple(sorted({leader.name, other.name, "n4"}))
        assert (report.before.may_fail, report.after.may_fail) == (0, 1)
        await cluster.join("n4", report.index)
        await until(lambda: voters(leader) == report.after.voters)
        assert leader.driver.contacts.addresses.keys() == {other.name, "n4"}


async def test_what_would_lose_the_quorum_is_refused_unless_forced(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        dead, other = await cluster.followers()
        await cluster.crash(dead.name)
        await trio.sleep(3)
        for dry_run in (True, False):
            report = await change(other, RemoveMember(other.name), dry_run=dry_run)
            assert report.forcible
            assert report.index is None
            assert report.refused is not None
            assert f"only {leader.name} answers, and 2 are needed" in report.refused
        assert len(voters(leader)) == 3
        with pytest.raises((Exception,), match="not committed in time"):
            await change(leader, RemoveMember(other.name), force=True, timeout=2)
        await cluster.start(dead.name)
        await until(lambda: len(voters(leader)) == 2)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (RemoveMember("n9"), "there is no member n9"),
        (PromoteMember("n1"), "n1 is a voter already"),
        (AddMember("n1", "tcp://x.test:1"), "n1 is a member already"),
    ],
)
async def test_what_makes_no_sense_is_refused_even_by_force(
    autojump_clock: MockClock, tmp_path: Path, what: Change, why: str
) -> None:
    async with running(tmp_path) as cluster:
        await cluster.leader()
        report = await change(cluster["n2"], what, force=True)
        assert not report.forcible
        assert (report.refused or "").startswith(why)


@pytest.mark.parametrize(
    "what",
    [AddMember("a b", "tcp://x.test:1"), AddMember("n4", "udp://x:1"), SetAddress("n1", "")],
)
async def test_names_and_addresses_are_checked(
    autojump_clock: MockClock, tmp_path: Path, what: Change
) -> None:
    async with running(tmp_path, 1) as cluster:
        await cluster.leader()
        with pytest.raises(Refused):
            await change(cluster["n1"], what)


async def test_without_a_leader_nothing_is_done(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await cluster.leader()
        for name in ("n2", "n3"):
            await cluster.crash(name)
        await trio.sleep(5)
        with pytest.raises(NoQuorum):
            await change(cluster["n1"], RemoveMember("n2"), timeout=1)


async def test_a_demoted_leader_hands_over(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 28"""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await change(leader, DemoteMember(leader.name))
        other = await cluster.leader(among=[name for name in cluster.names if name != leader.name])
        await other.put("a", "1")
        status = await other.driver.status(timeout=1)
        (demoted,) = [each for each in status.members if each.name == leader.name]
        assert (demoted.role, demoted.membership, demoted.voter) == ("learner", "learner", False)
        await change(other, PromoteMember(leader.name))
        await until(lambda: len(voters(other)) == 3)


async def test_addresses_are_followed(autojump_clock: MockClock, tmp_path: Path) -> None:
    """By all, at run time, and after a restart, whatever the configuration file said."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        moved, other = await cluster.followers()
        address = "tcp://elsewhere.test:7"
        report = await change(leader, SetAddress(moved.name, address))
        assert report.index is not None
        await until(lambda: cluster.network.dialled.get((other.name, moved.name)) == address)
        await cluster.crash(other.name)
        await cluster.start(other.name)
        assert cluster.network.dialled[other.name, moved.name] == address


async def test_changes_wait_for_their_turn(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path, 5) as cluster:
        leader = await cluster.leader()
        async with trio.open_nursery() as nursery:
            for name in [name for name in cluster.names if name != leader.name][:2]:
                nursery.start_soon(change, leader, RemoveMember(name))
        assert len(voters(leader)) == 3


async def test_a_change_that_cannot_end_holds_up_the_next(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        server = leader.driver.raft.server
        leader.driver.raft.change_membership(trio.current_time(), RemoveMember("n1"))
        cluster.network.isolate(leader.name, cluster.names)
        report = await change(leader, RemoveMember("n2"), timeout=0.2)
        assert "one change at a time" in (report.refused or "")
        assert isinstance(server.configuration, Configuration)
        with pytest.raises(Exception, match="one change at a time"):
            leader.driver.raft.change_membership(trio.current_time(), RemoveMember("n2"))


# ---- leadership


async def test_drained(autojump_clock: MockClock, tmp_path: Path) -> None:
    """It hands over, stays away over a restart and an election, and is shown."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        asked = next(node for node in await cluster.followers())
        who = await asked.driver.drain(leader.name, drained=True, force=False, timeout=5)
        assert who == leader.name
        others = [name for name in cluster.names if name != leader.name]
        second = await cluster.leader(among=others)
        await cluster.crash(leader.name)
        await cluster.start(leader.name)
        await trio.sleep(2)
        with pytest.raises(Refused, match=f"{leader.name} is drained"):
            await second.driver.transfer_leadership(leader.name, timeout=5)
        with pytest.raises(Refused, match=f"{leader.name} is drained"):
            await cluster[leader.name].driver.transfer_leadership(leader.name, timeout=5)
        assert await second.driver.transfer_leadership(None, timeout=5) in others
        status = await asked.driver.status(timeout=1)
        assert {each.name for each in status.members if each.drained} == {leader.name}
        await cluster.crash(others[0])
        await trio.sleep(10)
        assert cluster[leader.name].role is not Role.LEADER
        await cluster[leader.name].driver.drain(None, drained=False, force=False, timeout=5)
        await cluster.crash(others[1])
        await cluster.start(others[0])
        await cluster.leader()


async def test_the_last_one_is_not_drained(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        for node in await cluster.followers():
            await node.driver.drain(None, drained=True, force=False, timeout=5)
        with pytest.raises(Refused, match="nobody would lead"):
            await leader.driver.drain(None, drained=True, force=False, timeout=5)
        with pytest.raises(NoSuchMember):
            await leader.driver.drain("n9", drained=True, force=False, timeout=5)
        assert leader.role is Role.LEADER


async def test_a_higher_priority_takes_over(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Not at once: it has to have been up for a while. And one of priority 0 never leads."""
    async with running(tmp_path, priorities={"n1": 0, "n2": 1, "n3": 5}) as cluster:
        await until(lambda: [node.name for node in cluster.leaders()] == ["n3"])
        await cluster.crash("n3")
        await until(lambda: [node.name for node in cluster.leaders()] == ["n2"])
        began = trio.current_time()
        await cluster.start("n3")
        await until(lambda: [node.name for node in cluster.leaders()] == ["n3"])
        assert trio.current_time() - began > 10
        await trio.sleep(60)
        assert [node.name for node in cluster.leaders()] == ["n3"]
