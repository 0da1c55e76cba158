"""Why a connection does not come about: nng does not say, so one is tried by hand."""

from __future__ import annotations

import os
import socket
import ssl

import trio

from raftd.address import Address

_NOT_BELIEVED = "it does not believe the certificate of this node"
PATIENCE = 5.0
"""Seconds for one trial."""


async def trouble_with(address: Address, client: ssl.SSLContext | None, name: str) -> str | None:
    """Why nobody can be reached there, or what speaks against the certificate of one end or the
    other; None: nothing. `client`: None, if it is not encrypted. `name`: the member that should be
    at `address`."""
    with trio.move_on_after(PATIENCE) as waiting:
        try:
            stream = await trio.open_tcp_stream(address.host, address.port)
        except OSError as error:
            return _unreachable(error, address.host)
    if waiting.cancelled_caught:
        return "no answer: is the host up, and does no firewall stand between?"
    async with stream:
        if client is not None:
            with trio.move_on_after(PATIENCE):
                return await _not_believed(stream, client, name)
    return None


async def _not_believed(stream: trio.SocketStream, client: ssl.SSLContext, name: str) -> str | None:
    """What speaks against the certificate of one end or the other."""
    try:
        connection = trio.SSLStream(stream, client, server_hostname=name)
    except ValueError:  # such as ".x"
        return f"{name!r} is a name that no certificate can be for"
    try:
        await connection.do_handshake()
    except trio.BrokenResourceError as error:
        return _explained(error.__cause__)
    try:
        await connection.receive_some(1)  # TLS 1.3 tells late whether ours is believed
    except trio.BrokenResourceError as error:
        return _NOT_BELIEVED if isinstance(error.__cause__, ssl.SSLError) else None
    return None


def _unreachable(error: OSError, host: str) -> str:
    cause = error.__cause__  # trio has tried all addresses of the host
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, OSError):
        error = cause
    if isinstance(error, socket.gaierror):
        return f"the name {host} is not known here ({error.strerror})"
    if error.errno is None:
        return str(error)
    return os.strerror(error.errno).lower()


def _explained(error: BaseException | None) -> str | None:
    """Why there was no handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed here: {error.verify_message.rstrip('.')}"
    if not isinstance(error, ssl.SSLError):
        return None
    reason = str(error.reason)
    return _NOT_BELIEVED if "ALERT" in reason else f"it does not speak TLS ({reason})"
