"""What a node shows to its peers: refused at the start, with a reason, if they would refuse it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from raftd.credentials import CredentialsError, TlsFiles, load
from tests.certificates import files, make, needs_openssl

pytestmark = needs_openssl


@pytest.fixture
def place(tmp_path: Path) -> Path:
    make(tmp_path, "node1", "node2")
    return tmp_path


def refusal(given: TlsFiles, name: str = "node1") -> str:
    with pytest.raises(CredentialsError) as caught:
        load(given, name)
    return str(caught.value)


def test_the_contents_of_good_files(place: Path) -> None:
    own = load(files(place, "node1"), "node1")
    assert own.authority == (place / "ca.pem").read_text()
    assert own.certificate == (place / "node1.pem").read_text()
    assert own.key == (place / "node1.key").read_text()


def test_a_certificate_is_for_one_name(place: Path) -> None:
    assert refusal(files(place, "node2")).startswith(
        f"{place}/node2.pem: peers would refuse it: Hostname mismatch"
    )


@pytest.mark.parametrize("name", [".x", "a..b"])
def test_a_name_that_no_certificate_can_be_for(place: Path, name: str) -> None:
    assert f"{name!r} is a name that no certificate can be for" in refusal(
        files(place, "node1"), name
    )


def test_the_common_name_is_the_same(place: Path) -> None:
    (place / "form").write_text("subjectAltName = DNS:node1\n")
    script = """
    openssl req -new -key node1.key -subj /O=node1/CN=host1 -out request &&
    openssl x509 -req -in request -extfile form -CA ca.pem -CAkey ca.key -set_serial 7 >node1.pem
    """
    subprocess.run(script, shell=True, cwd=place, check=True, capture_output=True)
    assert refusal(files(place, "node1")) == (
        f"{place}/node1.pem: peers would refuse it: its subject's common name is 'host1', not node1"
    )


def test_a_certificate_out_of_its_time_is_worth_a_warning(place: Path) -> None:
    """The clock may be wrong, and be set right while the node runs."""
    (place / "form").write_text("subjectAltName = DNS:node1\n")
    script = """
    openssl req -new -key node1.key -subj /CN=node1 -out request &&
    openssl x509 -req -in request -extfile form -CA ca.pem -CAkey ca.key -set_serial 7 -days -1 \\
        >node1.pem
    """
    subprocess.run(script, shell=True, cwd=place, check=True, capture_output=True)
    warning = load(files(place, "node1"), "node1").warning
    assert warning is not None
    assert warning.startswith(
        f"{place}/node1.pem: certificate has expired: no peer believes it now"
    )


def test_a_certificate_of_another_authority(place: Path) -> None:
    make(place / "other", "node1")
    own = TlsFiles(place / "other/ca.pem", place / "node1.pem", place / "node1.key")
    assert "peers would refuse it" in refusal(own)


def test_a_certificate_for_one_end_only(place: Path) -> None:
    (place / "form").write_text("extendedKeyUsage = serverAuth\nsubjectAltName = DNS:node1\n")
    script = """
    openssl req -new -key node1.key -subj /CN=node1 -out request &&
    openssl x509 -req -in request -extfile form -CA ca.pem -CAkey ca.key -set_serial 7 >node1.pem
    """
    subprocess.run(script, shell=True, cwd=place, check=True, capture_output=True)
    assert "unsuitable certificate purpose" in refusal(files(place, "node1"))


def test_the_key_of_another_certificate(place: Path) -> None:
    mixed = TlsFiles(place / "ca.pem", place / "node1.pem", place / "node2.key")
    assert refusal(mixed).startswith(f"{place}/node2.key: is not the key of {place}/node1.pem")


def test_a_key_that_everybody_may_read(place: Path) -> None:
    (place / "node1.key").chmod(0o644)
    assert refusal(files(place, "node1")).startswith(
        f"{place}/node1.key: everybody may read this key"
    )


def test_a_key_with_a_password_does_not_wait_for_a_terminal(place: Path) -> None:
    command = (
        "openssl ec -in node1.key -aes128 -passout pass:secret -out locked && mv locked node1.key"
    )
    subprocess.run(command, shell=True, cwd=place, check=True, capture_output=True)
    assert "protected by a password" in refusal(files(place, "node1"))


@pytest.mark.parametrize("which", ["ca.pem", "node1.pem", "node1.key"])
def test_files_that_are_not_what_they_should_be(place: Path, which: str) -> None:
    given = files(place, "node1")
    (place / which).write_text("no PEM\n")
    assert str(place) in refusal(given)
    (place / which).write_bytes(b"\xff\xfe")
    assert refusal(given) == f"{place}/{which}: is not PEM, which is text"
    (place / which).unlink()
    os.mkfifo(place / which)
    assert refusal(given).startswith(f"{place}/{which}: is not a regular file")
    (place / which).unlink()
    assert refusal(given).startswith(
        f"{place}/{which}: cannot be read (No such file or directory); `raftd certificates` makes"
    )
