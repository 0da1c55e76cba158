"""`raftctl reseed`: a new state for a node whose own is not to be believed."""

from __future__ import annotations

import click

from raftctl import units
from raftctl.options import Command, pass_session
from raftctl.session import Session
from raftd.admin.protocol import SNAPSHOTS


@click.command(cls=Command, examples="raftctl --node node2 reseed")
@pass_session
def reseed(session: Session) -> None:
    """Replace this node's state by the leader's.

    For a node that says that its state differs from the cluster's. Its term, vote and log stay;
    the state machine's view is thrown away and comes anew from the leader.
    """
    session.timeout = session.timeout or 3600.0
    answer = session.call(f"{SNAPSHOTS}.Reseed", changes=True)["snapshot"]
    if session.json:
        session.printer.json({"snapshot": answer})
        return
    size = units.size(answer["size"])
    session.printer.lines(
        [f"this node has the leader's state up to entry {answer['last_included_index']}, {size}"]
    )
