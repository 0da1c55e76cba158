"""`raftctl leader`: who leads, and handing leadership over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from raftctl import status_view
from raftctl.commands.status import fetch
from raftctl.completion import complete_members
from raftctl.exit_codes import ExitCode
from raftctl.options import Group, pass_session
from raftctl.session import Session
from raftctl.text import clean
from raftd.admin.protocol import NODE

if TYPE_CHECKING:
    from raftctl.answers import Status

_EXAMPLES = """
raftctl leader
raftctl leader transfer node2     to node2, e.g. before node1 is rebooted
raftctl leader transfer           to whoever is best prepared
"""


@click.group(cls=Group, invoke_without_command=True, examples=_EXAMPLES)
@click.pass_context
def leader(ctx: click.Context) -> int | None:
    """Show the leader, or hand leadership over."""
    return _show(ctx.ensure_object(Session)) if ctx.invoked_subcommand is None else None


@leader.command(examples=_EXAMPLES)
@pass_session
def show(session: Session) -> int:
    """Show who leads, in which term, since when.

    The exit code is 4 if this node knows no leader.
    """
    return _show(session)


def _show(session: Session) -> int:
    answer = fetch(session)
    name = answer.get("leader")
    if session.json:
        since = answer.get("leader_since_ms")
        found = {"leader": name, "term": answer["term"], "leader_since_ms": since}
        session.printer.json(found | {"node": answer["node"]})
    else:
        status: Status = answer  # type: ignore[assignment]
        now_ms = time.time_ns() // 1_000_000
        session.printer.lines([clean(status_view.leader(status, now_ms))])
    return ExitCode.NO_QUORUM if name is None else ExitCode.OK


@leader.command(examples=_EXAMPLES)
@click.argument("name", required=False, shell_complete=complete_members)
@pass_session
def transfer(session: Session, name: str | None) -> None:
    """Hand leadership to another member.

    To NAME, or else to the one that is best prepared. Returns when the new leader leads. Writes
    wait meanwhile, and none is lost.
    """
    parameters: dict[str, str | int] = {"timeout_ms": session.timeout_ms}
    if name is not None:
        parameters["name"] = name
    answer = session.call(f"{NODE}.TransferLeadership", parameters, changes=True)
    if session.json:
        session.printer.json({"leader": answer["leader"]})
    else:
        session.printer.lines([clean(f"{answer['leader']} leads now")])
