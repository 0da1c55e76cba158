"""The order law in whole drivers: what leaves, and what is applied, is on this node's disk.

Paper 5.1 and Figure 2: persistent state is "updated on stable storage before responding to RPCs".
"""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from raftd.driver.exchange import PATIENCE
from raftd.raft.messages import AppendEntriesRequest, AppendEntriesResponse
from tests.driver.cluster import Cluster, Node, running, until

ANY_ID = 1 << 40


async def stalled(cluster: Cluster, node: Node) -> int:
    """From now on the node cannot save the entry at that index, nor any behind it."""
    leader = await cluster.leader()
    await leader.put("a", "1")
    last = leader.driver.raft.server.log.last_index
    await until(lambda: node.driver.applier.applied_index >= last)
    node.stalled = trio.Event()
    return node.disk.last_index + 1


def last_entry_again(node: Node, request_id: int) -> AppendEntriesRequest:
    """As a leader sends it that has had no answer."""
    server = node.driver.raft.server
    last = server.log.last_index
    entry, before = server.log.entry(last), server.log.term(last - 1)
    assert entry is not None
    assert before is not None
    return AppendEntriesRequest(
        server.current_term, last - 1, before, server.commit_index, request_id, (entry,)
    )


async def test_an_answer_waits_for_a_save_that_is_under_way(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Nothing new is to be saved for it, but what it speaks of is not durable. pitfalls 2, 38"""
    async with running(tmp_path) as cluster:
        leader, follower = await cluster.leader(), (await cluster.followers())[0]
        index = await stalled(cluster, follower)
        await leader.put("b", "2")
        await until(lambda: follower.driver.raft.server.log.last_index >= index)
        request = last_entry_again(follower, ANY_ID)
        answer = follower.driver._exchange._answer_request(leader.name, request)
        await trio.sleep(0.5)
        assert follower.disk.last_index < index
        assert not answer.is_done
        assert follower.stalled is not None
        follower.stalled.set()
        response = await answer
        assert isinstance(response, AppendEntriesResponse)
        assert response.success
        assert index <= response.match_index <= follower.disk.last_index


async def test_a_leader_applies_only_what_it_has_saved(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Committed without it: its state would be ahead of its log. pitfall 37"""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        index = await stalled(cluster, leader)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.put, "b", "2")
            await until(lambda: leader.driver.raft.server.commit_index >= index)
            assert leader.disk.last_index < index
            assert leader.store.last_applied == leader.driver.applier.applied_index == index - 1
            assert leader.stalled is not None
            leader.stalled.set()
        assert await leader.get("b") == "2"


async def test_a_request_that_the_algorithm_does_not_answer_is_given_up(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Else they would pile up for as long as a disk is stalled."""
    async with running(tmp_path) as cluster:
        leader, follower = await cluster.leader(), (await cluster.followers())[0]
        index = await stalled(cluster, follower)
        await leader.put("b", "2")
        await until(lambda: follower.driver.raft.server.log.last_index >= index)
        exchange = follower.driver._exchange
        request = last_entry_again(follower, ANY_ID)
        answer = exchange._answer_request(leader.name, request)
        with trio.fail_after((PATIENCE + 2) * exchange._timeout):
            assert await answer is None
        assert (leader.name, ANY_ID) not in exchange._answers
        assert follower.disk.last_index < index
        assert follower.stalled is not None
        follower.stalled.set()
