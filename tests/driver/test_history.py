"""Snapshots on demand, and the state as it was."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from raftd.driver.errors import NoSuchState, Refused
from raftd.raft.progress import Mode
from raftd.raft.state import Settings
from tests.driver.cluster import Node, running, until
from tests.driver.test_snapshots import grow

SMALL = Settings(tail_bytes=4000, max_append_bytes=2000, snapshot_chunk_bytes=4096)


async def bytes_of(node: Node, at: int | None) -> tuple[int, bytes]:
    async with node.driver.state(at) as state:
        data = b""
        while piece := await state.read(len(data), 1000):
            data += piece
        assert len(data) == state.info.size
        return state.info.last_included_index, data


def items(tmp_path: Path, data: bytes) -> dict[str, str]:
    file = tmp_path / "found.db"
    file.write_bytes(data)
    connection = sqlite3.connect(file)
    rows = connection.execute("SELECT key, value FROM items").fetchall()
    connection.close()
    return {key.decode(): value.decode() for key, value in rows}


async def test_taken_when_asked(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        leader = await cluster.leader()
        assert leader.driver.snapshot_list() == []
        await leader.put("a", "1")
        info = await leader.driver.take_snapshot()
        assert info.last_included_index == leader.driver.applier.applied_index
        assert leader.driver.snapshot_list()[0].sha256 == info.sha256
        again = await leader.driver.take_snapshot()
        assert again.last_included_index == info.last_included_index
        index, data = await bytes_of(leader, None)
        assert (index, items(tmp_path, data)) == (info.last_included_index, {"a": "1"})


async def test_a_newer_snapshot_does_not_disturb_a_reader(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 62"""
    async with running(tmp_path, 1) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        await leader.driver.take_snapshot()
        async with leader.driver.state(None) as state:
            data = await state.read(0, 5000)
            await leader.put("a", "2")
            await leader.driver.take_snapshot()
            data += await state.read(5000, 1 << 20)
        assert items(tmp_path, data) == {"a": "1"}


async def test_every_state_from_the_first_entry_on(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path, 1) as cluster:
        leader = await cluster.leader()
        for number in range(5):
            await leader.put("counter", str(number))
            await leader.put(f"key{number}", "x")
        await leader.driver.take_snapshot()
        await leader.put("counter", "last")
        for number in range(5):
            found = items(tmp_path, (await bytes_of(leader, 2 + 2 * number))[1])
            assert found == {"counter": str(number), **{f"key{n}": "x" for n in range(number)}}
        last = leader.driver.applier.applied_index
        assert items(tmp_path, (await bytes_of(leader, last))[1])["counter"] == "last"
        assert await leader.get("counter") == "last", "the running store is another one"
        assert not leader.disk.scratch_path().exists()
        with pytest.raises(NoSuchState) as raised:
            await bytes_of(leader, last + 1)
        assert (raised.value.first_index, raised.value.last_index) == (1, last)


async def test_no_state_before_the_snapshot_once_the_log_is_shorter(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(
        tmp_path, 1, raft=SMALL, segment_bytes=8192, snapshot_log_bytes=32_768
    ) as cluster:
        leader = await cluster.leader()
        await grow(leader, 300)
        await trio.sleep(1)
        end = leader.disk.snapshot.last_included_index
        await leader.put("behind", "the snapshot")
        assert leader.driver.raft.server.log.first_index > 1
        with pytest.raises(NoSuchState) as raised:
            await bytes_of(leader, end - 1)
        assert raised.value.first_index == end
        assert len(items(tmp_path, (await bytes_of(leader, end))[1])) == end - 1
        assert len(items(tmp_path, (await bytes_of(leader, end + 1))[1])) == end


async def test_a_tail_stays_for_followers_that_are_a_little_behind(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 57"""
    first = []
    for tail_bytes in (0, 40_000, 1 << 30):
        async with running(
            tmp_path / str(tail_bytes),
            1,
            raft=SMALL,
            segment_bytes=8192,
            log_tail_bytes=tail_bytes,
        ) as cluster:
            leader = await cluster.leader()
            await grow(leader, 200)
            await leader.driver.take_snapshot()
            first.append(leader.disk.first_index)
            assert leader.disk.used_bytes >= min(tail_bytes, 100_000)
            assert leader.driver.raft.server.log.first_index == leader.disk.first_index
    assert first[0] > first[1] > first[2] == 1


async def test_nothing_applied_nothing_taken(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path, started=("n1",)) as cluster:
        await trio.sleep(10)
        assert cluster["n1"].driver.applier.applied_index == 0
        with pytest.raises(Refused, match="nothing to take"):
            await cluster["n1"].driver.take_snapshot()


async def test_a_dead_follower_does_not_let_the_log_grow(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 59: it needs a snapshot, does not answer, and newer ones are taken all the same."""
    async with running(
        tmp_path, raft=SMALL, segment_bytes=8192, snapshot_log_bytes=32_768
    ) as cluster:
        leader = await cluster.leader()
        dead = next(name for name in cluster.names if name != leader.name)
        await cluster.crash(dead)
        await grow(leader, 300)
        progress = leader.driver.raft.server.progress[dead]
        await until(lambda: progress.mode is Mode.SNAPSHOT)
        before = leader.disk.snapshot.last_included_index
        await grow(leader, 300)
        await trio.sleep(5)
        assert leader.disk.snapshot.last_included_index > before
        assert leader.disk.used_bytes < 3 * 32_768
        await cluster.start(dead)
        last = leader.driver.raft.server.log.last_index
        await until(lambda: cluster[dead].driver.applier.applied_index >= last)


@pytest.mark.parametrize("kind", ["pipe", "file", "link", "directory"])
async def test_whatever_stands_where_states_are_made_is_removed_at_the_start(
    autojump_clock: MockClock, tmp_path: Path, kind: str
) -> None:
    async with running(tmp_path, 1) as cluster:
        node = await cluster.leader()
        await node.put("a", "1")
        await cluster.crash(node.name)
        place, other = node.directory / "scratch", tmp_path / "other"
        other.mkdir()
        (other / "file").touch()
        match kind:
            case "pipe":
                os.mkfifo(place)
            case "file":
                place.touch()
            case "link":
                place.symlink_to(other)
            case _:
                shutil.copytree(other, place)
                os.mkfifo(place / "pipe")
        await cluster.start(node.name)
        assert "scratch" not in {each.name for each in node.directory.iterdir()}
        assert (other / "file").exists()
        await cluster.leader()
        assert items(tmp_path, (await bytes_of(node, 2))[1]) == {"a": "1"}
