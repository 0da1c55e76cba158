"""`raftd certificates`: files that nodes take, for one authority."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from raftd.cli.certificates import certificates
from tests.certificates import ask, make, needs_openssl, of

pytestmark = needs_openssl


def test_each_node_gets_its_own_from_one_authority(tmp_path: Path) -> None:
    said = make(tmp_path / "tls", "node1", "n_2.x", "192.0.2.3").output
    place = tmp_path / "tls"
    for name in ("node1", "n_2.x", "192.0.2.3"):
        assert of(place, name).warning is None, "good for long"
        assert f"{place}/ca.pem {place}/{name}.pem {place}/{name}.key" in said
        assert (place / f"{name}.key").stat().st_mode & 0o007 == 0
    assert (place / "ca.key").stat().st_mode & 0o077 == 0
    assert sorted(path.suffix for path in place.iterdir()) == [".key"] * 4 + [".pem"] * 4


def test_a_host_whose_clock_is_behind_takes_them(tmp_path: Path) -> None:
    make(tmp_path, "node1")
    for name in ("ca", "node1"):
        command = ["openssl", "x509", "-noout", "-startdate", "-in", str(tmp_path / f"{name}.pem")]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        since = ssl.cert_time_to_seconds(said.strip().partition("=")[2])
        assert since < time.time() - 23 * 3600


def test_what_is_there_is_kept_unless_it_is_to_be_renewed(tmp_path: Path) -> None:
    make(tmp_path, "node1")
    before = of(tmp_path, "node1").certificate
    assert f"{tmp_path}/node1.pem  is there; --renew" in make(tmp_path, "node1", "node2").output
    assert of(tmp_path, "node1").certificate == before
    authority = of(tmp_path, "node1").authority
    assert of(tmp_path, "node2").authority == authority
    make(tmp_path, "--renew", "--days", "10", "node1")
    renewed = of(tmp_path, "node1")
    assert renewed.authority == authority
    assert renewed.certificate != before
    assert renewed.warning is not None
    assert re.search(r"node1.pem expires in (9|10) days: renew it", renewed.warning)


def test_half_an_authority_is_not_replaced(tmp_path: Path) -> None:
    make(tmp_path, "node1")
    (tmp_path / "ca.key").unlink()
    done = ask(tmp_path, "node2")
    assert (done.exit_code, done.output) == (
        1,
        f"error: {tmp_path}/ca.key: is not there; bring it back, or choose another --directory\n",
    )
    assert not (tmp_path / "node2.pem").exists()


@pytest.mark.parametrize("name", ["a..b", "...", ".x"])
def test_a_name_that_the_node_would_refuse_makes_nothing(tmp_path: Path, name: str) -> None:
    done = ask(tmp_path / "a", "node1", name)
    assert done.exit_code == 2
    assert f"{name!r} is a name that no certificate can be for" in done.output
    assert not (tmp_path / "a").exists()


def test_what_is_said_of_keys_is_for_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    said = CliRunner().invoke(certificates, ["node1"]).output
    assert f"{tmp_path}/raftd/tls/node1.pem  made" in said
    assert "A .key is for you only: nodes that you run yourself need no more.\n" in said
    assert "chgrp" not in said
    said = make(tmp_path / "tls", "node1").output
    assert "on a host where the package runs the node, it needs, as root," in said
    assert "chgrp raftd /etc/raftd/tls/*.key" in said


def test_what_makes_no_sense_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(tmp_path).exit_code == 2, "nobody is named"
    done = ask(tmp_path / "a", "node1", "../node2")
    assert done.exit_code == 2
    assert "'../node2' is no name" in done.output
    assert not (tmp_path / "a").exists()
    make(tmp_path / "c", "node1")
    before = of(tmp_path / "c", "node1").authority
    done = ask(tmp_path / "c", "--renew", "ca")
    assert done.exit_code == 2
    assert "ca.pem and ca.key are the authority's own" in done.output
    assert of(tmp_path / "c", "node1").authority == before
    (tmp_path / "file").touch()
    assert ask(tmp_path / "file" / "below", "node1").output.endswith("below: Not a directory\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    done = ask(tmp_path / "b", "node1")
    assert (done.exit_code, done.output) == (
        1,
        "error: openssl is not installed: apt install openssl\n",
    )
