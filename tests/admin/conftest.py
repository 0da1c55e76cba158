"""Fixtures for the tests of the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.admin.clients import close_all, served
from tests.admin.fake_driver import FakeDriver
from tests.admin.handler_calls import Socket


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def live_path(tmp_path: Path, driver: FakeDriver) -> Iterator[Path]:
    """The socket of a server that runs in a thread."""
    path = tmp_path / "raftd.sock"
    with served(path, driver):
        yield path


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    """Where a test serves; its clients are gone at the end."""
    yield tmp_path / "raftd.sock"
    close_all()


@pytest.fixture
def socket(driver: FakeDriver) -> Socket:
    return Socket(driver)
