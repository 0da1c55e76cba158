"""`raftctl init`: hands over to `raftd init`, which knows configurations."""

from __future__ import annotations

import os
import shutil
import sys

import click

from raftctl.exit_codes import ExitCode
from raftctl.failure import Failure
from raftctl.options import Command

_EXAMPLES = """
raftctl init
raftctl init --tls node1=192.0.2.1 node2=192.0.2.2 node3=192.0.2.3
"""


@click.command(
    cls=Command,
    examples=_EXAMPLES,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[NAME=ADDRESS]...")
def init(arguments: tuple[str, ...]) -> None:
    """Write the configurations of a new cluster.

    The same as raftd init, which has more options; no daemon needs to run. Type it on each of the
    hosts, with the names and addresses of all nodes, or without any: then it asks.
    """
    beside = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120 - no pathlib
    raftd = shutil.which("raftd", path=f"{beside}:/usr/sbin:{os.environ.get('PATH', '')}")
    if raftd is None:
        raise Failure("there is no raftd on this host, and it has the `init`", ExitCode.FAILED)
    os.execv(raftd, [raftd, "init", *arguments])  # noqa: S606 - our own command
