"""Changing the members while the cluster works, a leader's part (paper section 6; thesis 4.2).

A change of the voters goes through joint consensus: `begin` appends C_old,new, and when that is
committed `go_on` appends C_new. It rests on nothing but the log, so a leader that inherits half a
change finishes it. Changes that leave the voters alone take one entry. There is one change at a
time, and none before an entry of the leader's own term is committed.
"""

from __future__ import annotations

from raftd.raft import append_entries, changes
from raftd.raft.changes import Change
from raftd.raft.configuration import Configuration, encode
from raftd.raft.log import EntryType
from raftd.raft.progress import Progress
from raftd.raft.server import Server


def under_way(server: Server) -> str | None:
    """Why a leader cannot begin a change now; None: it can."""
    if server.commit_index < server.term_start_index:
        # Else two leaders could each begin a change from a configuration that the other has left
        # (raft-dev, July 2015: "bug in single-server membership changes").
        return f"{server.name} has not committed an entry of its own term yet"
    index, members = server.configurations[-1]
    if members.is_joint or index > server.commit_index:
        return f"the change of members in entry {index} is still under way"
    return None


def begin(server: Server, now: float, change: Change) -> int:
    """Append the first step of `change`, at the index returned; `under_way` has been asked. Raises
    ChangeRefused."""
    assert under_way(server) is None
    members = server.configuration
    new = changes.target(members, change, server.log.last_index + 1)
    return _adopt(server, now, changes.first_step(members, new))


def go_on(server: Server, now: float) -> None:
    """What a leader does by itself: leave the joint configuration, promote who has caught up."""
    index, members = server.configurations[-1]
    if not members.is_joint and not members.promotions:
        return
    if server.transfer is not None or server.commit_index < max(index, server.term_start_index):
        return
    if members.is_joint:
        _adopt(server, now, changes.last_step(members))
        return
    for name in sorted(members.promotions):
        if _has_caught_up(server, now, server.progress.get(name)):
            server.note(f"promotes {name}, which has caught up", "info")
            _adopt(server, now, changes.first_step(members, changes.promoted(members, name)))
            return


def must_go(server: Server) -> bool:
    """Section 6: "the leader steps down (returns to follower state) once it has committed the C_new
    log entry"; until then it manages a cluster without counting itself."""
    index, members = server.configurations[-1]
    return not members.is_voter(server.name) and server.commit_index >= max(
        index, server.term_start_index
    )


def _adopt(server: Server, now: float, members: Configuration) -> int:
    """In force from now on: "once a given server adds the new configuration entry to its log, it
    uses that configuration for all future decisions" (section 6)."""
    index = append_entries.append(server, EntryType.CONFIGURATION, (encode(members),), members)
    text = f"appends members {describe(members)} as entry {index}"
    server.note(text, "info", event="member-changed")
    for name in server.peers:
        if name not in server.progress:
            server.progress[name] = Progress(index, now)
    for name in set(server.progress) - set(server.peers):
        del server.progress[name]
    return index


def _has_caught_up(server: Server, now: float, progress: Progress | None) -> bool:
    """Thesis 4.2.1: replication "is split into rounds; each round replicates all the log entries
    present in the leader's log at the start of the round"; a new server has caught up when a round
    lasted "less than an election timeout"."""
    timeout = server.settings.election_timeout[0]
    if progress is None or not progress.answers or now - progress.last_contact >= timeout:
        return False
    if progress.round_end == 0:
        progress.round_end, progress.round_started = server.log.last_index, now
    if progress.match_index < progress.round_end:
        return False
    was_quick = now - progress.round_started < timeout
    progress.round_end, progress.round_started = server.log.last_index, now
    return was_quick


def describe(members: Configuration) -> str:
    """For people: both halves, learners, and who is to be promoted."""
    text = ", ".join(members.voters) or "nobody"
    if members.is_joint:
        text = f"{', '.join(members.outgoing_voters)} -> {text}"
    if members.learners:
        text += f"; learners {', '.join(_learner(members, name) for name in members.learners)}"
    return text


def _learner(members: Configuration, name: str) -> str:
    if name not in members.promotions:
        return name
    old = members.promotions[name]
    return f"{name} (to replace {old})" if old else f"{name} (to be a voter)"
