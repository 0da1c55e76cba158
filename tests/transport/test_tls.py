"""Encrypted connections: among members only, and nobody else gets a word in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from raftd.credentials import Credentials
from raftd.transport.transport import Transport, Unreachable
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
    echo = Echo()
    async with (
        transport(echo, LISTEN, credentials=of(place, "node1")) as server,
        calling(of(place, "node2")) as client,
    ):
        assert server.address.startswith("tls+tcp://127.0.0.1:")
        client.set_peer("node1", server.address)
        large = bytes(range(256)) * 4000
        assert await eventually(lambda: client.call("node1", large, 5)) == large
        assert await client.call("node1", b"x", 5) == b"x"


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
        assert "do the certificates fit together?" in await _is_refused(
            client, "node1", server.address
        )
        assert echo.heard == []


async def test_who_dials_needs_a_certificate_of_the_authority(place: Path) -> None:
    echo = Echo()
    own = of(place, "node1")
    foreign = of(place / "foreign", "node2")
    mixed = Credentials(own.authority, foreign.certificate, foreign.key, 0.0)  # it trusts node1
    async with transport(echo, LISTEN, credentials=own) as server:
        for stranger in (foreign, mixed):
            async with calling(stranger) as client:
                await _is_refused(client, "node1", server.address)
        async with calling(None) as client:
            plain = server.address.removeprefix("tls+")
            assert "is not connected" in await _is_refused(client, "node1", plain)
            why = await _is_refused(client, "node2", server.address)
            assert why.endswith("takes encrypted connections only, and this node has no [tls]")
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
