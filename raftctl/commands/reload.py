"""`raftctl reload`: new log levels without a restart."""

from __future__ import annotations

import click

from raftctl.options import Command, pass_session
from raftctl.session import Session
from raftd.admin.protocol import NODE


@click.command(cls=Command, examples="raftctl --node node1 reload")
@pass_session
def reload(session: Session) -> None:
    """Let the daemon read its log levels again.

    They are those of its configuration file; everything else in it needs a restart.
    """
    answer = session.call(f"{NODE}.Reload", changes=True)
    if session.json:
        session.printer.json(answer)
    else:
        session.printer.lines(["the log levels have been read again"])
