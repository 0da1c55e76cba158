"""Commands that a follower has its leader carry, and what may happen to the answers."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from raftd import codec
from raftd.client_messages import MAX_FORWARDED, ForwardRequest, ForwardResponse
from raftd.driver.errors import OutcomeUnknown
from raftd.kv import commands
from raftd.kv.commands import Changed, CompareAndSet, CompareFailed, Put
from raftd.raft.log import EntryType
from raftd.raft.messages import AppendEntriesRequest
from raftd.state_machine import Command, encode_command
from raftd.transport.transport import Unreachable
from tests.driver.cluster import Cluster, Node, running, until

LARGE = "v" * 600_000


async def compare(node: Node, key: str, timeout: float = 5) -> commands.Result:
    """One that fails, and so returns the key's value."""
    body = commands.encode(CompareAndSet(key.encode(), 10**6, None, b"new"))
    applied = await node.driver.propose(body, uid=0, timeout=timeout)
    result: commands.Result = commands.decode_result(applied.result)
    return result


async def outcomes_of(node: Node, count: int) -> list[str]:
    """Of so many comparisons at a time: what came of each, or why nobody knows."""
    outcomes: list[str] = []

    async def run() -> None:
        try:
            outcomes.append(type(await compare(node, "large")).__name__)
        except OutcomeUnknown as error:
            outcomes.append(str(error))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(run)
    return outcomes


def count_commands(node: Node) -> int:
    log = node.driver.raft.server.log
    entries = [log.entry(index) for index in range(1, log.last_index + 1)]
    return sum(entry is not None and entry.type is EntryType.COMMAND for entry in entries)


def on_answers(cluster: Cluster, leader: Node, happens: Callable[[], Awaitable[None]]) -> None:
    """To the leader's answers to commands, before they leave."""
    handler = cluster.network.handlers[leader.name]

    async def answer(data: bytes, certified: str | None) -> bytes | None:
        reply = await handler(data, certified)
        if reply is not None and isinstance(codec.decode(reply).message, ForwardResponse):
            await happens()
        return reply

    cluster.network.handlers[leader.name] = answer  # type: ignore[assignment]


def hold_entries(cluster: Cluster, node: Node) -> Callable[[], None]:
    """It does not hear from its leader, until what is returned is called."""
    handler = cluster.network.handlers[node.name]
    healed = trio.Event()

    async def answer(data: bytes, certified: str | None) -> bytes | None:
        if isinstance(codec.decode(data).message, AppendEntriesRequest):
            await healed.wait()
        return await handler(data, certified)

    cluster.network.handlers[node.name] = answer  # type: ignore[assignment]
    return healed.set


@pytest.mark.parametrize("answer_takes", [0, 0.5])
async def test_results_too_large_for_one_answer(
    autojump_clock: MockClock, tmp_path: Path, answer_takes: float
) -> None:
    """However late the answer comes: the follower may have applied the commands before."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("large", LARGE)
        follower = (await cluster.followers())[0]

        async def come_late() -> None:
            await trio.sleep(answer_takes)

        on_answers(cluster, leader, come_late)
        results: list[commands.Result] = []

        async def run(call: Callable[..., Awaitable[commands.Result]], *args: object) -> None:
            results.append(await call(*args))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(run, compare, follower, "large")
            nursery.start_soon(run, follower.put, "other", "1", 2)
        failed = [result for result in results if isinstance(result, CompareFailed)]
        assert [result.value for result in failed] == [LARGE.encode()] * 5
        assert sum(isinstance(result, Changed) for result in results) == 1
        assert count_commands(leader) == 1 + 6
        assert not follower.driver.applier.watchers


async def test_of_very_many_large_results_the_later_ones_are_let_go(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were applied, and whoever asked is told that nobody knows any more what came of it."""
    monkeypatch.setattr("raftd.driver.results.KEPT_BYTES", int(2.5 * len(LARGE)))
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("large", LARGE)
        follower = (await cluster.followers())[0]

        async def come_late() -> None:
            await until(lambda: follower.driver.applier.applied_index >= 1 + 1 + 5)

        on_answers(cluster, leader, come_late)
        outcomes = await outcomes_of(follower, 5)
        # One came with the answer, and was kept here too.
        assert [text for text in outcomes if text == "CompareFailed"] == ["CompareFailed"] * 2
        assert sum("too many large ones" in text for text in outcomes) == 3
        assert count_commands(leader) == 1 + 5


