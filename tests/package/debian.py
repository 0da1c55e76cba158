"""Minimal Debian systems to boot, and versions of the package to install there.

A system is made once, by mmdebstrap from Debian's mirror, and kept in the user's cache; it has what
the package depends on, so that the tests need no network.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.package.machine import hierarchies

PACKAGE = "RAFTD_PACKAGE"
"""The variable that names the file to test."""
PACKAGES = "systemd,systemd-sysv,dbus,openssl,python3,python3-cffi-backend"
SUITES = ("bookworm", "trixie")
TOOLS = ("mmdebstrap", "systemd-nspawn", "nsenter", "unshare", "ip", "dpkg-deb")
MEMORY = Path("/dev/shm")
_OPTIONS = ("--variant=minbase", f"--include={PACKAGES}", "--dpkgopt=path-exclude=/usr/share/doc/*")


def why_not() -> str | None:
    """Why machines cannot be booted here; None: they can."""
    if os.geteuid() != 0:
        return "only root boots machines"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"there is no {', '.join(missing)}"
    if not os.environ.get(PACKAGE):
        return f"{PACKAGE} names no package: `make test-system` builds one and does"
    done = subprocess.run(
        ["unshare", "--mount", "mount", "--make-rprivate", "/"], capture_output=True, check=False
    )
    if done.returncode != 0:
        return f"no mounts here: {done.stderr.decode().strip()}"
    for top in hierarchies():
        group = top / f"raftd-{os.getpid()}"
        try:
            group.mkdir()
            group.rmdir()
        except OSError as error:
            return f"no control group can be made in {top}: {error.strerror}"
    return None


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "raftd-tests"


def systems() -> dict[str, Path]:
    """Suite -> the tree of a minimal system. Those that are not there are made, side by side."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(SUITES, pool.map(_system, SUITES), strict=True))


def _system(suite: str) -> Path:
    recipe = hashlib.sha256(" ".join((suite, *_OPTIONS)).encode()).hexdigest()[:12]
    tree = cache() / f"{suite}-{recipe}"
    if tree.is_dir():
        return tree
    new = tree.with_suffix(f".new{os.getpid()}")
    new.parent.mkdir(parents=True, exist_ok=True)
    new.mkdir(mode=0o755)
    try:
        subprocess.run(["mmdebstrap", "--quiet", *_OPTIONS, suite, new], check=True)
        new.rename(tree)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return tree


@contextmanager
def installed(tree: Path, package: Path) -> Iterator[Path]:
    """A copy of a system that has `package` installed."""
    place = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 1 << 30 else tree.parent
    copy = place / f"{tree.name}.raftd{os.getpid()}"
    try:
        subprocess.run(["cp", "-a", "--reflink=auto", tree, copy], check=True)
        shutil.copy(package, copy / "raftd.deb")
        subprocess.run(
            ["chroot", copy, "dpkg", "--install", "/raftd.deb"], check=True, capture_output=True
        )
        (copy / "raftd.deb").unlink()
        yield copy
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def next_version(package: Path, version: str, directory: Path) -> Path:
    """The same package with another version number, which its programs tell too."""
    tree = directory / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    old = subprocess.run(
        ["dpkg-deb", "--field", package, "Version"], check=True, capture_output=True, text=True
    ).stdout.strip()
    control.write_text(
        control.read_text().replace(f"\nVersion: {old}\n", f"\nVersion: {version}\n")
    )
    module = tree / "usr" / "lib" / "raftd" / "raftd" / "__init__.py"
    module.write_text(module.read_text().replace(f'"{old}"', f'"{version}"'))
    built = directory / f"raftd_{version}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, built],
        check=True,
        capture_output=True,
    )
    shutil.rmtree(tree)
    return built
