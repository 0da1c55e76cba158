"""Make a virtual environment from the locks beside this file, with Python and nothing else.

A fresh Debian has python3.11 without pip and without ensurepip. So pip's own wheel is fetched from
the package index, compared with the SHA-256 in requirements-build.txt, and run as it is; from then
on pip installs what the locks name, and nothing whose hash they do not have.

    python3.11 packaging/bootstrap.py .venv

Uses the standard library only. The variables of pip count here too: PIP_INDEX_URL, PIP_CERT,
https_proxy.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import venv
from pathlib import Path

HERE = Path(__file__).parent
BUILD_LOCK = HERE / "requirements-build.txt"
LOCK = HERE / "requirements.txt"
INDEX = "https://pypi.org/simple"
TRIES = 3
TIMEOUT_S = 60
INSTALL = (
    *("install", "--quiet", "--require-hashes", "--no-user", "--disable-pip-version-check"),
    *("--no-build-isolation", "--only-binary=:all:", "--no-binary=sdnotify"),
)


class CannotFetch(Exception):
    """pip's wheel is not to be had from the index; the message says why."""


def main(directory: Path) -> None:
    print(f"Making {directory} for Python {sys.version.split()[0]}", flush=True)
    venv.EnvBuilder(clear=True, symlinks=True).create(directory)
    python = str(directory / "bin" / "python")
    with tempfile.TemporaryDirectory() as temporary:
        try:
            pip = [str(fetch_pip(Path(temporary)) / "pip")]
        except CannotFetch as error:
            print(f"pip cannot be fetched ({error}): trying ensurepip", flush=True)
            run_or_exit(python, "-I", "-m", "ensurepip")
            pip = ["-m", "pip"]
        run_or_exit(python, "-I", *pip, *INSTALL, "-r", str(BUILD_LOCK))
    run_or_exit(python, "-I", "-m", "pip", *INSTALL, "-r", str(LOCK))


def run_or_exit(*command: str) -> None:
    status = subprocess.run(command, check=False).returncode  # noqa: S603 - our own words
    if status != 0:
        sys.exit(
            f"bootstrap: `{' '.join(command[:5])} ...` failed. Is the package index within reach? "
            "PIP_INDEX_URL, PIP_CERT and https_proxy are honoured; without pip's wheel, "
            "`apt install python3.11-venv` helps."
        )


def fetch_pip(directory: Path) -> Path:
    """Put the wheel of the locked pip into `directory`. Raises CannotFetch."""
    version, hashes = locked("pip")
    name = f"pip-{version}-py3-none-any.whl"
    index = os.environ.get("PIP_INDEX_URL", INDEX).rstrip("/") + "/pip/"
    links = re.findall(r'href="([^"]+)"', fetch(index).decode(errors="replace"))
    for link in (urllib.parse.urljoin(index, html.unescape(link)) for link in links):
        url = urllib.parse.urldefrag(link).url
        if url.endswith(f"/{name}"):
            content = fetch(url)
            if hashlib.sha256(content).hexdigest() not in hashes:
                sys.exit(f"bootstrap: {url} is not the file that {BUILD_LOCK.name} names: stopped")
            wheel = directory / name
            wheel.write_bytes(content)
            return wheel
    raise CannotFetch(f"{index} does not list {name}")


def locked(package: str) -> tuple[str, set[str]]:
    """The version of `package` in the build lock, and the SHA-256 of each of its files."""
    pin = rf"^{package}==(\S+)((?: \\\n +--hash=\S+)+)"
    match = re.search(pin, BUILD_LOCK.read_text(), re.MULTILINE)
    assert match, f"{package} is in {BUILD_LOCK}"
    return match[1], set(re.findall(r"sha256:([0-9a-f]{64})", match[2]))


def fetch(url: str) -> bytes:
    """What is at `url`. Raises CannotFetch.

    On a machine without any CA certificates the transport cannot be trusted, and need not be: what
    comes counts only if its hash is the locked one.
    """
    if not url.startswith(("https://", "http://")):
        raise CannotFetch(f"{url} is not http")
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
    problem: Exception | None = None
    for _ in range(TRIES):
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=context) as answer:  # noqa: S310
                content: bytes = answer.read()
                return content
        except (OSError, ValueError) as error:  # URLError is an OSError
            problem = error
            if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
    raise CannotFetch(f"{url}: {problem}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
