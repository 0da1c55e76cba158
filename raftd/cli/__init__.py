"""The command line of the daemon, and of the tools for nodes that are stopped."""

from __future__ import annotations

import click

from raftd import __version__
from raftd.cli.certificates import certificates
from raftd.cli.check_config import check_config
from raftd.cli.cluster import cluster
from raftd.cli.init import init
from raftd.cli.inspect import inspect
from raftd.cli.recover import recover
from raftd.cli.repair import repair
from raftd.cli.restore import restore
from raftd.cli.run import run

EXIT_STATUSES = """\
  0  stopped in order
  1  unexpected failure
  2  bad configuration or usage
  3  the data directory is locked by another daemon
  4  data directory or backup damaged, or of another version, node or cluster
  5  a write or fsync failed
  6  an address or socket is in use, or cannot be listened on
  7  no space on the disk to start with; it can be started again
"""
_EPILOG = f"""\b
Exit statuses:
{EXIT_STATUSES}
\b
Environment:
  RAFTD_LOG  log levels, before those of the configuration: debug, or
             info,raft=debug (modules: raft storage transport admin kv
             driver server)
  RAFTD_STATE_TRACE  a directory for traces of the algorithm's steps, before
             state_trace of the configuration
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="raftd", message="%(prog)s %(version)s")
def cli() -> None:
    """A Raft consensus daemon: a replicated log and key-value store on 3 to 7 hosts.

    \b
    To try it out, as anybody:  raftd cluster --data-dir /tmp/demo
    On real hosts, as root:     raftd init
                                systemctl enable --now raftd@NODE
    To look at it and use it:   raftctl status; raftctl --help
    """


cli.add_command(run)
cli.add_command(cluster)
cli.add_command(init)
cli.add_command(certificates)
cli.add_command(check_config)
cli.add_command(inspect)
cli.add_command(repair)
cli.add_command(recover)
cli.add_command(restore)


def main() -> None:
    cli(prog_name="raftd")
