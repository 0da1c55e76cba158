"""The paper, sentence by sentence: sections 5.1 and 5.2, terms and elections."""

from __future__ import annotations

import pytest

from raftd.raft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    InstallSnapshotResponse,
    Message,
    RequestVoteRequest,
    RequestVoteResponse,
    TimeoutNowResponse,
)
from raftd.raft.state import HardState, Role
from tests.raft import rpcs
from tests.raft.network import Network

THREE = ("n1", "n2", "n3")
FIVE = ("n1", "n2", "n3", "n4", "n5")


def in_role(role: Role) -> Network:
    """n1 in term 2 (or above it, with a newer pre-vote) in that role; nothing is under way."""
    network = Network(THREE, terms={name: 1 for name in THREE})
    if role is Role.LEADER:
        network.elect("n1")
    elif role is not Role.FOLLOWER:
        network.sleep(2)
        network.tick("n1")
        if role is Role.CANDIDATE:
            network.deliver_all(only=lambda packet: "n3" not in {packet.to, packet.sender})
            network.lose_all()
            network = Network(THREE, terms={name: 1 for name in THREE})
            network.tick("n1")
            network.deliver_all(
                only=lambda packet: getattr(packet.message, "pre_vote", False),
            )
    assert network["n1"].server.role is role
    network.lose_all()
    return network


def requests(term: int, network: Network) -> list[Message]:
    configuration = network["n1"].server.configuration
    return [
        rpcs.vote(term, 9, term),
        rpcs.append(term),
        rpcs.snapshot(term, [1, 1], configuration),
        rpcs.timeout_now(term),
    ]


REQUESTS = range(4)
RESPONSES: list[Message] = [
    RequestVoteResponse(9, vote_granted=False, request_id=1),
    RequestVoteResponse(9, vote_granted=False, request_id=1, pre_vote=True),
    AppendEntriesResponse(9, success=False, request_id=1),
    InstallSnapshotResponse(9, 1, 0, 1),
    TimeoutNowResponse(9, 1),
]


# ---- 5.1


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("number", REQUESTS)
def test_a_request_of_a_newer_term_is_adopted(role: Role, number: int) -> None:
    """5.1: "If one server's current term is smaller than the other's, then it updates its current
    term to the larger value. If a candidate or leader discovers that its term is out of date, it
    immediately reverts to follower state." TimeoutNow may make a candidate of the follower."""
    network = in_role(role)
    network.sleep(2)
    network.inject("n2", "n1", requests(9, network)[number])
    if number == 3:
        assert network["n1"].server.current_term == 9
    assert network["n1"].server.current_term == 9
    assert network["n1"].server.role is Role.FOLLOWER or number == 3
    assert network["n1"].durable.hard_state.current_term == 9


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("response", RESPONSES, ids=lambda response: type(response).__name__)
def test_a_response_of_a_newer_term_is_adopted(role: Role, response: Message) -> None:
    """5.1: the same sentence, for what comes back."""
    network = in_role(role)
    network.inject("n2", "n1", response)
    assert network["n1"].server.role is Role.FOLLOWER
    assert network["n1"].durable.hard_state == HardState(9)
