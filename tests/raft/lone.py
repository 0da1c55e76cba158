"""One server, n1 of three, in a role of choice; what its peers say is injected."""

from __future__ import annotations

from collections.abc import Sequence

from raftd.raft.messages import Message
from raftd.raft.state import Role
from tests.raft.network import Network
from tests.raft.packet import Packet

THREE = ("n1", "n2", "n3")
FIVE = ("n1", "n2", "n3", "n4", "n5")


def in_role(role: Role, *, log: Sequence[int] = ()) -> Network:
    """n1 in that role, with that log; the last term it knew before is 1. Nothing is under way, and
    whoever has heard of a leader has heard of n1."""
    terms = {name: max([1, *log]) for name in THREE}
    network = Network(THREE, logs=dict.fromkeys(THREE, log), terms=terms)
    if role is Role.LEADER:
        network.elect("n1")
    elif role is not Role.FOLLOWER:
        network.tick("n1")
    if role is Role.CANDIDATE:
        network.deliver_all(only=is_pre_vote)
    network.lose_all()
    assert network["n1"].server.role is role
    return network


def is_pre_vote(packet: Packet) -> bool:
    return getattr(packet.message, "pre_vote", False)


def answer(network: Network, request: Message, sender: str = "n2") -> Message:
    """What n1 answers, as far as its disk allows it to."""
    before = list(network.wire)
    network.inject(sender, "n1", request)
    (packet,) = [
        packet
        for packet in network.wire
        if packet not in before
        and packet.to == sender
        and packet.message.request_id == request.request_id
    ]
    network.lose(packet)
    return packet.message
