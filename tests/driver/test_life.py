"""Tasks while a node runs, and nothing before and after."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from raftd.driver.life import Life


async def test_nothing_begins_before_and_after() -> None:
    life, done = Life(), []

    async def work(number: int) -> None:
        done.append(number)

    async with trio.open_nursery() as nursery:
        assert life.is_over
        life.start(work, 1)
        assert not life.call(work, 2).is_done
        life.begin(nursery)
        life.start(work, 3)
        await life.call(work, 4)
        life.end()
        life.start(work, 5)
        lost = life.call(work, 6)
        life.fail(AssertionError("nobody is there to hear it"))
        await wait_all_tasks_blocked()
        assert not lost.is_done
    assert sorted(done) == [3, 4]


async def test_the_first_who_finds_out_says_why_it_ends() -> None:
    life = Life()
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="first")):
        async with trio.open_nursery() as nursery:
            life.begin(nursery)
            life.fail(OSError("first"))
            assert life.is_over
            life.fail(ValueError("second"))


async def test_what_a_call_may_raise_does_not_end_the_node() -> None:
    life = Life()

    async def refuse() -> None:
        raise LookupError("no")

    async with trio.open_nursery() as nursery:
        life.begin(nursery)
        with pytest.raises(LookupError, match="no"):
            await life.call(refuse, failures=(LookupError,))
        life.end()
