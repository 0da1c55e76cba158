"""`raftd init`: the configurations of a new cluster, from the names and addresses of its nodes.

The same command on each host writes what that host needs. Nothing is written that the node would
refuse; nothing is started.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from raftd import address, places
from raftd.cli import hosts, say
from raftd.cli.check_config import load_or_exit
from raftd.cli.new_file import Kept, text_of, write
from raftd.config import Config

_EXAMPLES = """\b
Examples:
  raftd init
      asks for everything
  raftd init --tls node1=192.0.2.1 node2=192.0.2.2 node3=192.0.2.3
      three hosts; type the same on each of them
  raftd init node1=localhost node2=localhost node3=localhost
      three nodes on this host, to try things out
"""


@click.command(short_help="Write the configurations of a new cluster.", epilog=_EXAMPLES)
@click.argument("nodes", nargs=-1, metavar="[NAME=ADDRESS]...")
@click.option(
    "--tls",
    is_flag=True,
    help="Nodes encrypt what they say, with what `raftd certificates` makes.",
)
@click.option(
    "--trust-network",
    is_flag=True,
    help="The network between the hosts is trusted: nodes do not encrypt what they say.",
)
@click.option(
    "--cluster",
    metavar="LABEL",
    default="",
    help="Sets clusters apart that have the same names and addresses.",
)
@click.option(
    "--directory",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the files of all hosts there, to be copied. Default: those of this host, to "
    f"{places.SYSTEM_CONFIGURATION} (for other users than root: to their own directory).",
)
@click.option("--force", is_flag=True, help="Replace files that are there; they are kept as .old.")
def init(
    nodes: tuple[str, ...],
    tls: bool,
    trust_network: bool,
    cluster: str,
    directory: Path | None,
    force: bool,
) -> None:
    """Write the configurations of a new cluster.

    NAME is that of a node, ADDRESS where the others reach it: a host name or an IP address, with a
    port (node1=192.0.2.1:7100) or without, for 7001 and, on the same host, the following ones.

    Without nodes it asks for them. Three nodes survive the failure of one, five that of two.
    """
    if tls and trust_network:
        raise click.UsageError(
            "--tls and --trust-network exclude each other: with one nodes encrypt what they say, "
            "with the other they do not"
        )
    if not nodes and not sys.stdin.isatty():
        raise click.UsageError("say which nodes, as in node1=192.0.2.1 node2=192.0.2.2 ...")
    given = nodes or tuple(hosts.ask())
    members = hosts.members(given, encrypted=tls)
    if trust_network and address.all_encrypted(members.values()):
        raise click.UsageError("these nodes encrypt what they say: leave --trust-network out")
    trusted = trust_network or hosts.ask_for_trust(members)
    here = [name for name, url in members.items() if hosts.is_here(url)]
    if directory is None and not here:
        raise click.UsageError(
            "none of these addresses is this host's; with --directory DIR, the files of all hosts "
            "are written there, to be copied"
        )
    written = here if directory is None else list(members)
    target = directory or places.configuration_directory()
    text = text_of(members, cluster, trusted)
    configs = [
        _written(target / f"{name}.toml", text, force, directory is None) for name in written
    ]
    for warning in configs[0].warnings:
        say.warning(warning.partition(": ")[2])
    for line in hosts.unknown(members):
        say.warning(line)
    _say_what_next(members, written, directory, _same_command(given, tls, trusted, cluster))


def _host(url: str) -> str:
    """As scp(1) wants it."""
    host = address.parse(url).host
    return f"[{host}]" if ":" in host else host


def _written(file: Path, text: str, force: bool, check_data: bool) -> Config:
    try:
        said = write(file, text, force=force, check_data=check_data)
    except Kept as kept:
        say.error(str(kept))
        sys.exit(2)
    click.echo(f"{file}  {said}")
    return load_or_exit(file)


def _same_command(given: tuple[str, ...], tls: bool, trusted: bool, cluster: str) -> str:
    words = ["raftd init", *given]
    if tls:
        words.insert(1, "--tls")
    if trusted:
        words.insert(1, "--trust-network")
    if cluster:
        words.insert(1, f"--cluster '{cluster}'")
    return " ".join(words)


def _say_what_next(
    members: dict[str, str], written: list[str], directory: Path | None, command: str
) -> None:
    count = len(members)
    spare = (count - 1) // 2
    survive = "no failure" if spare == 0 else "the failure of one" if spare == 1 else f"{spare}"
    click.echo(f"\n{count} node{'s' * (count > 1)}: the cluster survives {survive}. Next:\n")
    if any(address.parse(url).is_encrypted for url in members.values()):
        click.echo("  once, on one host; it says which files to copy to the others:")
        place = f"--directory {directory / 'tls'} " if directory else ""
        click.echo(f"  raftd certificates {place}{' '.join(members)}\n")
    if directory is not None:
        for name in written:
            click.echo(f"  scp {directory / name}.toml root@{_host(members[name])}:/etc/raftd/")
        click.echo("\n  and on each of these hosts, with the name of its node:")
        click.echo("  systemctl enable --now raftd@NAME")
    elif places.is_system(places.configuration_directory()):
        click.echo(f"  systemctl enable --now {' '.join(f'raftd@{name}' for name in written)}")
    else:
        for name in written:
            click.echo(f"  raftd run --config {places.configuration_directory() / name}.toml")
    others = [name for name in members if name not in written]
    if others:
        click.echo(f"\n  on the host{'s' * (len(others) > 1)} of {', '.join(others)}, likewise:")
        click.echo(f"  {command}")
    click.echo("\n  and then, on any of them:")
    click.echo(f"  raftctl{f' --node {written[0]}' if len(written) > 1 else ''} status")
