"""Linearizable reads of a follower: none sees less than what was acknowledged before it began."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from raftd import codec
from raftd.client_messages import ReadIndexRequest, ReadIndexResponse
from raftd.driver import reads
from raftd.driver.errors import NoQuorum
from raftd.driver.peers import AnyMessage
from raftd.raft.messages import AppendEntriesRequest
from tests.driver.cluster import Cluster, Node, Weather, running, until


def hold(
    cluster: Cluster, node: Node, is_held: Callable[[AnyMessage], bool], *, answers: bool = False
) -> trio.Event:
    """Messages to `node`, or its answers, wait until what is returned is set."""
    handler = cluster.network.handlers[node.name]
    healed = trio.Event()

    async def answer(data: bytes, certified: str | None) -> bytes | None:
        if not answers and is_held(codec.decode(data).message):
            await healed.wait()
        reply = await handler(data, certified)
        if answers and reply is not None and is_held(codec.decode(reply).message):
            await healed.wait()
        return reply

    cluster.network.handlers[node.name] = answer  # type: ignore[assignment]
    return healed


def is_entries(message: AnyMessage) -> bool:
    return isinstance(message, AppendEntriesRequest)


def is_read_index(message: AnyMessage) -> bool:
    return isinstance(message, ReadIndexResponse)


async def test_a_read_that_comes_during_a_round_waits_for_the_next(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """That round's index may be older than the read."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        follower = (await cluster.followers())[0]
        await until(lambda: follower.driver.applier.applied_index >= 2)
        found: list[str | None] = []

        async def get() -> None:
            found.append(await follower.get("a"))

        hears_of_index = hold(cluster, leader, is_read_index, answers=True)
        hears_of_entries = hold(cluster, follower, is_entries)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get)
            await trio.sleep(0.01)
            await leader.put("a", "2")
            nursery.start_soon(get)
            await trio.sleep(0.01)
            hears_of_index.set()
            await trio.sleep(0.01)
            assert found == ["1"]
            hears_of_entries.set()
        assert found == ["1", "2"]


async def test_a_leader_that_nobody_follows_any_more_gives_no_read_index(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """It does not know yet: another one may have been elected, and have taken writes."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        followers = await cluster.followers()
        for follower in followers:
            hold(cluster, follower, is_entries)
        await trio.sleep(0.01)
        request = ReadIndexRequest(50)
        answer = await followers[0].driver.peers.call(leader.name, request, 1)
        assert isinstance(answer, ReadIndexResponse)
        assert answer.index is None
        with pytest.raises(NoQuorum):
            await followers[0].get("a", timeout=0.02)


async def test_only_so_much_is_read_in_the_event_loop(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, 1) as cluster:
        node = await cluster.leader()
        await node.put("large", "v" * 500_000)
        in_place = 0
        read_now = node.store.read_now

        def counted(query: bytes) -> bytes:
            nonlocal in_place
            in_place += 1
            return read_now(query)

        monkeypatch.setattr(node.store, "read_now", counted)
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(node.get, "large")
        assert in_place == reads.MAX_IN_PLACE_BYTES // 500_000 + 1


class Threads(Weather):
    """How many answer reads at a time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def work(self, name: str) -> None:
        if name == "_answers_of":
            self.now += 1
            self.most = max(self.most, self.now)
            await trio.sleep(0.01)
            self.now -= 1


async def test_reads_that_come_together_take_one_thread(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Several would only wait for each other. What comes while it is at work has another."""
    threads = Threads()
    async with running(tmp_path, 1, weather=threads) as cluster:
        node = await cluster.leader()
        await node.put("a", "1")
        async with trio.open_nursery() as nursery:
            for _ in range(4 * reads.MAX_IN_PLACE):
                nursery.start_soon(node.get, "a")
            await trio.sleep(0.005)
            assert threads.most == 1
            for _ in range(4 * reads.MAX_IN_PLACE):
                nursery.start_soon(node.get, "a")
        assert threads.most == 2
