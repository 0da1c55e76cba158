"""The locks, the bootstrap that needs nothing but Python, the Makefile, and the demo."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import pytest

import raftd
from raftd.exit_status import ExitStatus

ROOT = Path(__file__).parents[1]
PACKAGING = ROOT / "packaging"
PIN = re.compile(
    r"^([a-z0-9-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)
RUN, BUILD, DEVELOP = "requirements.txt", "requirements-build.txt", "requirements-dev.txt"
BENCH = "requirements-bench.txt"


def pins(lock: str) -> dict[str, str]:
    """Package -> version. All of the file's requirements must be pinned with hashes."""
    text = (PACKAGING / lock).read_text()
    bare = re.sub(r"^ *#.*\n", "", PIN.sub("", text), flags=re.MULTILINE).strip()
    assert bare == "", "neither unpinned requirements nor options"
    return {name: version for name, version, _ in PIN.findall(text)}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[ ;]", requirement)[0] for requirement in requirements}


def test_the_locks_have_what_the_project_asks_for_and_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert names(project["dependencies"]) <= pins(RUN).keys()
    assert names(project["optional-dependencies"]["dev"]) <= pins(DEVELOP).keys()
    assert pins(RUN).items() <= pins(DEVELOP).items(), "developers run what users run"
    assert pins(BUILD).items() <= pins(DEVELOP).items()
    assert pins(BUILD).keys() == {"pip", "setuptools"}


def test_what_only_the_bench_needs_changes_nothing_else() -> None:
    wanted = re.findall(
        r"^[a-z].*", (PACKAGING / "requirements-bench.in").read_text(), re.MULTILINE
    )
    bench, developers = pins(BENCH), pins(DEVELOP)
    assert names(wanted) <= bench.keys()
    assert names(wanted).isdisjoint(developers), "nobody else installs them"
    shared = bench.keys() & developers.keys()
    assert {name: bench[name] for name in shared} == {name: developers[name] for name in shared}


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", PACKAGING / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WHEEL = b"the wheel of pip"
WHEEL_URL = "https://files.example.org/p/pip-1.0-py3-none-any.whl"
PAGE = (
    '<a href="https://files.example.org/p/pip-1.0.tar.gz">x</a> <a href="{}#sha256=0&amp;x">y</a>'
)


@pytest.fixture
def index(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, bytes | OSError]:
    """A package index: URL -> content, or what goes wrong."""
    lock = tmp_path / "requirements-build.txt"
    lock.write_text(
        f"# a comment\npip==1.0 \\\n    --hash=sha256:{'0' * 64} \\\n"
        f"    --hash=sha256:{hashlib.sha256(WHEEL).hexdigest()}\n    # via x\n"
    )
    monkeypatch.setattr(bootstrap, "BUILD_LOCK", lock)
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_CERT", raising=False)
    contents: dict[str, bytes | OSError] = {
        "https://pypi.org/simple/pip/": PAGE.format(WHEEL_URL).encode(),
        WHEEL_URL: WHEEL,
    }

    class Answer(SimpleNamespace):
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

    def urlopen(url: str, *, timeout: float, context: ssl.SSLContext) -> Answer:
        assert timeout > 0
        content = contents.get(url, urllib.error.URLError("not found"))
        if isinstance(content, OSError):
            trusting = context.verify_mode is ssl.CERT_NONE
            if trusting and isinstance(content.args[0], ssl.SSLCertVerificationError):
                return Answer(read=lambda: WHEEL)
            raise content
        return Answer(read=lambda: content)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return contents


Index = dict[str, bytes | OSError]


def test_pip_is_fetched_from_the_index(bootstrap: Any, index: Index, tmp_path: Path) -> None:
    assert bootstrap.fetch_pip(tmp_path).read_bytes() == WHEEL
    assert [file.name for file in tmp_path.glob("*.whl")] == ["pip-1.0-py3-none-any.whl"]


