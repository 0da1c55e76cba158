"""A cluster of drivers: writes, reads, failures of nodes and networks, transfer."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from raftd.driver.errors import Busy, NoQuorum, NoSuchMember, OutcomeUnknown, Refused, TooLarge
from raftd.kv.commands import Changed
from raftd.raft.log import EntryType
from raftd.raft.state import Role, Settings
from tests.driver.cluster import running, until


async def test_any_node_takes_writes_and_reads(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        for name in cluster.names:
            assert isinstance(await cluster[name].put(f"key of {name}", name), Changed)
        for name in cluster.names:
            for other in cluster.names:
                assert await cluster[name].get(f"key of {other}") == other


async def test_a_single_node_is_a_cluster(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        await cluster["n1"].put("a", "1")
        assert await cluster["n1"].get("a") == "1"


async def test_the_log_has_details_at_level_debug(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as cluster:
        for level in ("DEBUG", "INFO"):
            caplog.set_level(level, "raftd.raft")
            await cluster["n1"].put("a", "1")
            caplog.clear()
            await cluster["n1"].put("a", level)
            told = any("commits up to" in text for text in caplog.messages)
            assert told is (level == "DEBUG")


async def test_every_command_is_in_the_log_once(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 86, 89: a forwarded command is proposed once, however it went."""
    async with running(tmp_path) as cluster:
        followers = await cluster.followers()
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(followers[number % 2].put, f"k{number}", "v")
        log = (await cluster.leader()).driver.raft.server.log
        entries = [log.entry(index) for index in range(1, log.last_index + 1)]
        commands = [entry for entry in entries if entry and entry.type is EntryType.COMMAND]
        assert len(commands) == 40


