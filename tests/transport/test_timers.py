"""One task that sleeps for all that is under way, under virtual time."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from raftd.transport.timers import Timers


class Looked:
    """Looks are noted with their time; `again` puts each off."""

    def __init__(self, timers: Timers, due: float, again: float | None = None) -> None:
        self._timers = timers
        self.due = due
        self._again = again
        self.looks: list[float] = []

    def look(self, now: float) -> None:
        self.looks.append(now)
        if self._again is None:
            self._timers.forget(self)
        else:
            self.due = now + self._again


async def test_each_is_looked_at_when_it_is_due(autojump_clock: MockClock) -> None:
    timers = Timers()
    begin = trio.current_time()
    late = Looked(timers, begin + 5)
    early = Looked(timers, begin + 1)
    often = Looked(timers, begin + 2, again=2)
    gone = Looked(timers, begin + 3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        for each in (late, early, often, gone):
            timers.watch(each)
            await trio.testing.wait_all_tasks_blocked()
        timers.forget(gone)
        timers.forget(gone)
        await trio.sleep(7)
        nursery.cancel_scope.cancel()
    assert early.looks == [begin + 1]
    assert often.looks == [begin + 2, begin + 4, begin + 6]
    assert late.looks == [begin + 5]
    assert gone.looks == []