def test_another_index_may_be_named(
    bootstrap: Any, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example.org/simple/")
    index.clear()
    index["https://mirror.example.org/simple/pip/"] = PAGE.format(
        "../../f/pip-1.0-py3-none-any.whl"
    ).encode()
    index["https://mirror.example.org/f/pip-1.0-py3-none-any.whl"] = WHEEL
    assert bootstrap.fetch_pip(tmp_path).read_bytes() == WHEEL


def test_a_file_with_another_hash_stops_everything(
    bootstrap: Any, index: Index, tmp_path: Path
) -> None:
    index[WHEEL_URL] = WHEEL + b"!"
    with pytest.raises(SystemExit, match="is not the file that requirements-build"):
        bootstrap.fetch_pip(tmp_path)
    assert not list(tmp_path.glob("*.whl"))


def test_what_cannot_be_fetched_is_said(bootstrap: Any, index: Index, tmp_path: Path) -> None:
    index[WHEEL_URL] = urllib.error.URLError("no route to host")
    with pytest.raises(bootstrap.CannotFetch, match="no route to host"):
        bootstrap.fetch_pip(tmp_path)
    index["https://pypi.org/simple/pip/"] = b"nothing"
    with pytest.raises(bootstrap.CannotFetch, match=r"does not list pip-1\.0-py3"):
        bootstrap.fetch_pip(tmp_path)
    index["https://pypi.org/simple/pip/"] = PAGE.format("file:///pip-1.0-py3-none-any.whl").encode()
    with pytest.raises(bootstrap.CannotFetch, match="is not http"):
        bootstrap.fetch_pip(tmp_path)


def test_without_certificates_the_hash_alone_decides(
    bootstrap: Any, index: Index, tmp_path: Path
) -> None:
    index[WHEEL_URL] = urllib.error.URLError(ssl.SSLCertVerificationError("no issuer"))
    assert bootstrap.fetch_pip(tmp_path).read_bytes() == WHEEL


def test_the_bootstrap_knows_the_locked_pip(bootstrap: Any) -> None:
    version, hashes = bootstrap.locked("pip")
    assert version == pins(BUILD)["pip"]
    assert len(hashes) == 2


@pytest.mark.parametrize(
    "target",
    [
        *("help", "demo", "test", "check", "fix", "bench", "bench-growth", "deb", "test-system"),
        *("lock", "clean"),
    ],
)
def test_make_has_the_target(target: str) -> None:
    make = shutil.which("make") or pytest.skip("there is no make")
    done = subprocess.run([make, "-n", target], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_debian_package_has_the_version_of_the_programs() -> None:
    first = (ROOT / "debian" / "changelog").read_text().partition("\n")[0]
    assert first.startswith(f"raftd ({raftd.__version__}) ")


def test_a_node_that_cannot_be_mended_by_a_restart_is_not_restarted() -> None:
    unit = (ROOT / "debian" / "raftd@.service").read_text()
    statuses = re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)
    hopeless = (ExitStatus.CONFIGURATION, ExitStatus.DAMAGED, ExitStatus.STORAGE_FAILED)
    assert statuses == [" ".join(str(int(status)) for status in hopeless)]


def test_a_running_daemon_imports_nothing_more() -> None:
    """An upgrade replaces the modules of daemons that go on running: what they import later would
    be of another version than what they have. Only the command line may, before it runs one."""
    late = re.compile(r"^[ \t]+(?:import|from) (?:raftd|trio|pynng|msgspec)\b.*$", re.MULTILINE)
    for file in (ROOT / "raftd").rglob("*.py"):
        if "cli" not in file.relative_to(ROOT).parts:
            assert late.findall(file.read_text()) == [], file


def test_the_script_for_ci_is_one() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def installed(name: str) -> Path:
    script = Path(sys.executable).with_name(name)
    return script if script.exists() else pytest.skip("raftd is not installed beside this Python")


@pytest.mark.parametrize("name", ["raftd", "raftctl"])
def test_the_commands_are_there(name: str) -> None:
    done = subprocess.run(
        [installed(name), "--version"], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(rf"{name} \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.system
def test_the_demo_passes() -> None:
    installed("raftd")
    done = subprocess.run(
        [sys.executable, PACKAGING / "demo.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All as it should be" in done.stdout
