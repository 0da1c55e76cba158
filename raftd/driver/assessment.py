"""What a change of the members would mean: quorums before and after, and what speaks against it.

A judgement of the leader's, from what it has heard lately. `refused` without `forcible` stands
whatever anybody says; else an operator may know better, for instance that a host is about to be
back. Safety is not decided here: a change that cannot be committed only stops the cluster.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raftd.driver.reports import ChangeReport, QuorumReport
from raftd.raft import changes, membership, quorum
from raftd.raft.changes import (
    AddMember,
    Change,
    ChangeRefused,
    PromoteMember,
    ReplaceMember,
    SetAddress,
)
from raftd.raft.configuration import Configuration
from raftd.raft.server import Server


def assess(server: Server, now: float, change: Change) -> ChangeReport:
    """`server` leads. What the change comes to in the end, once new members have caught up."""
    members = server.configuration
    answers = _answers(server, now)
    before = _quorum(members, answers)
    report = ChangeReport(before, before)
    refused = membership.under_way(server)
    if refused is not None:
        return msgspec.structs.replace(report, refused=f"{refused}: one change at a time")
    try:
        new = changes.target(members, change, server.log.last_index + 1)
    except ChangeRefused as refusal:
        return msgspec.structs.replace(report, refused=str(refusal))
    coming = _coming(change)
    if coming is not None and coming in new.promotions:
        new = changes.promoted(new, coming)

    def will_answer(name: str) -> bool:
        if name == coming:
            return True  # else it is never promoted
        return answers(name) and not (isinstance(change, SetAddress) and name == change.name)

    after = _quorum(new, will_answer)
    report = msgspec.structs.replace(report, after=after, warnings=_warnings(change, before, after))
    if len(after.answering) < after.quorum:
        reason = _no_quorum_left(change, after)
        return msgspec.structs.replace(report, refused=reason, forcible=True)
    return report


def _answers(server: Server, now: float) -> Callable[[str], bool]:
    oldest = now - server.settings.election_timeout[0]

    def answers(name: str) -> bool:
        progress = server.progress.get(name)
        return name == server.name or (
            progress is not None and progress.answers and progress.last_contact >= oldest
        )

    return answers


def _quorum(members: Configuration, answers: Callable[[str], bool]) -> QuorumReport:
    needed = quorum.size(members.voters)
    answering = tuple(name for name in members.voters if answers(name))
    return QuorumReport(
        members.voters,
        members.learners,
        needed,
        len(members.voters) - needed,
        answering,
        max(0, len(answering) - needed),
    )


def _coming(change: Change) -> str | None:
    """Who is a voter in the end and was none before."""
    match change:
        case AddMember() | PromoteMember():
            return change.name
        case ReplaceMember():
            return change.by
    return None


def _no_quorum_left(change: Change, after: QuorumReport) -> str:
    who = ", ".join(after.answering) or "none"
    verb = "answer" if len(after.answering) > 1 else "answers"
    text = (
        f"the cluster would lose its quorum: of the voters then ({', '.join(after.voters)}) only"
        f" {who} {verb}, and {after.quorum} are needed"
    )
    if isinstance(change, SetAddress):
        text += f", if {change.name} cannot be reached at {change.address}"
    return text


def _warnings(change: Change, before: QuorumReport, after: QuorumReport) -> tuple[str, ...]:
    found: list[str] = []
    if after.voters != before.voters and len(after.voters) % 2 == 0:
        found.append(
            f"{len(after.voters)} voters survive no more failures than {len(after.voters) - 1}"
        )
    if after.may_fail < before.may_fail:
        count = "no failure" if after.may_fail == 0 else f"{after.may_fail} at a time"
        found.append(f"of failures from now on, {count} would be survived ({before.may_fail} now)")
    silent = [name for name in after.voters if name not in after.answering]
    if silent and not isinstance(change, SetAddress):
        found.append(f"no answer from {', '.join(silent)} now")
    if isinstance(change, SetAddress):
        found.append(
            f"{change.name} has to listen there: its own configuration file says where (listen)"
        )
    return tuple(found)
