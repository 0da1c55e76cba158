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
import time
from pathlib import Path

import click

from raftd import credentials, places, settings

AUTHORITY_DAYS = 7300
NODE_DAYS = 3650
BACKDATED_S = 86_400
"""A host whose clock is behind takes them too."""
_AUTHORITY = "ca"
_GROUP = "raftd"
"""In which the package runs nodes."""
_FORM = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[issuing]
database = issued
new_certs_dir = .
serial = serial
default_md = sha256
policy = any_name
[any_name]
commonName = supplied
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
    for name in names:
        _demand_name(name)
    place = (directory or places.configuration_directory() / "tls").absolute()
    try:
        if not place.is_dir():
            place.mkdir(parents=True)
            place.chmod(0o755)  # nodes run as another user
        _authority(place)
        for name in names:
            if (place / f"{name}.pem").exists() and not renew:
                click.echo(f"{place / name}.pem  is there; --renew replaces it")
            else:
                _issue(place, name, days)
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    click.echo(
        "\nEach host needs, in tls/ beside its configuration, ca.pem and those of its node:\n"
    )
    for name in names:
        click.echo(f"  {place}/ca.pem {place / name}.pem {place / name}.key")
    _say_whose_keys_are(own=directory is None)
    click.echo(f"\n{place}/ca.key is for new certificates only: keep it elsewhere.")


def _demand_name(name: str) -> None:
    """Raises click.UsageError."""
    try:
        settings.name(name)
    except settings.Wrong as wrong:
        raise click.UsageError(str(wrong)) from None
    if not credentials.is_certifiable(name):
        raise click.UsageError(f"{name!r} is a name that no certificate can be for; take another")


def _say_whose_keys_are(*, own: bool) -> None:
    """`own`: they are where the nodes of who runs this look for them."""
    if os.geteuid() == 0:
        whose = f"root and the group {_GROUP}: copied to another host, it needs there"
    elif own:
        click.echo("\nA .key is for you only: nodes that you run yourself need no more.")
        return
    else:
        whose = "you only: on a host where the package runs the node, it needs, as root,"
    click.echo(f"\nA .key is for {whose}")
    click.echo(f"\n  chgrp {_GROUP} /etc/raftd/tls/*.key; chmod 640 /etc/raftd/tls/*.key")


def _authority(place: Path) -> None:
    made = [(place / file).exists() for file in ("ca.pem", "ca.key")]
    if any(made):
        if not all(made):
            lost = place / ("ca.pem" if made[1] else "ca.key")
            sys.exit(f"error: {lost}: is not there; bring it back, or choose another --directory")
        return
    _make(place, _AUTHORITY, "authority", AUTHORITY_DAYS, "-selfsign", group=None)


def _issue(place: Path, name: str, days: int) -> None:
    signer = ["-cert", str(place / "ca.pem"), "-keyfile", str(place / "ca.key")]
    _make(place, name, "node", days, *signer, group=_GROUP)


def _make(place: Path, name: str, kind: str, days: int, *signer: str, group: str | None) -> None:
    """`place`/`name`.pem and .key, which is for root and `group`, if there is such a group."""
    now = int(time.time())
    since, until = (
        time.strftime("%Y%m%d%H%M%SZ", time.gmtime(moment))
        for moment in (now - BACKDATED_S, now + days * 86_400)
    )
    with tempfile.TemporaryDirectory(dir=place, prefix=".new-") as directory:
        scratch = Path(directory)
        form = _FORM.format(name=name, kind="IP" if _is_ip(name) else "DNS")
        (scratch / "form").write_text(form)
        (scratch / "issued").touch()
        wanted = "req -new -config form -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
        _openssl(scratch, *wanted.split(), "-keyout", "key", "-out", "request")
        issue = f"ca -batch -notext -config form -name issuing -create_serial -extensions {kind}"
        times = ("-startdate", since, "-enddate", until)
        key = ("-keyfile", "key") if "-selfsign" in signer else ()
        _openssl(scratch, *issue.split(), *times, *signer, *key, "-in", "request", "-out", "pem")
        for file, mode in (("pem", 0o644), ("key", 0o600)):
            (scratch / file).chmod(mode)
        if group is not None and os.geteuid() == 0:
            with contextlib.suppress(KeyError):  # no package here
                os.chown(scratch / "key", 0, grp.getgrnam(group).gr_gid)
                (scratch / "key").chmod(0o640)
        for suffix in ("key", "pem"):
            (scratch / suffix).replace(place / f"{name}.{suffix}")
    click.echo(f"{place / name}.pem  made, good for {days} days")


def _openssl(directory: Path, *words: str) -> None:
    """Ends the program if it fails."""
    program = shutil.which("openssl")
    if program is None:
        sys.exit("error: openssl is not installed: apt install openssl")
    done = subprocess.run(  # noqa: S603 - our own words, and checked names
        [program, *words], cwd=directory, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"error: openssl cannot make a certificate:\n{done.stderr.strip()}")


def _is_ip(name: str) -> bool:
    """A name that looks like an address is compared as one (RFC 6125, 1.7.2)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