async def test_acknowledged_writes_survive_the_leader(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 90"""
    async with running(tmp_path) as cluster:
        for number in range(5):
            leader = await cluster.leader()
            await leader.put(f"k{number}", "v")
            await cluster.crash(leader.name)
            survivors = [name for name in cluster.names if name != leader.name]
            for name in survivors:
                for key in range(number + 1):
                    assert await cluster[name].get(f"k{key}", timeout=30) == "v"
            await cluster.start(leader.name)


async def test_all_at_once_restarted(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 1: terms never fall, nothing acknowledged is lost."""
    async with running(tmp_path) as cluster:
        term = 0
        for number in range(4):
            leader = await cluster.leader()
            await leader.put(f"k{number}", "v")
            for name in cluster.names:
                await cluster.crash(name)
            await cluster.start()
            for name in cluster.names:
                assert cluster[name].driver.raft.server.current_term >= term
            assert await cluster["n1"].get("k0", timeout=30) == "v"
            assert await cluster["n2"].get(f"k{number}", timeout=30) == "v"
            term = cluster["n1"].driver.raft.server.current_term


async def test_a_cut_off_leader_answers_no_reads_and_acknowledges_nothing(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 80, 18, 87"""
    async with running(tmp_path) as cluster:
        old = await cluster.leader()
        await old.put("a", "1")
        cluster.network.isolate(old.name, cluster.names)
        with pytest.raises(OutcomeUnknown):
            await old.put("a", "lost", timeout=1)
        others = [name for name in cluster.names if name != old.name]
        new = await cluster.leader(among=others)
        await new.put("a", "2")
        with pytest.raises(NoQuorum):
            await old.get("a", timeout=3)
        assert await old.get("a", stale=True) == "1"
        await until(lambda: old.role is not Role.LEADER)
        cluster.network.heal()
        await until(lambda: old.driver.raft.server.leader == new.name)
        assert new.role is Role.LEADER
        assert await old.get("a") == "2"


async def test_a_command_of_a_deposed_leader_that_lost_its_place_was_never_done(
    autojump_clock: MockClock,
    tmp_path: Path,
) -> None:
    """pitfall 88: the answer waits for the entry of its own term."""
    async with running(tmp_path) as cluster:
        old = await cluster.leader()
        cluster.network.isolate(old.name, cluster.names)
        results: list[object] = []

        async def put() -> None:
            try:
                results.append(await old.put("a", "lost", timeout=60))
            except NoQuorum as error:
                results.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            new = await cluster.leader(among=[n for n in cluster.names if n != old.name])
            await new.put("a", "kept")
            cluster.network.heal()
        assert isinstance(results[0], NoQuorum)
        assert await old.get("a") == "kept"


async def test_without_a_majority_every_call_ends_with_a_reason(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 87"""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        for name in cluster.names:
            if name != leader.name:
                await cluster.crash(name)
        await until(lambda: leader.role is not Role.LEADER)
        with pytest.raises(NoQuorum, match="Nothing was done"):
            await leader.put("a", "1", timeout=3)
        with pytest.raises(NoQuorum, match="no leader"):
            await leader.get("a", timeout=3)
        with pytest.raises(NoQuorum):
            await leader.driver.transfer_leadership(None, timeout=1)
        status = await leader.driver.status(timeout=1)
        assert not status.writable
        assert status.reason == "no quorum: 1 of 3 voters answer, 2 are needed"
        assert status.failures_tolerated == 0


async def test_pure_reads_go_on_after_a_change_of_leader(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 85: nobody writes."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        await cluster.crash(leader.name)
        for name in cluster.names:
            if name != leader.name:
                assert await cluster[name].get("a", timeout=30) == "1"


async def test_transfer(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 93"""
    async with running(tmp_path) as cluster:
        for target in ["n1", "n2", "n3", "n1"]:
            leader = await cluster.leader()
            if leader.name == target:
                continue
            asked = cluster["n2"]
            assert await asked.driver.transfer_leadership(target, timeout=5) == target
            assert (await cluster.leader()).name == target
            await asked.put(target, "leads")
        with pytest.raises(NoSuchMember):
            await cluster["n1"].driver.transfer_leadership("n9", timeout=5)
        with pytest.raises(Refused, match="already leads"):
            await cluster["n2"].driver.transfer_leadership("n1", timeout=5)


async def test_transfer_to_a_dead_node_is_given_up(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 92: writes go on after one election timeout."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        dead = next(name for name in cluster.names if name != leader.name)
        await leader.put("a", "1")
        await cluster.crash(dead)
        with pytest.raises(Refused, match="has not taken over"):
            await leader.driver.transfer_leadership(dead, timeout=10)
        assert (await cluster.leader()) is leader
        assert isinstance(await leader.put("b", "2", timeout=2), Changed)


async def test_writes_wait_out_a_transfer(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: leader.driver.transfer_leadership(None, timeout=5))
            for number in range(20):
                nursery.start_soon(leader.put, f"k{number}", "v")
        assert (await cluster.leader()) is not leader
        assert await leader.get("k19") == "v"


async def test_a_stopping_leader_hands_over(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        term = leader.driver.raft.server.current_term
        await leader.driver.hand_over(timeout=5)
        assert (await cluster.leader()) is not leader
        assert (await cluster.leader()).driver.raft.server.current_term == term + 1
        await leader.driver.hand_over(timeout=5)  # a follower has nothing to hand over


async def test_too_much_uncommitted_is_busy(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 95: the queue does not grow; what waits is told so at once."""
    async with running(tmp_path, raft=Settings(max_uncommitted_bytes=10_000)) as cluster:
        leader = await cluster.leader()
        cluster.network.isolate(leader.name, cluster.names)
        refused = 0

        async def put() -> None:
            nonlocal refused
            try:
                await leader.put("k", "v" * 1000, timeout=0.4)
            except Busy:
                refused += 1
            except OutcomeUnknown:
                pass

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(put)
        assert refused == 50 - 10
        assert leader.driver.raft.server.uncommitted_bytes < 12_000


async def test_entry_size_limit(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 73: limit - 1, limit, limit + 1 through the whole path, then a restart."""
    async with running(tmp_path, entry_bytes=1000) as cluster:
        for node in [await cluster.leader(), *(await cluster.followers())]:
            overhead = 1000
            for size in range(1000, 900, -1):
                try:
                    await node.put("k", "v" * size)
                except TooLarge as error:
                    assert error.limit == 1000
                    continue
                overhead = 1000 - size
                break
            assert 0 < overhead < 50
            await node.put("k", "v" * (1000 - overhead))
        for name in cluster.names:
            await cluster.crash(name)
        await cluster.start()
        assert len(await cluster["n1"].get("k", timeout=30) or "") == 1000 - overhead


async def test_a_follower_far_behind_is_fed_from_the_disk(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 33"""
    small = Settings(tail_bytes=2000, max_append_bytes=1000)
    async with running(tmp_path, raft=small) as cluster:
        leader = await cluster.leader()
        late = next(name for name in cluster.names if name != leader.name)
        await cluster.crash(late)
        for number in range(100):
            await leader.put(f"k{number}", "v" * 50)
        assert leader.driver.raft.server.log.tail_first_index > 50
        await cluster.start(late)
        last = leader.driver.raft.server.log.last_index
        await until(lambda: cluster[late].driver.applier.applied_index >= last)
        assert await cluster[late].get("k0", stale=True) == "v" * 50


async def test_answers_that_come_behind_the_end_are_not_heard(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A node that ends for a reason of its own ends with that."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        follower = (await cluster.followers())[0]
        cluster.network.isolate(follower.name, cluster.names)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.get, "a")
            await trio.sleep(0.1)
            await cluster.crash(follower.name)
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
        assert follower.error is None
        assert follower.driver.peers.strangers == 0


async def test_a_cluster_in_which_nobody_may_lead_says_so(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path, 1, priorities={"n1": 0}) as cluster:
        await trio.sleep(10)
        status = await cluster["n1"].driver.status(timeout=1)
        assert status.reason == "no leader: all voters that answer have priority 0 or are drained"
