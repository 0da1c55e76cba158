"""The applier, where its tasks meet."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from raftd.driver.applier import Applier


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
