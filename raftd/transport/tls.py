"""Mutual TLS for nng's sockets (nng_tls_config_alloc(3tls)), as raftd.credentials describes it."""

from __future__ import annotations

import pynng

from raftd.credentials import Credentials

SCHEME = "tls+tcp://"


def listening(credentials: Credentials) -> pynng.TLSConfig:
    """Who connects needs a certificate of our authority. Raises pynng.NNGException."""
    return _config(pynng.TLSConfig.MODE_SERVER, credentials, None)


def dialling(credentials: Credentials, name: str) -> pynng.TLSConfig:
    """Who is dialled has to be `name`. Raises pynng.NNGException."""
    return _config(pynng.TLSConfig.MODE_CLIENT, credentials, name)


def _config(mode: int, credentials: Credentials, name: str | None) -> pynng.TLSConfig:
    return pynng.TLSConfig(
        mode,
        server_name=name,
        ca_string=credentials.authority,
        own_cert_string=credentials.certificate,
        own_key_string=credentials.key,
        auth_mode=pynng.TLSConfig.AUTH_MODE_REQUIRED,
    )
