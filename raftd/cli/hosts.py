"""The hosts of a new cluster: asked for or given, what their addresses are, which one is this."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator, Sequence

import click

from raftd import address, settings

DEFAULT_PORT = 7001


def ask() -> Iterator[str]:
    """NAME=ADDRESS of each node, from the terminal."""
    click.echo("A cluster of 3 nodes survives the failure of one, a cluster of 5 that of two.")
    count = click.prompt("How many nodes", default=3, type=click.IntRange(1, 9), err=True)
    click.echo("Addresses are those at which the nodes reach each other: IP address or host name.")
    for number in range(1, count + 1):
        name = click.prompt(f"Name of node {number}", default=f"node{number}", err=True)
        place = click.prompt(f"Address of {name}", err=True)
        yield f"{name}={place}"


def members(given: Sequence[str], *, encrypted: bool) -> dict[str, str]:
    """Name -> address. Raises click.UsageError."""
    found: dict[str, str] = {}
    used: dict[str, int] = {}
    for word in given:
        name, separator, place = word.partition("=")
        if not separator or not place:
            raise click.UsageError(f"{word!r} is no node: write NAME=ADDRESS, node1=192.0.2.1")
        try:
            settings.name(name)
            host, port = _split(place)
            if port is None:
                port = used.get(host, DEFAULT_PORT - 1) + 1
            used[host] = port
            scheme = "tls+tcp" if encrypted or place.startswith("tls+") else "tcp"
            url = settings.dialable_url(f"{scheme}://{host}:{port}")
        except settings.Wrong as wrong:
            raise click.UsageError(f"{word!r}: {wrong}") from None
        if name in found or url in found.values():
            twice = name if name in found else url
            raise click.UsageError(f"{twice} is given twice; each node has its own")
        found[name] = url
    return found


def _split(place: str) -> tuple[str, int | None]:
    """Host, in brackets if it is an IPv6 address, and port. Raises settings.Wrong."""
    rest = place.removeprefix("tls+").removeprefix("tcp://")
    try:
        return (f"[{rest}]" if ipaddress.ip_address(rest).version == 6 else rest), None
    except ValueError:
        pass
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        return rest, None
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise settings.Wrong("the port is not a number from 1 to 65535")
    return host, int(port)


def ask_for_trust(members: dict[str, str]) -> bool:
    """Whether nodes may speak unencrypted; there is nothing to ask if they do not, or only on one
    host.

    Raises click.UsageError if it is needed and there is nobody to ask.
    """
    places = [address.parse(url) for url in members.values()]
    if all(place.is_loopback or place.is_encrypted for place in places):
        return False
    text = "Without TLS, nodes do not encrypt what they say, and believe whoever knows the cluster."
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"{text} Say --tls; or, if the network between the hosts is trusted (one of its own, "
            "WireGuard, IPsec), --trust-network"
        )
    click.echo(text, err=True)
    if not click.confirm("Is the network between the hosts trusted", err=True):
        raise click.UsageError("then encrypt, with --tls; nothing written")
    return True


def is_here(url: str) -> bool:
    """Whether the address is one of this host: whether a socket can have it."""
    for family, place in _resolved(url):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((place, 0))
        except OSError:
            continue
        return True
    return False


def unknown(members: dict[str, str]) -> Iterator[str]:
    """A sentence for each host name that means nothing here."""
    for name, url in members.items():
        if not list(_resolved(url)):
            host = address.parse(url).host
            yield f"{name}: this host does not know the name {host}; use an IP address, or mend DNS"


def _resolved(url: str) -> Iterator[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(address.parse(url).host, None, type=socket.SOCK_DGRAM)
    except OSError:
        return
    for family, _, _, _, place in found:
        yield family, str(place[0])
