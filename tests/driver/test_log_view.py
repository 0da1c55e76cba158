"""The log as `raftctl log` shows it, and as it is followed."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from raftd.driver.errors import NoSuchEntry, OutcomeUnknown
from raftd.raft.state import Settings
from tests.driver.cluster import running


async def test_entries_decoded(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        node = cluster["n1"]
        await node.put("a", "1")
        first, second = await node.driver.log_entries(None, 10)
        assert (first.kind, first.uid, first.state) == ("no-op", None, "applied")
        assert (second.kind, second.uid, second.node) == ("command", 0, "n1")
        assert second.what == 'put "a" = 1 byte'
        entry, payload = await node.driver.log_entry(2)
        assert entry == second
        assert b"a" in payload
        with pytest.raises(NoSuchEntry):
            await node.driver.log_entry(3)
        assert await node.driver.log_entries(7, 10) == []
        assert await node.driver.log_entries(1, 1) == [first]


async def test_old_entries_are_read_from_disk(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path, 1, raft=Settings(tail_bytes=1000)) as cluster:
        node = cluster["n1"]
        for number in range(100):
            await node.put(f"k{number}", "v")
        assert node.driver.raft.server.log.tail_first_index > 2
        entries = await node.driver.log_entries(1, 1000)
        assert [entry.index for entry in entries] == list(range(1, 102))
        info = node.driver.log_info()
        assert (info.first_index, info.last_index, info.applied_index) == (1, 101, 101)


async def test_following_shows_each_state_and_what_is_truncated(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path) as cluster:
        old = await cluster.leader()
        follower = old.driver.log_follower(None, 10)
        seen = [(entry.index, entry.state) for entry in await follower.next()]
        assert seen == [(1, "applied")]
        cluster.network.isolate(old.name, cluster.names)
        changes: list[tuple[int, int, str]] = []

        async def watch() -> None:
            while len(changes) < 3:
                entries = await follower.next()
                changes.extend((entry.index, entry.term, entry.state) for entry in entries)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            with pytest.raises(OutcomeUnknown):
                await old.put("a", "lost", timeout=1)
            new = await cluster.leader(among=[n for n in cluster.names if n != old.name])
            await new.put("a", "kept")
            cluster.network.heal()
        assert changes[0] == (2, 1, "uncommitted")
        assert changes[1] == (2, 1, "truncated")
        assert changes[2][:2] == (2, 2)
