"""`raftd certificates`: what encrypted connections between nodes take, made by openssl(1).

A certificate authority for one cluster, and a certificate for each of its nodes, signed by it.
"""

from __future__ import annotations

import contextlib
import grp
import ipaddress
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from raftd import places, settings

AUTHORITY_DAYS = 7300
NODE_DAYS = 3650
_AUTHORITY = "ca"
_GROUP = "raftd"
"""In which the package runs nodes."""
_FORM = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[node]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = {kind}:{name}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@click.command(short_help="Make certificates for encrypted connections between nodes.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--directory",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where they go. Default: tls/ beside the configurations.",
)
@click.option(
    "--days",
    type=click.IntRange(1, AUTHORITY_DAYS),
    default=NODE_DAYS,
    show_default=True,
    help="How long the nodes' certificates are good.",
)
@click.option("--renew", is_flag=True, help="Replace those that are there, but not the authority.")
def certificates(names: tuple[str, ...], directory: Path | None, days: int, renew: bool) -> None:
    """Make certificates for encrypted connections between the nodes NAME...

    All of a cluster have to come from one authority, ca.pem and ca.key: it is made if it is not
    there, else used. So run this on one host, and copy the files from there. Who has ca.key can
    make members: no node needs it, so keep it where nobody else gets at it.
    """
    if _AUTHORITY in names:
        raise click.UsageError(f"{_AUTHORITY}.pem and {_AUTHORITY}.key are the authority's own")
    place = directory or places.configuration_directory() / "tls"
    try:
        for name in names:
            settings.name(name)
        if not place.is_dir():
            place.mkdir(parents=True)
            place.chmod(0o755)  # nodes run as another user
        _authority(place)
        for name in names:
            if (place / f"{name}.pem").exists() and not renew:
                click.echo(f"{place / name}.pem  is there; --renew replaces it")
            else:
                _issue(place, name, days)
    except settings.Wrong as wrong:
        raise click.UsageError(str(wrong)) from None
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    click.echo(
        "\nEach host needs, in tls/ beside its configuration, ca.pem and those of its node:\n"
    )
    for name in names:
        click.echo(f"  {place}/ca.pem {place / name}.pem {place / name}.key")
    click.echo(
        f"\nA .key is for root and the group {_GROUP}: copied to another host, it needs there"
    )
    click.echo(f"\n  chgrp {_GROUP} /etc/raftd/tls/*.key; chmod 640 /etc/raftd/tls/*.key")
    click.echo(f"\n{place}/ca.key is for new certificates only: keep it elsewhere.")


def _authority(place: Path) -> None:
    made = [(place / file).exists() for file in ("ca.pem", "ca.key")]
    if any(made):
        if not all(made):
            lost = place / ("ca.pem" if made[1] else "ca.key")
            sys.exit(f"error: {lost}: is not there; bring it back, or choose another --directory")
        return
    _make(place, _AUTHORITY, "authority", AUTHORITY_DAYS, group=None)


def _issue(place: Path, name: str, days: int) -> None:
    signer = ["-CA", str(place / "ca.pem"), "-CAkey", str(place / "ca.key")]
    _make(place, name, "node", days, *signer, group=_GROUP)


def _make(place: Path, name: str, kind: str, days: int, *more: str, group: str | None) -> None:
    """`place`/`name`.pem and .key; the key is for root and `group`. Both or none."""
    openssl = shutil.which("openssl")
    if openssl is None:
        sys.exit("error: openssl is not installed: apt install openssl")
    with tempfile.TemporaryDirectory(dir=place, prefix=".new-") as scratch:
        form, certificate, key = (Path(scratch) / each for each in ("form", "pem", "key"))
        form.write_text(_FORM.format(name=name, kind="IP" if _is_ip(name) else "DNS"))
        command = [
            *(openssl, "req", "-x509", "-config", str(form), "-extensions", kind, "-sha256"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"),
            *("-days", str(days), "-keyout", str(key), "-out", str(certificate), *more),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words, and checked names
        if done.returncode != 0:
            sys.exit(f"error: {place}: openssl cannot make a certificate:\n{done.stderr.strip()}")
        certificate.chmod(0o644)
        key.chmod(0o600)
        if group is not None and os.geteuid() == 0:
            with contextlib.suppress(KeyError):  # no package here
                os.chown(key, 0, grp.getgrnam(group).gr_gid)
                key.chmod(0o640)
        for made, suffix in ((key, "key"), (certificate, "pem")):
            made.replace(place / f"{name}.{suffix}")
    click.echo(f"{place / name}.pem  made, good for {days} days")


def _is_ip(name: str) -> bool:
    """A name that looks like an address is compared as one (RFC 6125, 1.7.2)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
