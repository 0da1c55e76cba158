"""The Python packages that the Debian package carries: fetched by hash, unpacked without network.

Debian 12 lacks some of what raftd imports or has it too old. So the .deb has the packages of the
lock (requirements.txt), in a directory of its own that no other program sees; only cffi is
Debian's.

    python3 packaging/carry.py fetch               what the lock names -> packaging/wheels
    python3 packaging/carry.py unpack DIRECTORY    packaging/wheels -> modules below DIRECTORY

Uses the standard library only. A file counts only if the lock has its SHA-256, whenever it is
read.
"""

from __future__ import annotations

import hashlib
import html
import io
import os
import platform
import re
import sys
import tarfile
import urllib.parse
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from bootstrap import INDEX, LOCK, CannotFetch, fetch

WHEELS = Path(__file__).parent / "wheels"
PYTHONS = ("cp311", "cp313")
"""Debian 12's and Debian 13's; extensions for both lie side by side in the package."""
STABLE_ABI = {"pynng"}
"""Their extension for the oldest Python serves the later ones too."""
FROM_DEBIAN = {"cffi", "pycparser"}
"""python3-cffi-backend is all that is needed of them."""
UNWANTED_DIRECTORIES = {"_tests", "tests", "_tools", "include"}
UNWANTED_SUFFIXES = {".pyi", ".typed", ".c", ".h", ".pyx", ".pxd"}
_PIN = re.compile(r"^([a-z0-9-]+)==(\S+)((?: \\\n +--hash=\S+)+)", re.MULTILINE)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["fetch"]:
            WHEELS.mkdir(exist_ok=True)
            for package, version, hashes in pins():
                fetch_package(package, version, hashes)
        case ["unpack", directory]:
            for package, version, hashes in pins():
                unpack_package(package, version, hashes, Path(directory))
        case _:
            sys.exit(f"usage: {sys.argv[0]} fetch | unpack DIRECTORY")


def pins() -> Iterator[tuple[str, str, set[str]]]:
    """(package, version, SHA-256 of its files) of all that is carried."""
    for package, version, hashes in _PIN.findall(LOCK.read_text()):
        if package not in FROM_DEBIAN:
            yield package, version, set(re.findall(r"sha256:([0-9a-f]{64})", hashes))


def fetch_package(package: str, version: str, hashes: set[str]) -> None:
    """Put its files into WHEELS, unless they are there."""
    if stored(package, version, hashes):
        return
    index = f"{os.environ.get('PIP_INDEX_URL', INDEX).rstrip('/')}/{package}/"
    try:
        links = re.findall(r'href="([^"]+)"', fetch(index).decode(errors="replace"))
        urls = {}
        for link in (urllib.parse.urljoin(index, html.unescape(link)) for link in links):
            url = urllib.parse.urldefrag(link).url
            urls[url.rpartition("/")[2]] = url
        names = wanted(package, version, urls)
        for name in names:
            content = fetch(urls[name])
            if hashlib.sha256(content).hexdigest() not in hashes:
                sys.exit(f"carry: {urls[name]} is not a file that {LOCK.name} names: stopped")
            (WHEELS / name).write_bytes(content)
            print(f"fetched {name}", flush=True)
    except CannotFetch as error:
        sys.exit(f"carry: {package} {version} is not to be had: {error}")
    if not names:
        sys.exit(f"carry: {index} has no {package} {version} for this machine")


def stored(package: str, version: str, hashes: set[str]) -> list[Path]:
    """Its files in WHEELS that the lock knows, those that are wanted here; none: fetch them."""
    there = {path.name: path for path in WHEELS.glob("*")}
    found = [there[name] for name in wanted(package, version, there)]
    for path in found:
        if hashlib.sha256(path.read_bytes()).hexdigest() not in hashes:
            sys.exit(f"carry: {path} is not a file that {LOCK.name} names: remove it")
    return found


def wanted(package: str, version: str, names: Collection[str]) -> list[str]:
    """Of the files of a package, by name: the wheel for all machines, or else the wheels for this
    one, or else the source. All that must be there, or nothing."""
    stem = f"{package.replace('-', '_')}-{version}"
    own = sorted(name for name in names if name.startswith(f"{stem}-"))
    pure = [name for name in own if re.search(r"-py3[^-]*-none-any\.whl$|-py2\.py3-none", name)]
    if pure:
        return pure[:1]
    pythons = PYTHONS[:1] if package in STABLE_ABI else PYTHONS
    tag = r"-{0}-{0}-manylinux.*_" + platform.machine() + r"\.whl$"
    built = [name for python in pythons for name in own if re.search(tag.format(python), name)]
    if len(built) == len(pythons):
        return built
    return [name for name in names if name == f"{stem}.tar.gz"]


def unpack_package(package: str, version: str, hashes: set[str], directory: Path) -> None:
    files = stored(package, version, hashes)
    if not files:
        sys.exit(f"carry: {WHEELS} lacks {package} {version}: run `{sys.argv[0]} fetch`")
    for file in files:
        for name, content in modules(file):
            target = directory / name
            if target.exists() and target.read_bytes() != content:
                sys.exit(f"carry: two packages have {name}, and differ")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def modules(file: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """What a wheel or a source archive of pure modules has for the interpreter to import."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            for member in wheel.namelist():
                path = PurePosixPath(member)
                if not member.endswith("/") and is_wanted(path):
                    yield path, wheel.read(member)
        return
    package = file.name.partition("-")[0]
    with tarfile.open(fileobj=io.BytesIO(file.read_bytes())) as archive:
        for each in archive.getmembers():
            path = PurePosixPath(*PurePosixPath(each.name).parts[1:])
            if each.isfile() and path.parts[0] == package and is_wanted(path):
                content = archive.extractfile(each)
                assert content is not None
                yield path, content.read()


def is_wanted(path: PurePosixPath) -> bool:
    return (
        not path.is_absolute()
        and ".." not in path.parts
        and not path.parts[0].endswith((".dist-info", ".data"))
        and not UNWANTED_DIRECTORIES & set(path.parts[:-1])
        and path.suffix not in UNWANTED_SUFFIXES
    )


if __name__ == "__main__":
    main(sys.argv[1:])