async def test_a_leader_keeps_no_more_results_than_it_answers(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("large", LARGE)
        forwarding = leader.driver.forwarding
        body = commands.encode(CompareAndSet(b"large", 10**6, None, b"new"))
        payload = encode_command(Command(0, "n1", body))
        answers: list[ForwardResponse] = []
        gc.collect()

        async def ask() -> None:
            answers.append(await forwarding.handle(ForwardRequest((payload,) * 100, 5000)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            tracemalloc.start()
            await until(lambda: bool(answers))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        statuses = [outcome.status for outcome in answers[0].outcomes]
        assert statuses == ["applied"] + ["applied-elsewhere"] * 99
        assert peak < 100 * len(LARGE) / 2


async def test_nobody_waits_for_a_follower_that_has_not_applied_its_command(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("large", LARGE)
        follower = (await cluster.followers())[0]
        await until(lambda: follower.driver.applier.applied_index >= 2)
        hears_again = hold_entries(cluster, follower)
        results: list[commands.Result] = []

        async def run() -> None:
            results.append(await compare(follower, "large"))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(run)
            await trio.sleep(0.05)
            assert len(results) == 1  # what the answer had room for
            assert isinstance(await follower.put("other", "1", timeout=0.05), Changed)
            hears_again()
        assert [type(result) for result in results] == [CompareFailed] * 3
        assert count_commands(leader) == 1 + 4


async def test_a_snapshot_that_overtakes_a_result(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Then nobody can say any more what it was."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("large", LARGE)
        follower = (await cluster.followers())[0]

        async def overtake() -> None:
            watchers = follower.driver.applier.watchers
            kept = watchers.copy()
            watchers.clear()
            await trio.sleep(0.5)
            watchers.extend(kept)

        on_answers(cluster, leader, overtake)
        known, unknown = sorted(await outcomes_of(follower, 2))
        assert known == "CompareFailed"
        assert "a snapshot brought" in unknown


async def test_a_command_whose_answer_is_lost_is_not_sent_again(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        follower = (await cluster.followers())[0]
        answers = itertools.count()

        async def lose_the_first() -> None:
            if next(answers) == 0:
                raise Unreachable("the connection broke", sent=True)

        on_answers(cluster, leader, lose_the_first)
        with pytest.raises(OutcomeUnknown):
            await follower.put("a", "1")
        await follower.put("b", "1")
        assert count_commands(leader) == 2
        assert await follower.get("a") == "1"


async def test_what_may_still_be_done_is_not_called_undone(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        followers = await cluster.followers()
        hear_again = [hold_entries(cluster, node) for node in followers]
        body = commands.encode(Put(b"a", b"1"))
        payload = encode_command(Command(0, "n1", body))
        request = ForwardRequest((payload,), 50)
        answer = await followers[0].driver.peers.call(leader.name, request, 1)
        assert isinstance(answer, ForwardResponse)
        assert [outcome.status for outcome in answer.outcomes] == ["unknown"]
        for heal in hear_again:
            heal()
        assert await leader.get("a", timeout=30) == "1"


async def test_a_message_with_too_many_commands_is_not_read(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        peers = (await cluster.followers())[0].driver.peers
        request = ForwardRequest((b"",) * (MAX_FORWARDED + 1), 100)
        with pytest.raises(Unreachable):
            await peers.call(leader.name, request, 1)
        assert count_commands(leader) == 0
        assert [text for text in caplog.messages if "512" in text] != []


async def test_many_commands_that_make_no_sense_are_one_line_in_the_log(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        peers = (await cluster.followers())[0].driver.peers
        request = ForwardRequest((b"",) * MAX_FORWARDED, 1000)
        answer = await peers.call(leader.name, request, 1)
        assert isinstance(answer, ForwardResponse)
        assert {outcome.status for outcome in answer.outcomes} == {"applied"}
        assert len(answer.outcomes) == count_commands(leader) == MAX_FORWARDED
        told = [text for text in caplog.messages if "no command this version knows" in text]
        assert 1 <= len(told) <= 2 * len(cluster.names)
