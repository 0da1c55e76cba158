"""Who belongs to the cluster: voters, learners, and both halves of a joint configuration.

Paper section 6: while `outgoing_voters` is not empty the configuration is joint (C_old,new) and
every decision needs a majority of both halves. A learner receives entries and counts for nothing;
no voter of the newer half is a learner, but a voter that is going to be one is both while the
configuration is joint.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Configuration(msgspec.Struct, frozen=True):
    """The members of a cluster, by name. `addresses` has one dialable URL for each of them.

    `since`: the index of the CONFIGURATION entry that admitted a member, its **membership index**;
    a member of the initial configuration has none, which counts as 0. A name that comes back has
    another one. `promotions`: learners that become voters as soon as they have caught up, each
    with the name of the member that it replaces then, or an empty string.
    """

    voters: tuple[str, ...]
    outgoing_voters: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    addresses: Mapping[str, str] = {}
    since: Mapping[str, int] = {}
    promotions: Mapping[str, str] = {}

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing_voters)

    @property
    def members(self) -> tuple[str, ...]:
        """Every member that receives entries, voter or not, in the order of their names."""
        return tuple(sorted({*self.voters, *self.outgoing_voters, *self.learners}))

    def is_voter(self, name: str) -> bool:
        return name in self.voters or name in self.outgoing_voters

    def has(self, name: str) -> bool:
        """Is somebody of that name a member?"""
        return name in self.voters or name in self.outgoing_voters or name in self.learners

    def is_member(self, name: str, membership_index: int) -> bool:
        """Is that life of the name, admitted at that index, a member?"""
        return self.since.get(name, 0) == membership_index and self.has(name)


_decoder = msgspec.msgpack.Decoder(Configuration)


def encode(configuration: Configuration) -> bytes:
    """The payload of a CONFIGURATION entry."""
    return msgspec.msgpack.encode(configuration)


def decode(payload: bytes | memoryview) -> Configuration:
    """The configuration in a CONFIGURATION entry's payload; msgspec.DecodeError if it is none."""
    return _decoder.decode(payload)
