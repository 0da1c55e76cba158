"""raftd.promise: nothing that a promise has outlives those who wait for it."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest

from raftd.promise import Promise


class Large:
    """What somebody holds."""


class Failure(Exception):
    pass


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def ask_for_the_result() -> None:
    Promise.failed(Failure()).result()


async def wait() -> None:
    await Promise.failed(Failure())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("fail", [ask_for_the_result, wait])
async def test_a_failure_makes_no_cycle(fail: Callable[[], Awaitable[None]]) -> None:
    references: list[weakref.ref[Large]] = []

    async def call() -> None:
        large = Large()
        references.append(weakref.ref(large))
        with contextlib.suppress(Failure):
            await fail()

    await call()
    assert [reference() for reference in references] == [None]


@pytest.mark.usefixtures("no_collector")
def test_who_was_called_back_is_let_go() -> None:
    held = Large()
    reference = weakref.ref(held)
    promise: Promise[int] = Promise()

    def called(_: Promise[int], held: Large = held) -> None:
        seen.append(held is not None)

    seen: list[bool] = []
    promise.when_done(called)
    promise.set(1)
    del held, called
    assert seen == [True]
    assert reference() is None
    assert promise.result() == 1
