"""Addresses of nodes: tcp://host:port, or tls+tcp:// for encrypted connections; IPv6 in brackets
(RFC 3986, 3.2.2). Text in, text out.

Names are not resolved here: what an address means is the host's business when it is dialled.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

import msgspec

_PLAIN, _TLS = "tcp", "tls+tcp"
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_EXAMPLE = (
    "write tcp://HOST:PORT or tls+tcp://HOST:PORT, as in tls+tcp://192.0.2.1:7001 or "
    "tls+tcp://[2001:db8::1]:7001"
)


class AddressError(ValueError):
    """The text is no address; the message says why and what to write."""


class Address(msgspec.Struct, frozen=True):
    """`str()` gives the one spelling of an address, so that equal addresses are equal text."""

    host: str
    """without brackets; IP addresses in their shortest form, names in lower case"""
    port: int
    is_encrypted: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_TLS if self.is_encrypted else _PLAIN}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Nobody but this host can reach it. Names other than localhost count as reachable."""
        ip = _ip(self.host)
        return self.host in {"localhost", "localhost."} if ip is None else ip.is_loopback

    @property
    def is_wildcard(self) -> bool:
        """It stands for every address of the host: good for listening, useless for dialling."""
        ip = _ip(self.host)
        return ip is not None and ip.is_unspecified


def parse(text: str) -> Address:
    """The address that `text` spells. Raises AddressError."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise AddressError(f"no tcp:// or tls+tcp:// in front; {_EXAMPLE}")
    if scheme.lower() not in {_PLAIN, _TLS}:
        raise AddressError(f"the scheme is neither tcp nor tls+tcp; {_EXAMPLE}")
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        raise AddressError(f"the port is missing; {_EXAMPLE}")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 2**16):
        raise AddressError(f"the port is not a number from 1 to 65535; {_EXAMPLE}")
    return Address(_host(host), int(port), scheme.lower() == _TLS)


def all_encrypted(addresses: Iterable[str]) -> bool:
    """Whether there are some, and nothing that is said at any of them can be overheard."""
    each = [parse(text).is_encrypted for text in addresses]
    return bool(each) and all(each)


def _host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        try:
            ip = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            raise AddressError(f"no IPv6 address in the brackets; {_EXAMPLE}") from None
        if ip.scope_id is not None:
            raise AddressError("zones (%eth0) are not supported; use a global or unique address")
        return ip.compressed
    if ":" in text:
        raise AddressError(f"an IPv6 address stands in brackets; {_EXAMPLE}")
    if not _HOST_NAME.fullmatch(text) or len(text) > 253:
        raise AddressError(f"the host is neither a name nor an IP address; {_EXAMPLE}")
    if (
        text.rstrip(".").rpartition(".")[2].isdigit()
    ):  # a last label of digits: IPv4 (RFC 1123, 2.1)
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise AddressError("that is no IPv4 address; write four numbers, 0 to 255") from None
    return text.lower()


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
