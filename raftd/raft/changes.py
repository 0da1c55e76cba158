"""What an operator may ask of the members, and where that leads: configurations in, one out.

`target` says where a change leads, `first_step` what has to be in force on the way there: paper
section 6, "the cluster first switches to a transitional configuration we call joint consensus; once
the joint consensus has been committed, the system then transitions to the new configuration".
Nothing here knows of logs, peers or time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar, assert_never

import msgspec

from raftd.raft.configuration import Configuration

T = TypeVar("T")


class ChangeRefused(Exception):
    """The change makes no sense in the configuration in force; the message says why."""


class AddMember(msgspec.Struct, frozen=True, tag="add"):
    """Admit a learner; if `voter`, it becomes one when it has caught up."""

    name: str
    address: str
    voter: bool = True


class PromoteMember(msgspec.Struct, frozen=True, tag="promote"):
    """Make a learner a voter when it has caught up."""

    name: str


class DemoteMember(msgspec.Struct, frozen=True, tag="demote"):
    """Make a voter a learner, or take back that a learner is to be promoted."""

    name: str


class RemoveMember(msgspec.Struct, frozen=True, tag="remove"):
    name: str


class ReplaceMember(msgspec.Struct, frozen=True, tag="replace"):
    """Admit `by`; when it has caught up it takes the place of `name`, in one step."""

    name: str
    by: str
    address: str


class SetAddress(msgspec.Struct, frozen=True, tag="set-address"):
    name: str
    address: str


Change = AddMember | PromoteMember | DemoteMember | RemoveMember | ReplaceMember | SetAddress


class _Draft:
    """A configuration that is being changed."""

    def __init__(self, members: Configuration) -> None:
        self.voters = set(members.voters)
        self.learners = set(members.learners)
        self.addresses = dict(members.addresses)
        self.since = dict(members.since)
        self.promotions = dict(members.promotions)

    def admit(self, name: str, address: str, index: int) -> None:
        self.learners.add(name)
        self.addresses[name] = address
        self.since[name] = index

    def drop(self, name: str) -> None:
        self.voters.discard(name)
        self.learners.discard(name)
        self.addresses.pop(name, None)
        self.since.pop(name, None)
        self.promotions.pop(name, None)
        for successor, old in self.promotions.items():
            if old == name:
                self.promotions[successor] = ""

    def finish(self) -> Configuration:
        return Configuration(
            tuple(sorted(self.voters)),
            (),
            tuple(sorted(self.learners)),
            self.addresses,
            self.since,
            self.promotions,
        )


def target(members: Configuration, change: Change, index: int) -> Configuration:
    """What `change` makes of `members`, which are not joint. `index`: that of the entry that will
    say so, for whom it admits. Raises ChangeRefused."""
    assert not members.is_joint, "one change at a time"
    draft = _Draft(members)
    match change:
        case AddMember():
            _add(draft, members, change, index)
        case PromoteMember():
            _promote(draft, members, change)
        case DemoteMember():
            _demote(draft, members, change)
        case RemoveMember():
            _demand(members, change.name)
            draft.drop(change.name)
        case ReplaceMember():
            _replace(draft, members, change, index)
        case SetAddress():
            _set_address(draft, members, change)
        case _:
            assert_never(change)
    if not draft.voters:
        raise ChangeRefused(f"{change.name} is the last voter: a cluster needs one")
    return draft.finish()


def _add(draft: _Draft, members: Configuration, change: AddMember, index: int) -> None:
    _demand_new(members, change.name)
    _demand_free(members, None, change.address)
    draft.admit(change.name, change.address, index)
    if change.voter:
        draft.promotions[change.name] = ""


def _promote(draft: _Draft, members: Configuration, change: PromoteMember) -> None:
    _demand(members, change.name)
    if change.name in members.voters:
        raise ChangeRefused(f"{change.name} is a voter already")
    if change.name in members.promotions:
        raise ChangeRefused(f"{change.name} is going to be a voter when it has caught up")
    draft.promotions[change.name] = ""


def _demote(draft: _Draft, members: Configuration, change: DemoteMember) -> None:
    _demand(members, change.name)
    if change.name not in members.voters and change.name not in members.promotions:
        raise ChangeRefused(f"{change.name} is a learner already")
    draft.promotions.pop(change.name, None)
    draft.voters.discard(change.name)
    draft.learners.add(change.name)


def _set_address(draft: _Draft, members: Configuration, change: SetAddress) -> None:
    _demand(members, change.name)
    _demand_free(members, change.name, change.address)
    if members.addresses.get(change.name) == change.address:
        raise ChangeRefused(f"{change.name} has that address already")
    draft.addresses[change.name] = change.address


def _replace(draft: _Draft, members: Configuration, change: ReplaceMember, index: int) -> None:
    _demand(members, change.name)
    if change.by == change.name:
        raise ChangeRefused(
            f"a member cannot replace itself: remove {change.name}, then add it again, or give the"
            " new one another name"
        )
    if change.name in members.promotions.values():
        raise ChangeRefused(f"{change.name} is being replaced already")
    _demand_new(members, change.by)
    _demand_free(members, change.name, change.address)
    draft.admit(change.by, change.address, index)
    if change.name in members.voters:
        draft.promotions[change.by] = change.name
        return
    if change.name in members.promotions:
        draft.promotions[change.by] = members.promotions[change.name]
    draft.drop(change.name)


def no_member(name: str) -> str:
    """Why a change of somebody who is no member is refused."""
    return f"there is no member {name}"


def promoted(members: Configuration, name: str) -> Configuration:
    """The learner `name` is a voter, and whom it replaces is gone."""
    draft = _Draft(members)
    replaced = draft.promotions.pop(name)
    draft.learners.discard(name)
    draft.voters.add(name)
    if replaced:
        draft.drop(replaced)
    return draft.finish()


def first_step(members: Configuration, new: Configuration) -> Configuration:
    """What has to be in force on the way to `new`: C_old,new if the voters differ, else `new`."""
    if new.voters == members.voters:
        return new
    return msgspec.structs.replace(
        new,
        outgoing_voters=members.voters,
        addresses={**_only(members.addresses, members.voters), **new.addresses},
        since={**_only(members.since, members.voters), **new.since},
    )


def last_step(joint: Configuration) -> Configuration:
    """C_new: the joint configuration without its old half."""
    staying = (*joint.voters, *joint.learners)
    return msgspec.structs.replace(
        joint,
        outgoing_voters=(),
        addresses=_only(joint.addresses, staying),
        since=_only(joint.since, staying),
    )


def _only(mapping: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    return {name: value for name, value in mapping.items() if name in names}


def _demand(members: Configuration, name: str) -> None:
    if name not in members.members:
        raise ChangeRefused(no_member(name))


def _demand_new(members: Configuration, name: str) -> None:
    if name in members.members:
        raise ChangeRefused(
            f"{name} is a member already; a node whose data is lost is removed first, then added"
        )


def _demand_free(members: Configuration, name: str | None, address: str) -> None:
    for other in members.members:
        if other != name and members.addresses.get(other) == address:
            raise ChangeRefused(f"{address} is the address of {other}")
