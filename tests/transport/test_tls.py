"""Encrypted connections: among members only, and nobody else gets a word in."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from raftd.address import parse
from raftd.credentials import Credentials, CredentialsError
from raftd.transport import transport as calling_end
from raftd.transport.transport import Transport, Unreachable
from raftd.transport.trial import trouble_with
from tests.certificates import make, needs_openssl, of
from tests.transport.wire import REQ_HELLO, eventually, frame, port_of, transport

pytestmark = [pytest.mark.system, needs_openssl]

LISTEN = "tls+tcp://127.0.0.1:0"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    make(directory, "node1", "node2")
    make(directory / "foreign", "node1", "node2")
    return directory


class Echo:
    """Says what it was asked, and remembers it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def __call__(self, request: bytes) -> bytes:
        self.heard.append(request)
        return request


@asynccontextmanager
async def calling(credentials: Credentials | None) -> AsyncIterator[Transport]:
    async with transport(Echo(), credentials=credentials) as opened:
        yield opened


async def _is_refused(caller: Transport, name: str, address: str) -> str:
    """Tries again and again, for long enough to connect if that were possible."""
    caller.set_peer(name, address)
    reasons = []
    for _ in range(10):
        with pytest.raises(Unreachable) as caught:
            await caller.call(name, b"let me in", 1)
        reasons.append(str(caught.value))
        await trio.sleep(0.05)
    return reasons[-1]


async def test_members_hear_each_other(place: Path) -> None:
    echo, senders = Echo(), list[str | None]()
    async with (
        transport(echo, LISTEN, credentials=of(place, "node1"), senders=senders) as server,
        calling(of(place, "node2")) as client,
    ):
        assert server.address.startswith("tls+tcp://127.0.0.1:")
        client.set_peer("node1", server.address)
        large = bytes(range(256)) * 4000
        assert await eventually(lambda: client.call("node1", large, 5)) == large
        assert await client.call("node1", b"x", 5) == b"x"
        assert senders == ["node2", "node2"]


@pytest.mark.parametrize(
    ("directory", "name"),
    [("foreign", "node1"), (".", "node2")],
    ids=["of another authority", "another member"],
)
async def test_who_is_dialled_has_to_be_the_member(place: Path, directory: str, name: str) -> None:
    """The one that answers is of `directory` and called `name`; it is taken for node1."""
    echo = Echo()
    async with (
        transport(echo, LISTEN, credentials=of(place / directory, name)) as server,
        calling(of(place, "node2")) as client,
    ):
        assert "is not connected" in await _is_refused(client, "node1", server.address)
        assert echo.heard == []


async def test_who_dials_needs_a_certificate_of_the_authority(place: Path) -> None:
    echo = Echo()
    own = of(place, "node1")
    foreign = of(place / "foreign", "node2")
    mixed = Credentials(own.authority, foreign.certificate, foreign.key, own.client, foreign.file)
    async with transport(echo, LISTEN, credentials=own) as server:
        for stranger in (foreign, mixed):
            async with calling(stranger) as client:
                await _is_refused(client, "node1", server.address)
        async with calling(None) as client:
            plain = server.address.removeprefix("tls+")
            assert "is not connected" in await _is_refused(client, "node1", plain)
            why = await _is_refused(client, "node2", server.address)
            lacking = "it takes encrypted connections only, and this node has no [tls]"
            assert why.endswith(lacking)
            assert client.trouble_with("node2") == f"{server.address}: {lacking}"
        assert echo.heard == []
        async with calling(of(place, "node2")) as client:
            client.set_peer("node1", server.address)
            assert await eventually(lambda: client.call("node1", b"x", 5)) == b"x"


async def test_what_is_not_encrypted_is_not_heard(place: Path) -> None:
    echo = Echo()
    async with (
        transport(echo, LISTEN, credentials=of(place, "node1"), connections=8) as server,
        calling(of(place, "node2")) as client,
    ):
        streams = []
        for number in range(100):
            stream = await trio.open_tcp_stream("127.0.0.1", port_of(server))
            if number % 2:  # the others say nothing at all
                await stream.send_all(REQ_HELLO + frame(b"hello"))
            streams.append(stream)
        client.set_peer("node1", server.address)
        assert await eventually(lambda: client.call("node1", b"x", 5)) == b"x"
        assert echo.heard == [b"x"]
        for stream in streams:
            await stream.aclose()


async def _trouble(server: Transport, own: Credentials, name: str = "node1") -> str | None:
    return await trouble_with(parse(server.address), own.client, name)


async def test_why_no_connection_comes_about(place: Path) -> None:
    own, foreign = of(place, "node1"), of(place / "foreign", "node2")
    async with transport(Echo(), LISTEN, credentials=own) as server:
        assert await _trouble(server, of(place, "node2")) is None
        why = await _trouble(server, of(place, "node2"), ".x")
        assert why == "'.x' is a name that no certificate can be for"
        why = await _trouble(server, of(place, "node2"), "a..b")
        assert why is not None
        assert why.endswith("certificate is not valid for 'a..b'")
        assert await _trouble(server, of(place, "node2"), "node3") == (
            "its certificate is not believed here: Hostname mismatch, certificate is not valid for"
            " 'node3'"
        )
        why = await _trouble(server, foreign)
        assert why is not None
        assert why.startswith("its certificate is not believed here: ")
        foreign.client.load_verify_locations(cadata=own.authority)
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            foreign.client.maximum_version = version
            why = await _trouble(server, foreign)
            assert why == "it does not believe the certificate of this node"
    assert await _trouble(server, own) == "connection refused"
    async with transport(Echo()) as plain:
        why = await _trouble(plain, own)
        assert why is not None
        assert why.startswith("it does not speak TLS (")


async def test_why_no_connection_comes_about_is_said_once(
    place: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling_end, "LOOK_INTERVAL", 0.05)
    async with (
        transport(Echo(), LISTEN, credentials=of(place, "node1")) as server,
        calling(of(place, "node2")) as client,
    ):
        client.set_peer("node3", server.address)

        why = ""
        with trio.fail_after(20):
            while "its certificate is not believed here" not in why:
                with pytest.raises(Unreachable) as caught:
                    await client.call("node3", b"x", 1)
                why = str(caught.value)
                await trio.sleep(0.01)
        await trio.sleep(0.3)
        said = [each.getMessage() for each in caplog.records if "cannot connect" in each.msg]
        assert said == [f"cannot connect to {why.replace(' is not connected', '')}"]


def test_a_certificate_that_nng_cannot_use_is_told(place: Path, tmp_path: Path) -> None:
    command = [
        *("openssl", "req", "-x509", "-newkey", "ed25519", "-noenc", "-subj", "/CN=node1"),
        *("-CA", str(place / "ca.pem"), "-CAkey", str(place / "ca.key")),
        *("-addext", "subjectAltName=DNS:node1", "-days", "9"),
        *("-keyout", str(tmp_path / "node1.key"), "-out", str(tmp_path / "node1.pem")),
    ]
    subprocess.run(command, check=True, capture_output=True)
    shutil.copy(place / "ca.pem", tmp_path)
    own = of(tmp_path, "node1")
    with pytest.raises(CredentialsError, match=r"node1.pem: of a kind .* take RSA"):
        Transport(LISTEN, max_message_bytes=100, credentials=own)
