"""`raftd run --config FILE`: one node, in the foreground, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from raftd import logs, places
from raftd.cli import say
from raftd.cli.check_config import CONFIGURATION_FILE, load_or_exit


@click.command(short_help="Run one node.")
@click.option(
    "--config",
    "file",
    metavar="FILE",
    type=CONFIGURATION_FILE,
    help="The configuration of the node. Default: the only one in /etc/raftd, or, for other users "
    "than root, in their own configuration directory.",
)
def run(file: Path | None) -> None:
    """Run one node in the foreground until SIGTERM or Ctrl-C; SIGHUP reads the log levels again."""
    config = load_or_exit(file or only_configuration())
    logs.configure(config.log, node=config.name)
    for warning in config.warnings:
        logging.getLogger("raftd.server").warning(warning)
    from raftd import server  # noqa: PLC0415 - a mistake in the file is told before all this loads

    sys.exit(server.run(config))


def only_configuration() -> Path:
    """The one configuration where they are looked for. Exits with 2 if it is not one."""
    directory = places.configuration_directory()
    files = sorted(directory.glob("*.toml"))
    if len(files) == 1:
        return files[0]
    say.error(f"{len(files) or 'no'} configurations in {directory}; name one with --config FILE")
    sys.exit(2)
