"""Calls from other threads into the event loop, and what comes together."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import trio

from raftd.doorbell import Worker, doorbell


async def test_calls_of_other_threads_are_made_in_their_order() -> None:
    made: list[int] = []
    done = trio.Event()
    bell = doorbell()

    def ring() -> None:
        for number in range(1000):
            bell.ring(lambda number=number: made.append(number))  # type: ignore[misc]
        bell.ring(done.set)

    thread = threading.Thread(target=ring)
    thread.start()
    with trio.fail_after(20):
        await done.wait()
    thread.join()
    assert made == list(range(1000))


async def test_what_is_to_be_done_soon_is_done_behind_all_that_came_together() -> None:
    made: list[str] = []
    bell = doorbell()
    done = trio.Event()

    def first() -> None:
        made.append("first")
        bell.soon(last)

    def last() -> None:
        made.append("last")
        bell.soon(done.set)

    bell.ring(first)
    bell.ring(lambda: made.append("second"))
    with trio.fail_after(20):
        await done.wait()
    assert made == ["first", "second", "last"]


async def test_who_calls_without_end_leaves_turns_to_others() -> None:
    bell = doorbell()
    calls = 0

    def again() -> None:
        nonlocal calls
        calls += 1
        if calls < 100_000:
            bell.ring(again)

    again()
    with trio.fail_after(20):
        await trio.lowlevel.checkpoint()
        await trio.sleep(0.001)
    assert calls < 100_000
    calls = 100_000
    await trio.testing.wait_all_tasks_blocked()


async def test_soon_without_a_turn_is_a_turn_of_its_own() -> None:
    done = trio.Event()
    doorbell().soon(done.set)
    assert not done.is_set()
    with trio.fail_after(20):
        await done.wait()


async def test_a_turn_of_a_task_ends_with_what_was_to_be_done_soon() -> None:
    made: list[int] = []
    bell = doorbell()
    bell.begin_turn()
    bell.soon(lambda: made.append(1))
    assert not made
    bell.end_turn()
    assert made == [1]


async def test_one_loop_has_one_doorbell() -> None:
    assert doorbell() is doorbell()


def test_who_rings_when_the_loop_is_over_is_not_heard() -> None:
    async def main() -> Callable[[Callable[[], object]], None]:
        bell = doorbell()
        await trio.testing.wait_all_tasks_blocked()
        return bell.ring

    ring = trio.run(main)
    ring(pytest.fail)


async def test_a_worker_does_one_thing_after_the_other_to_its_end() -> None:
    worker = Worker("test")
    made: list[int] = []
    go_on = threading.Event()

    def slow() -> str:
        assert go_on.wait(20)
        made.append(1)
        return "slow"

    with trio.fail_after(20):
        slowly = worker.do(slow)
        quickly = worker.do(made.append, 2)
        failing = worker.do(int, "x")
        with trio.move_on_after(0.01):
            await slowly
        assert slowly.abandoned
        assert not made
        go_on.set()
        await quickly
        assert slowly.result() == "slow"
        assert made == [1, 2]
        with pytest.raises(ValueError, match="invalid literal"):
            await failing
    worker.do(made.append, 3)
    worker.close()
    assert made == [1, 2, 3]
