"""`raftd check-config FILE`: what a node would make of it, or everything that is wrong with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from raftd import credentials, logs
from raftd.cli import say
from raftd.config import Config, ConfigError, load
from raftd.credentials import CredentialsError

CONFIGURATION_FILE = click.Path(path_type=Path, readable=False)
"""That it cannot be read is said with all else that may be wrong with it, by `load_or_exit`."""


@click.command("check-config", short_help="Check a configuration.")
@click.argument("file", type=CONFIGURATION_FILE)
def check_config(file: Path) -> None:
    """Check a configuration FILE and show what it comes to. Exit status 2 if it cannot be used."""
    config = load_or_exit(file)
    for warning in config.warnings:
        say.warning(warning)
    if config.tls is not None:
        try:
            own = credentials.load(config.tls, config.name)
        except CredentialsError as error:
            say.error(str(error))
            sys.exit(2)
        if own.warning is not None:
            say.warning(own.warning)
    width = max(len(key) for key, _ in _rows(config))
    for key, value in _rows(config):
        click.echo(f"{key:{width}}  {value}")


def load_or_exit(file: Path) -> Config:
    """The configuration in `file`, with RAFTD_LOG checked as well; else say why not and exit 2."""
    try:
        config = load(file)
        logs.parse(os.environ.get(logs.VARIABLE) or config.log)
    except ConfigError as error:
        for problem in error.problems:
            say.error(problem)
        sys.exit(2)
    except logs.LogSpecError as error:
        say.error(f"{logs.VARIABLE}: {error}")
        sys.exit(2)
    return config


def _rows(config: Config) -> Iterator[tuple[str, object]]:
    yield "file", config.source
    yield "name", config.name
    if config.cluster:
        yield "cluster", config.cluster
    if config.join:
        yield (
            "join",
            f"cluster {config.join.cluster_id.hex()}, admitted by entry {config.join.index}",
        )
    for name, address in config.members.items():
        yield "member", f"{name} at {address}{' (this node)' if name == config.name else ''}"
    yield "listen", config.listen
    if config.tls is not None:
        for key, value in msgspec.structs.asdict(config.tls).items():
            yield f"tls.{key}", value
    yield "data_dir", config.data_dir
    yield "socket", config.socket
    yield "socket_group", config.socket_group or "that of the process"
    yield "election_timeout_ms", "{} to {}".format(*config.election_timeout_ms)
    yield "heartbeat_interval_ms", config.heartbeat_interval_ms
    yield "check_interval_ms", config.check_interval_ms
    yield "priority", config.priority
    yield "log", config.log
    for key, value in msgspec.structs.asdict(config.limits).items():
        yield f"limits.{key}", value
