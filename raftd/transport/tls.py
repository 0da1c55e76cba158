"""Mutual TLS for nng's sockets (nng_tls_config_alloc(3tls)), as raftd.credentials describes it."""

from __future__ import annotations

import pynng
from pynng import ffi, lib

from raftd.credentials import Credentials, CredentialsError

SCHEME = "tls+tcp://"


def check(credentials: Credentials) -> None:
    """Raises CredentialsError if nng's TLS takes less than Python's."""
    try:
        listening(credentials)
    except pynng.NNGException as error:
        raise CredentialsError(
            f"{credentials.file}: of a kind that TLS between nodes cannot use"
            f" ({str(error).lower()}); take RSA, or ECDSA with P-256, as `raftd certificates` does"
        ) from error


def listening(credentials: Credentials) -> pynng.TLSConfig:
    """Who connects needs a certificate of our authority. Raises pynng.NNGException."""
    return _config(pynng.TLSConfig.MODE_SERVER, credentials, None)


def dialling(credentials: Credentials, name: str) -> pynng.TLSConfig:
    """Who is dialled has to be `name`. Raises pynng.NNGException."""
    return _config(pynng.TLSConfig.MODE_CLIENT, credentials, name)


def name_at(pipe: pynng.Pipe) -> str | None:
    """The common name in the certificate that the other end has shown; None: there is no TLS."""
    place = ffi.new("char **")
    if lib.nng_pipe_get_string(pipe.pipe, b"tls-peer-cn", place) != 0:
        return None
    name: bytes = ffi.string(place[0])
    lib.nng_strfree(place[0])
    return name.decode("utf-8", "replace")


def _config(mode: int, credentials: Credentials, name: str | None) -> pynng.TLSConfig:
    return pynng.TLSConfig(
        mode,
        server_name=name,
        ca_string=credentials.authority,
        own_cert_string=credentials.certificate,
        own_key_string=credentials.key,
        auth_mode=pynng.TLSConfig.AUTH_MODE_REQUIRED,
    )
