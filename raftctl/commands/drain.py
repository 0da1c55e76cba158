"""`raftctl drain` and `raftctl undrain`: keep a member away from leadership, for maintenance."""

from __future__ import annotations

import click

from raftctl.completion import complete_members
from raftctl.options import Command, pass_session
from raftctl.session import Session
from raftctl.text import clean
from raftd.admin.protocol import NODE

_EXAMPLES = """
raftctl drain           this host's node: before an upgrade, or a reboot
raftctl drain node2     another one
raftctl undrain
"""


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("name", required=False, shell_complete=complete_members)
@click.option("--force", is_flag=True, help="Even if nobody is left who could lead.")
@pass_session
def drain(session: Session, name: str | None, force: bool) -> None:
    """Keep a member away from leadership.

    It hands leadership over if it has it, and does not take it again before `raftctl undrain`, not
    even after a restart. It goes on to vote and to store everything. `raftctl status` shows it.
    """
    who = _call(session, "Drain", name, {"force": True} if force else {})
    _say(session, who, drained=True, sentence=f"{who} is drained: it does not lead")


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("name", required=False, shell_complete=complete_members)
@pass_session
def undrain(session: Session, name: str | None) -> None:
    """Let a member lead again."""
    who = _call(session, "Undrain", name, {})
    _say(session, who, drained=False, sentence=f"{who} may lead again")


def _call(session: Session, method: str, name: str | None, more: dict[str, bool]) -> str:
    parameters: dict[str, object] = {"timeout_ms": session.timeout_ms, **more}
    if name is not None:
        parameters["name"] = name
    answer: str = session.call(f"{NODE}.{method}", parameters, changes=True)["name"]
    return answer


def _say(session: Session, who: str, *, drained: bool, sentence: str) -> None:
    if session.json:
        session.printer.json({"name": who, "drained": drained})
    else:
        session.printer.lines([clean(sentence)])
