"""`raftctl version`: of this program and of the daemon."""

from __future__ import annotations

import click

from raftctl.failure import Failure
from raftctl.options import Command, pass_session
from raftctl.session import Session
from raftctl.text import clean
from raftd import __version__
from raftd.admin.protocol import NODE


@click.command(cls=Command)
@pass_session
def version(session: Session) -> None:
    """Show the versions of raftctl and of the daemon it talks to.

    Without a daemon it shows its own and ends with 3 (raftctl --version asks no daemon).
    """
    printer = session.printer
    try:
        answer = session.call(f"{NODE}.GetVersion")
    except Failure:
        if session.json:
            printer.json({"client": __version__, "daemon": None, "node": None})
        else:
            printer.lines([f"raftctl  {__version__}"])
        raise
    if session.json:
        daemon = {"daemon": answer["version"], "node": answer["node"]}
        printer.json({"client": __version__} | daemon)
    else:
        daemon_line = f"raftd    {answer['version']}, node {answer['node']}"
        printer.lines([f"raftctl  {__version__}", clean(daemon_line)])
