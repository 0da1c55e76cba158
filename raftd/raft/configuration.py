"""Who belongs to the cluster: voters, learners, and both halves of a joint configuration.

Paper section 6: while `outgoing_voters` is not empty the configuration is joint (C_old,new) and
every decision needs a majority of both halves.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Configuration(msgspec.Struct, frozen=True):
    """The members of a cluster, by name. `addresses` has one dialable URL for each of them."""

    voters: tuple[str, ...]
    outgoing_voters: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    addresses: Mapping[str, str] = {}

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing_voters)

    @property
    def members(self) -> tuple[str, ...]:
        """Every member that receives entries, voter or not, in the order of their names."""
        return tuple(sorted({*self.voters, *self.outgoing_voters, *self.learners}))

    def is_voter(self, name: str) -> bool:
        return name in self.voters or name in self.outgoing_voters


_decoder = msgspec.msgpack.Decoder(Configuration)


def encode(configuration: Configuration) -> bytes:
    """The payload of a CONFIGURATION entry."""
    return msgspec.msgpack.encode(configuration)


def decode(payload: bytes | memoryview) -> Configuration:
    """The configuration in a CONFIGURATION entry's payload; msgspec.DecodeError if it is none."""
    return _decoder.decode(payload)
