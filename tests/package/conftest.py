"""Machines with the package: `host` has it installed, `cluster` runs node1, node2 and node3 there.

`make test-system` builds the package and runs these tests. Where machines cannot be booted they are
skipped, with the reason.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package import debian
from tests.package.machine import Machine

_HERE = Path(__file__).parent
NEXT_VERSION = "99.0.0"
MEMBERS = """
[members]
node1 = "tcp://127.0.0.1:7001"
node2 = "tcp://127.0.0.1:7002"
node3 = "tcp://127.0.0.1:7003"
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = debian.why_not()
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.system)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with raftd.deb, and next.deb, which is a later version of it."""
    directory = tmp_path_factory.mktemp("shared")
    directory.chmod(0o755)
    shutil.copy(os.environ[debian.PACKAGE], directory / "raftd.deb")
    work = tmp_path_factory.mktemp("next")
    later = debian.next_version(directory / "raftd.deb", NEXT_VERSION, work)
    shutil.move(later, directory / "next.deb")
    return directory


@pytest.fixture(scope="session")
def systems() -> dict[str, Path]:
    return debian.systems()


@pytest.fixture(scope="session", params=debian.SUITES)
def system(request: pytest.FixtureRequest, systems: dict[str, Path]) -> Path:
    """A minimal Debian."""
    return systems[request.param]


@pytest.fixture(scope="session")
def installed(
    system: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The same with the package in it."""
    with debian.installed(system, shared / "raftd.deb") as tree:
        yield tree


@pytest.fixture
def machine(system: Path, shared: Path, tmp_path: Path) -> Iterator[Machine]:
    with Machine(system, shared, tmp_path / "console.log") as machine:
        yield machine


@pytest.fixture
def host(installed: Path, shared: Path, tmp_path: Path) -> Iterator[Machine]:
    with Machine(installed, shared, tmp_path / "console.log") as machine:
        yield machine


@pytest.fixture
def cluster(host: Machine) -> Machine:
    for node in ("node1", "node2", "node3"):
        host.write(f"/etc/raftd/{node}.toml", MEMBERS)
    host.run("systemctl", "start", "raftd@node1", "raftd@node2", "raftd@node3")
    host.until("raftctl --node node1 status")
    return host
