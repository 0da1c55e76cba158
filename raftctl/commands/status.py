"""`raftctl status`: one look."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from raftctl import status_view
from raftctl.exit_codes import ExitCode
from raftctl.options import Command, pass_session
from raftctl.session import Session
from raftd.admin.protocol import NODE

if TYPE_CHECKING:
    from raftctl.answers import Status

_ASKING_AROUND_MS = 1000
"""However long we would wait for the daemon itself: who has not answered it by then is down."""
_EXAMPLES = """
raftctl status
raftctl status || mail -s 'the cluster cannot write' root
raftctl status -o json | jq -r '.must_not_stop[]'
"""


def fetch(session: Session) -> dict[str, Any]:
    """What the daemon says about the cluster, as it says it."""
    timeout_ms = min(session.timeout_ms, _ASKING_AROUND_MS)
    status = session.call(f"{NODE}.GetStatus", {"timeout_ms": timeout_ms})["status"]
    assert isinstance(status, dict)
    return status


@click.command(cls=Command, examples=_EXAMPLES)
@pass_session
def status(session: Session) -> int:
    """Show whether the cluster can write, and how its members are.

    \b
    Can write      now, through any node; if not, why not
    Leader         who leads, in which term, since when
    May fail       how many more voters may fail before nothing can be written
    Must not stop  whose stop would take the quorum away now

    Per member: CONTACT is when it last answered, MATCH the last index it is known to
    share with the leader, BEHIND how many entries it lacks, LOG the indexes it stores.

    Works without a quorum, too, and then says what this node knows. The exit code is 0 if
    the cluster can write, and 4 if it cannot.
    """
    answer = fetch(session)
    printer = session.printer
    if session.json:
        printer.json(answer)
    else:
        shape: Status = answer  # type: ignore[assignment]
        now_ms = time.time_ns() // 1_000_000
        printer.lines(status_view.lines(shape, printer.columns, printer.paint, now_ms))
    return ExitCode.OK if answer["writable"] else ExitCode.NO_QUORUM
