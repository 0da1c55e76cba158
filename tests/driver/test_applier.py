"""The applier, where its tasks meet."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from raftd.driver.applier import Applier
from raftd.driver.errors import Busy
from tests.driver.cluster import running, until


class Restored:
    """A state machine that has what a snapshot brought."""

    last_applied = 0
    context = b""

    def restore(self, path: Path) -> None:
        self.last_applied = 5


async def test_nothing_is_applied_that_a_snapshot_has_overtaken() -> None:
    """The task that applies waits for its turn while a snapshot takes the place of the state."""

    async def here(function: Any, *args: Any) -> Any:
        await trio.testing.wait_all_tasks_blocked()
        return function(*args)

    raft: Any = SimpleNamespace(server=SimpleNamespace(log=SimpleNamespace(slice=lambda *_: ())))
    disk: Any = None
    machine: Any = Restored()
    applier = Applier(raft, disk, machine, here, lambda: None, lambda: True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(applier.restore, Path("snapshot"), 5)
        await trio.lowlevel.checkpoint()
        applier.advance(5)
        nursery.start_soon(applier.run)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert applier.applied_index == 5
        nursery.cancel_scope.cancel()


async def test_a_read_that_waits_for_the_state_says_so(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """After a start there may be much to apply; the leader is not to blame."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        follower = (await cluster.followers())[0]
        await until(lambda: follower.driver.applier.applied_index == 2)
        async with follower.driver.applier._busy:
            await leader.put("a", "2")
            with pytest.raises(Busy, match="has applied entry 2, and needs 3 for an answer"):
                await follower.get("a", timeout=2)
        assert await follower.get("a") == "2"
