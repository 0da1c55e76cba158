"""`raftctl members`: who belongs to the cluster, and changes of that."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from raftctl import change_view, status_view, table
from raftctl.commands.status import fetch
from raftctl.completion import complete_members
from raftctl.exit_codes import ExitCode
from raftctl.failure import Failure
from raftctl.options import Group, pass_session
from raftctl.session import Session
from raftctl.table import Cell, Column
from raftctl.text import clean
from raftd.admin.protocol import NODE

if TYPE_CHECKING:
    from raftctl.answers import Change

F = TypeVar("F", bound=Callable[..., Any])

_COLUMNS = (Column("MEMBER"), Column("ADDRESS"), Column("ROLE"), Column("CONTACT"))
_EXAMPLES = """
raftctl members
raftctl members list -o json | jq -r '.members[].address'
raftctl members add node4 tls+tcp://192.0.2.4:7001 > node4.toml
raftctl members replace node3 node4 tls+tcp://192.0.2.4:7001 > node4.toml
raftctl members remove node3 --dry-run
"""


@click.group(cls=Group, invoke_without_command=True, examples=_EXAMPLES)
@click.pass_context
def members(ctx: click.Context) -> None:
    """Show who belongs to the cluster, or change it.

    One change at a time; the cluster goes on working meanwhile. Any node takes the call.
    """
    if ctx.invoked_subcommand is None:
        _show(ctx.ensure_object(Session))


@members.command("list", examples=_EXAMPLES)
@pass_session
def list_members(session: Session) -> None:
    """List the members: address, role, contact."""
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


def _changes(command: F) -> F:
    """The options of all commands that change something."""
    dry_run = click.option(
        "--dry-run", is_flag=True, help="Say what it would mean; do nothing. Refusals count."
    )
    force = click.option(
        "--force", is_flag=True, help="Also if the cluster would lose its quorum for now."
    )
    return dry_run(force(command))


@members.command(examples=_EXAMPLES)
@click.argument("name")
@click.argument("address")
@click.option(
    "--voter/--learner",
    default=True,
    help="A learner gets everything and counts for nothing. Default: a voter.",
)
@_changes
@pass_session
def add(session: Session, /, name: str, address: str, voter: bool, **options: bool) -> None:
    """Admit a new member at ADDRESS.

    ADDRESS is tls+tcp://HOST:PORT, or tcp://HOST:PORT, where nothing is encrypted.

    It is a learner until it has caught up, and then becomes a voter by itself (with --learner it
    stays one). Prints the configuration file for the new host: start raftd there with it.
    """
    done = "{name} is admitted; it becomes a voter when it runs and has caught up"
    if not voter:
        done = "{name} is admitted as a learner"
    _change(session, "add", name, done, address=address, learner=not voter, **options)


@members.command(examples=_EXAMPLES)
@click.argument("name", shell_complete=complete_members)
@_changes
@pass_session
def promote(session: Session, /, name: str, **options: bool) -> None:
    """Make a learner a voter, once it has caught up."""
    _change(session, "promote", name, "{name} becomes a voter when it has caught up", **options)


@members.command(examples=_EXAMPLES)
@click.argument("name", shell_complete=complete_members)
@_changes
@pass_session
def demote(session: Session, /, name: str, **options: bool) -> None:
    """Make a voter a learner.

    It goes on to get everything, and counts for nothing.
    """
    _change(session, "demote", name, "{name} is a learner", **options)


@members.command(examples=_EXAMPLES)
@click.argument("name", shell_complete=complete_members)
@_changes
@pass_session
def remove(session: Session, /, name: str, **options: bool) -> None:
    """Remove a member, dead or alive. If it leads, it hands over.

    Its data directory is of no use afterwards: to come back, it is added again and starts with an
    empty one.
    """
    _change(session, "remove", name, "{name} is no member any more", **options)


@members.command(examples=_EXAMPLES)
@click.argument("old", shell_complete=complete_members)
@click.argument("new")
@click.argument("address")
@_changes
@pass_session
def replace(session: Session, /, old: str, new: str, address: str, **options: bool) -> None:
    """Put NEW, at ADDRESS, in the place of OLD.

    ADDRESS is tls+tcp://HOST:PORT, or tcp://HOST:PORT, where nothing is encrypted.

    NEW is a learner until it has caught up; then it is a voter, and OLD is no member any more, in
    one step. Prints the configuration file for the new host: start raftd there with it.
    """
    done = f"{new} is admitted; it takes the place of {{name}} when it runs and has caught up"
    _change(session, "replace", old, done, new_name=new, address=address, **options)


@members.command("set-address", examples=_EXAMPLES)
@click.argument("name", shell_complete=complete_members)
@click.argument("address")
@_changes
@pass_session
def set_address(session: Session, /, name: str, address: str, **options: bool) -> None:
    """Change where NAME is reached: at ADDRESS, from now on.

    ADDRESS is tls+tcp://HOST:PORT, or tcp://HOST:PORT, where nothing is encrypted.

    Where it listens is said by its own configuration file: change that, then this, then restart it.
    """
    done = f"{{name}} is expected at {address}"
    _change(session, "set_address", name, done, address=address, **options)


def _change(session: Session, action: str, name: str, done: str, **parameters: Any) -> None:
    given = {key: value for key, value in parameters.items() if value not in {None, False}}
    answer = session.call(
        f"{NODE}.ChangeMembers",
        {"action": action, "name": name, "timeout_ms": session.timeout_ms, **given},
        changes=not parameters["dry_run"],
    )
    change: Change = answer["report"]
    file = change.get("configuration_file")
    if session.json:
        session.printer.json(dict(change))
    else:
        # What the new host needs stands alone on standard output, so that it can go into a file.
        say = _to_stderr if action in {"add", "replace"} else session.printer.lines
        printer = session.printer
        say(change_view.lines(change, printer.columns, printer.paint))
        if change.get("index") is not None:
            say([clean(done.format(name=name))])
        elif not change.get("refused"):
            say(["nothing was done (--dry-run)"])
        if file:
            printer.text(file)
    refused = change.get("refused")
    if refused and change.get("index") is None:
        insist = "; --force does it all the same" if change["forcible"] else ""
        raise Failure(f"refused: {refused}{insist}", ExitCode.REFUSED)


def _to_stderr(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
