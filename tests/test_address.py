"""Addresses of nodes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from raftd.address import Address, AddressError, parse


@pytest.mark.parametrize(
    ("text", "address", "spelled"),
    [
        ("tcp://192.0.2.1:7001", Address("192.0.2.1", 7001), None),
        (
            "TCP://Node-1.Example.ORG:1",
            Address("node-1.example.org", 1),
            "tcp://node-1.example.org:1",
        ),
        ("tcp://[2001:DB8:0::1]:65535", Address("2001:db8::1", 65535), "tcp://[2001:db8::1]:65535"),
        ("tcp://my_host:07001", Address("my_host", 7001), "tcp://my_host:7001"),
        ("tcp://[::]:7001", Address("::", 7001), None),
        ("tls+tcp://192.0.2.1:7001", Address("192.0.2.1", 7001, is_encrypted=True), None),
        ("TLS+TCP://[::1]:1", Address("::1", 1, is_encrypted=True), "tls+tcp://[::1]:1"),
    ],
)
def test_an_address_has_one_spelling(text: str, address: Address, spelled: str | None) -> None:
    assert parse(text) == address
    assert str(address) == (spelled or text)
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "",
            "no tcp:// or tls+tcp:// in front; write tcp://HOST:PORT or tls+tcp://HOST:PORT, as in",
        ),
        ("node1:7001", "no tcp:// or tls+tcp:// in front"),
        ("ipc:///run/x", "the scheme is neither tcp nor tls+tcp; write"),
        ("tls://node1:7001", "the scheme is neither tcp nor tls+tcp; write"),
        ("tcp://node1", "the port is missing; write"),
        ("tcp://[::1]", "the port is missing; write"),
        ("tcp://node1:", "the port is not a number from 1 to 65535; write"),
        ("tcp://node1:0", "the port is not a number"),
        ("tcp://node1:65536", "the port is not a number"),
        ("tcp://node1:-1", "the port is not a number"),
        ("tcp://node1:\u0661", "the port is not a number"),
        ("tcp://node1:7001/", "the port is not a number"),
        ("tcp://:7001", "the host is neither a name nor an IP address; write"),
        ("tcp://*:7001", "the host is neither a name nor an IP address"),
        ("tcp://a b:7001", "the host is neither a name nor an IP address"),
        ("tcp://user@host:7001", "the host is neither a name nor an IP address"),
        (f"tcp://{'a.' * 127}b:7001", "the host is neither a name nor an IP address"),
        ("tcp://::1:7001", "an IPv6 address stands in brackets; write"),
        ("tcp://[::1:7001", "an IPv6 address stands in brackets; write"),
        ("tcp://[node1]:7001", "no IPv6 address in the brackets; write"),
        ("tcp://[fe80::1%eth0]:7001", "zones (%eth0) are not supported; use"),
        ("tcp://192.0.2.256:7001", "that is no IPv4 address; write four numbers, 0 to 255"),
        ("tcp://192.0.2:7001", "that is no IPv4 address"),
        ("tcp://7001:7001", "that is no IPv4 address"),
    ],
)
def test_what_is_no_address(text: str, expected: str) -> None:
    with pytest.raises(AddressError, match=re.escape(expected)):
        parse(text)


def test_the_loopback_is_what_other_hosts_cannot_reach() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "[::1]", "localhost", "LOCALHOST"):
        assert parse(f"tcp://{host}:1").is_loopback
    for host in ("0.0.0.0", "[::]", "192.0.2.1", "localhost.example.org", "node1"):
        assert not parse(f"tcp://{host}:1").is_loopback


def test_a_wildcard_is_every_address() -> None:
    assert parse("tcp://0.0.0.0:1").is_wildcard
    assert parse("tcp://[::0]:1").is_wildcard
    assert not parse("tcp://127.0.0.1:1").is_wildcard
    assert not parse("tcp://node1:1").is_wildcard


@given(st.text(alphabet="tcp:/[].-_%@1aZ\u0661\n", max_size=30).map("tcp://".__add__) | st.text())
@examples(deadline=None, max_examples=200)
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        found = parse(text)
    except AddressError:
        return
    assert parse(str(found)) == found
    assert re.fullmatch(r"tcp://[]a-z0-9:.[_-]+:[1-9][0-9]*", str(found))
