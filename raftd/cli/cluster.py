"""`raftd cluster`: a whole cluster on this host, one real process for each node.

Node N is called nodeN; all it has is in DIR/nodeN, its configuration and its socket too. The
configurations are written anew at each start. The addresses stay those of the first start, because
the nodes keep them in their logs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from raftd import address, settings
from raftd.cli.check_config import load_or_exit
from raftd.cli.supervisor import Child, supervise
from raftd.config import Config

DEFAULT_NODES = 3
DEFAULT_BASE_PORT = 7001
MAX_NODES = 9
CONFIGURATION = "raftd.toml"
SOCKET = "raftd.sock"


@click.command(short_help="Run a whole cluster on this host.")
@click.option(
    "--nodes",
    type=click.IntRange(1, MAX_NODES),
    help=f"How many nodes. Default: as many as DIR has, else {DEFAULT_NODES}.",
)
@click.option(
    "--data-dir",
    "directory",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Node N has its data in DIR/nodeN and its socket at DIR/nodeN/raftd.sock.",
)
@click.option(
    "--base-port",
    type=click.IntRange(1, 65535),
    help="Node N listens on 127.0.0.1, port BASE_PORT + N - 1. Default: that of the first start, "
    f"else {DEFAULT_BASE_PORT}.",
)
@click.option(
    "--election-timeout-ms",
    type=int,
    nargs=2,
    metavar="MIN MAX",
    help="A follower that hears nothing for a random time in this range stands for election.",
)
@click.option("--heartbeat-interval-ms", type=int, metavar="MS", help="Of an idle leader.")
@click.option("--log", metavar="LEVELS", help='As in "debug" or "info,raft=debug".')
def cluster(
    nodes: int | None,
    directory: Path,
    base_port: int | None,
    election_timeout_ms: tuple[int, int] | None,
    heartbeat_interval_ms: int | None,
    log: str | None,
) -> None:
    """Run a whole cluster on this host, in the foreground, until Ctrl-C or SIGTERM.

    A node that dies stays dead until the next start, which goes on with the same data.
    """
    directory = _usable(directory)
    nodes, base_port = _shape(directory, nodes, base_port)
    settings_given: dict[str, object] = {
        "election_timeout_ms": list(election_timeout_ms) if election_timeout_ms else None,
        "heartbeat_interval_ms": heartbeat_interval_ms,
        "log": log,
    }
    configs = _write_configurations(directory, nodes, base_port, settings_given)
    sys.exit(supervise([_child(config) for config in configs]))


def _usable(directory: Path) -> Path:
    """`directory` as an absolute path that can stand in a configuration and hold sockets."""
    directory = Path(os.path.abspath(directory))  # noqa: PTH100 - links stay
    try:
        settings.socket_path(str(directory / f"node{MAX_NODES}" / SOCKET))
    except settings.Wrong as wrong:
        raise click.BadParameter(
            f"sockets go there, but {wrong}", param_hint="--data-dir"
        ) from None
    return directory


def _shape(directory: Path, nodes: int | None, base_port: int | None) -> tuple[int, int]:
    """How many nodes on which ports: as asked for, and as the data in `directory` has it."""
    first = directory / "node1"
    if _names_in(first) - {CONFIGURATION, SOCKET}:
        members = load_or_exit(first / CONFIGURATION).members
        there = len(members), address.parse(members["node1"]).port
        if (nodes or there[0], base_port or there[1]) != there:
            raise click.UsageError(
                f"{directory} has the data of a cluster made with --nodes {there[0]} --base-port "
                f"{there[1]}; leave these options out, or take another --data-dir"
            )
        return there
    nodes, base_port = nodes or DEFAULT_NODES, base_port or DEFAULT_BASE_PORT
    if base_port + nodes - 1 > 65535:
        raise click.UsageError(f"port {base_port} leaves no room for {nodes}; take a lower one")
    return nodes, base_port


def _names_in(directory: Path) -> set[str]:
    """Of the files there; none if it is not there."""
    try:
        return {path.name for path in directory.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise click.UsageError(
            f"cannot look into {directory}: {error.strerror}; run it as who made the cluster, or "
            "take another --data-dir"
        ) from error


def _write_configurations(
    directory: Path, nodes: int, base_port: int, given: dict[str, object]
) -> list[Config]:
    """Write DIR/nodeN/raftd.toml for all nodes and read them back. Exits with 2 if that fails."""
    names = [f"node{number}" for number in range(1, nodes + 1)]
    members = {name: f"tcp://127.0.0.1:{base_port + n}" for n, name in enumerate(names)}
    files = []
    for name in names:
        own = directory / name
        values = {"name": name, "data_dir": str(own), "socket": str(own / SOCKET)} | given
        text = "# Written by `raftd cluster` at each start.\n"
        text += _toml(values) + "\n[members]\n" + _toml(members)
        try:
            own.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = own / f"{CONFIGURATION}.new"
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(own / CONFIGURATION)
        except OSError as error:
            raise click.UsageError(f"cannot write to {own}: {error.strerror}") from error
        files.append(own / CONFIGURATION)
    return [load_or_exit(file) for file in files]


def _toml(values: dict[str, object] | dict[str, str]) -> str:
    """Lines of TOML. A JSON string of printable characters is a TOML string too."""
    return "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in values.items()
        if value is not None
    )


def _child(config: Config) -> Child:
    command: Sequence[str] = (
        # -P: what lies in the working directory is not imported
        *(sys.executable, "-P", "-m", "raftd", "run", "--config", str(config.source)),
    )
    return Child(config.name, command, f"{config.listen}, socket {config.socket}")
