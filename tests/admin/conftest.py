"""Fixtures for the tests of the socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.admin.clients import served
from tests.admin.fake_driver import FakeDriver


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def live_path(tmp_path: Path, driver: FakeDriver) -> Iterator[Path]:
    """The socket of a server that runs in a thread."""
    path = tmp_path / "raftd.sock"
    with served(path, driver):
        yield path
