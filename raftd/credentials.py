"""What a node shows to its peers over TLS, and what it demands of theirs: files in PEM (RFC 7468).

Both ends of a connection have a certificate of the cluster's own authority, for the member's name,
at whatever address that is: as a DNS name in the subjectAltName, which who dials looks at, and as
the subject's common name, which who is dialled looks at. So a certificate is good for both ends.
"""

from __future__ import annotations

import math
import ssl
import stat
import time
from pathlib import Path
from typing import cast

import msgspec

_UNTIMELY = {9, 10}
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""
EXPIRES_SOON = 30
"""Days before its end from which on a certificate is worth a warning."""


class CredentialsError(Exception):
    """The files cannot be used; the message says which, why, and what to do."""


class _OtherName(Exception):
    """The certificate has another common name, which is the message."""


class TlsFiles(msgspec.Struct, frozen=True):
    ca_file: Path
    cert_file: Path
    key_file: Path


class Credentials(msgspec.Struct, frozen=True):
    """The contents of the files; `client` for what Python itself connects to. `file` has the
    certificate, whose end is `expires`, in Unix seconds. `untimely`: why it does not count now, if
    it does not: a clock may be wrong, and be set right."""

    authority: str
    certificate: str
    key: str
    client: ssl.SSLContext
    file: Path
    expires: float = math.inf
    untimely: str = ""

    @property
    def warning(self) -> str | None:
        """What somebody should see to."""
        if self.untimely:
            return (
                f"{self.file}: {self.untimely}: no peer believes it now. Renew it, and restart this"
                " node; or set the clock of this host"
            )
        days = (self.expires - time.time()) / 86_400
        if days < EXPIRES_SOON:
            return f"{self.file} expires in {days:.0f} days: renew it, and restart this node"
        return None


def is_certifiable(name: str) -> bool:
    """Whether there can be a certificate for the node `name`: not if a part between dots is empty,
    but for the last."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except ValueError:
        return False
    return True


def load(files: TlsFiles, name: str) -> Credentials:
    """Read the files of the node `name` and try them in a handshake with itself.

    Raises CredentialsError; not for its time.
    """
    authority, certificate, key = map(_read, (files.ca_file, files.cert_file, files.key_file))
    if files.key_file.stat().st_mode & 0o007:
        raise CredentialsError(f"{files.key_file}: everybody may read this key; chmod o= it")
    server, client = (
        _context(protocol, files) for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
    )
    try:
        expires = _expiry(server, client, name)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _UNTIMELY:
            why = error.verify_message
            return Credentials(authority, certificate, key, client, files.cert_file, untimely=why)
        raise CredentialsError(
            f"{files.cert_file}: peers would refuse it: {error.verify_message.rstrip('.')}. It has"
            f" to be for {name}, for both ends of TLS, and of the authority in {files.ca_file}"
        ) from error
    except _OtherName as error:
        raise CredentialsError(
            f"{files.cert_file}: peers would refuse it: its subject's common name is"
            f" {str(error)!r}, not {name}"
        ) from error
    except ssl.SSLError as error:
        raise CredentialsError(f"{files.cert_file}: cannot be used: {error}") from error
    except ValueError as error:  # such as "a..b"
        raise CredentialsError(
            f"{files.cert_file}: {name!r} is a name that no certificate can be for; choose another"
        ) from error
    return Credentials(authority, certificate, key, client, files.cert_file, expires)


def _read(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
            raise CredentialsError(f"{path}: is not a regular file; name the PEM file itself")
        return path.read_text(encoding="ascii")
    except PermissionError as error:
        raise CredentialsError(
            f"{path}: this node may not read it; chgrp it to the node's group and chmod 640 it"
        ) from error
    except OSError as error:
        raise CredentialsError(
            f"{path}: cannot be read ({error.strerror}); `raftd certificates` makes such files"
        ) from error
    except UnicodeDecodeError as error:
        raise CredentialsError(f"{path}: is not PEM, which is text") from error


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(files.ca_file)
    except ssl.SSLError as error:
        raise CredentialsError(f"{files.ca_file}: holds no certificate in PEM") from error
    try:
        context.load_cert_chain(files.cert_file, files.key_file, password=lambda: "")
    except ssl.SSLError as error:
        raise CredentialsError(
            f"{files.key_file}: is not the key of {files.cert_file}, or one of them is not PEM, or"
            f" the key is protected by a password, which nobody could type ({error.reason})"
        ) from error
    return context


def _expiry(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> float:
    """When the server's certificate ends, if client and server accept each other.

    Raises ssl.SSLError, _OtherName."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialling = client.wrap_bio(back, there, server_hostname=name)
    unfinished = [dialling, server.wrap_bio(there, back, server_side=True)]
    while unfinished:
        for end in list(unfinished):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            unfinished.remove(end)
    certificate = dialling.getpeercert()
    assert certificate is not None
    subject = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate["subject"])
    common_names = [value for part in subject for key, value in part if key == "commonName"]
    if common_names != [name]:
        raise _OtherName(", ".join(common_names))
    return float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))
