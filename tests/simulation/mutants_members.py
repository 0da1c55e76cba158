"""Mutations of how members change (paper section 6; thesis 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftd.raft import append_entries, changes, membership, quorum, raft
from raftd.raft.configuration import Configuration
from raftd.raft.server import Server
from raftd.raft.state import SnapshotMetadata
from tests.simulation.mutations import Patches, mutation


@mutation("voters change without a joint configuration")
def no_joint_configuration(patches: Patches) -> None:
    patches.set(changes, "first_step", lambda members, new: new)


@mutation("in a joint configuration the newer half alone decides")
def newer_half_alone_decides(patches: Patches) -> None:
    def has_majority(members: Configuration, agrees: Callable[[str], bool]) -> bool:
        return sum(1 for name in members.voters if agrees(name)) >= quorum.size(members.voters)

    def committed(members: Configuration, match_index: Callable[[str], int]) -> int:
        order = sorted(map(match_index, members.voters), reverse=True)
        return order[quorum.size(members.voters) - 1]

    patches.set(quorum, "has_majority", has_majority)
    patches.set(quorum, "committed", committed)


@mutation("in a joint configuration the older half alone commits")
def older_half_alone_commits(patches: Patches) -> None:
    def committed(members: Configuration, match_index: Callable[[str], int]) -> int:
        half = members.outgoing_voters or members.voters
        return sorted(map(match_index, half), reverse=True)[quorum.size(half) - 1]

    patches.set(quorum, "committed", committed)


@mutation("in a joint configuration a majority of all together decides")
def joint_halves_are_one(patches: Patches) -> None:
    def has_majority(members: Configuration, agrees: Callable[[str], bool]) -> bool:
        voters = {*members.voters, *members.outgoing_voters}
        return bool(voters) and sum(map(agrees, voters)) >= quorum.size(voters)

    def committed(members: Configuration, match_index: Callable[[str], int]) -> int:
        voters = {*members.voters, *members.outgoing_voters}
        return sorted(map(match_index, voters), reverse=True)[quorum.size(voters) - 1]

    patches.set(quorum, "has_majority", has_majority)
    patches.set(quorum, "committed", committed)


@mutation("a leader that is no voter counts itself")
def removed_leader_counts_itself(patches: Patches) -> None:
    def advance(server: Server) -> None:
        members = server.configuration
        if members.is_voter(server.name):
            original(server)
            return
        fake = Configuration((*members.voters, server.name), members.outgoing_voters)
        kept, server.configurations = server.configurations, [(0, fake)]
        original(server)
        server.configurations = kept

    original = patches.set(append_entries, "advance_commit_index", advance)


@mutation("learners are counted for commits")
def learner_counted(patches: Patches) -> None:
    def committed(members: Configuration, match_index: Callable[[str], int]) -> int:
        fake = Configuration((*members.voters, *members.learners), members.outgoing_voters)
        order = sorted(map(match_index, fake.voters), reverse=True)
        return (
            order[quorum.size(members.voters) - 1]
            if members.learners
            else original(members, match_index)
        )

    original = patches.set(quorum, "committed", committed)


@mutation("a learner stands for election")
def learner_campaigns(patches: Patches) -> None:
    patches.set(
        Server,
        "may_campaign",
        property(lambda self: self.may_lead and self.name in self.configuration.members),
    )


@mutation("who is removed goes on standing for election")
def removed_node_campaigns(patches: Patches) -> None:
    patches.set(Server, "is_removed", property(lambda self: False))

    def may_campaign(self: Server) -> bool:
        return self.may_lead and any(m.is_voter(self.name) for _, m in self.configurations)

    patches.set(Server, "may_campaign", property(may_campaign))


@mutation("the next change does not wait for the one before")
def several_changes_at_once(patches: Patches) -> None:
    def under_way(server: Server) -> str | None:
        if server.commit_index < server.term_start_index or server.configuration.is_joint:
            return "not yet"
        return None

    patches.set(membership, "under_way", under_way)


@mutation("a new leader changes members before its no-op is committed (July 2015)")
def change_before_the_no_op(patches: Patches) -> None:
    def under_way(server: Server) -> str | None:
        index, members = server.configurations[-1]
        return "not yet" if members.is_joint or index > server.commit_index else None

    patches.set(membership, "under_way", under_way)


@mutation("the joint configuration is left before it is committed")
def leaves_joint_too_early(patches: Patches) -> None:
    def go_on(server: Server, now: float) -> None:
        if server.configuration.is_joint and server.transfer is None:
            membership._adopt(server, now, changes.last_step(server.configuration))
        original(server, now)

    original = patches.set(membership, "go_on", go_on)


@mutation("a new leader forgets a joint configuration that it inherited (liveness)")
def inherited_change_is_not_finished(patches: Patches) -> None:
    def go_on(server: Server, now: float) -> None:
        index, members = server.configurations[-1]
        if not (members.is_joint and server.log.term(index) != server.current_term):
            original(server, now)

    original = patches.set(membership, "go_on", go_on)


@mutation("a leader that is removed leads on")
def removed_leader_stays(patches: Patches) -> None:
    patches.set(membership, "must_go", lambda server: False)


@mutation("a new member gets no entries until there is another leader (liveness)")
def new_members_are_not_fed(patches: Patches) -> None:
    def adopt(server: Server, now: float, members: Configuration) -> Any:
        known = dict(server.progress)
        entry = original(server, now, members)
        for name in set(server.progress) - set(known):
            del server.progress[name]
        return entry

    original = patches.set(membership, "_adopt", adopt)


@mutation("a snapshot has the newest configuration, committed or not")
def snapshot_with_a_pending_configuration(patches: Patches) -> None:
    def taken(self: raft.Raft, now: float, metadata: SnapshotMetadata, compact_index: int) -> None:
        newest = self.server.configurations[-1]
        original(self, now, metadata, compact_index)
        if newest[0] > metadata.last_included_index:
            self.server.configurations = [(metadata.last_included_index, newest[1])]

    original = patches.set(raft.Raft, "snapshot_taken", taken)


@mutation("the votes of somebody whose membership is over still elect")
def old_voters_still_elect(patches: Patches) -> None:
    def has_majority(members: Configuration, agrees: Callable[[str], bool]) -> bool:
        everybody = [name for name in (*members.members, *_gone) if agrees(name)]
        _gone.update(members.outgoing_voters)
        return bool(members.voters) and len(everybody) >= quorum.size(members.voters)

    _gone: set[str] = set()
    patches.set(quorum, "has_majority", has_majority)
