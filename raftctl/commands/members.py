"""`raftctl members`: who belongs to the cluster."""

from __future__ import annotations

import click

from raftctl import status_view, table
from raftctl.commands.status import fetch
from raftctl.options import Group, pass_session
from raftctl.session import Session
from raftctl.table import Cell, Column

_COLUMNS = (Column("MEMBER"), Column("ADDRESS"), Column("ROLE"), Column("CONTACT"))
_EXAMPLES = """
raftctl members
raftctl members list -o json | jq -r '.members[].address'
"""


@click.group(cls=Group, invoke_without_command=True, examples=_EXAMPLES)
@click.pass_context
def members(ctx: click.Context) -> None:
    """Show who belongs to the cluster."""
    if ctx.invoked_subcommand is None:
        _show(ctx.ensure_object(Session))


@members.command("list", examples=_EXAMPLES)
@pass_session
def list_members(session: Session) -> None:
    """List the members by name: address, role, and whether they answer."""
    _show(session)


def _show(session: Session) -> None:
    status = fetch(session)
    found = sorted(status["members"], key=lambda member: member["name"])
    if session.json:
        session.printer.json({"members": found})
        return
    rows = [
        [
            Cell(member["name"]),
            Cell(member["address"]),
            status_view.role(member),
            status_view.contact(member, status["node"]),
        ]
        for member in found
    ]
    printer = session.printer
    printer.lines(table.render(_COLUMNS, rows, printer.columns, printer.paint))
