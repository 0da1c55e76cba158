"""Certificates for tests, made as users make them. Needs openssl(1)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftd import credentials
from raftd.cli.certificates import certificates
from raftd.credentials import Credentials, TlsFiles

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes certificates: apt install openssl"
)


def make(directory: Path, *words: str) -> Result:
    """`raftd certificates`, which must succeed."""
    done = ask(directory, *words)
    assert done.exit_code == 0, done.output
    return done


def ask(directory: Path, *words: str) -> Result:
    """`raftd certificates`."""
    return CliRunner().invoke(certificates, ["--directory", str(directory), *words])


def files(directory: Path, name: str) -> TlsFiles:
    return TlsFiles(directory / "ca.pem", directory / f"{name}.pem", directory / f"{name}.key")


def of(directory: Path, name: str) -> Credentials:
    """Those of the node `name`, as `make` has left them."""
    return credentials.load(files(directory, name), name)
