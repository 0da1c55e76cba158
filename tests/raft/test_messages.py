"""Numbers in messages: what a decoder lets through."""

from __future__ import annotations

import msgspec
import pytest

from raftd.raft.configuration import Configuration
from raftd.raft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    Message,
    RequestVoteRequest,
    RequestVoteResponse,
    TimeoutNowRequest,
    TimeoutNowResponse,
)

MESSAGES: list[Message] = [
    RequestVoteRequest(1, 2, 3, 4),
    RequestVoteResponse(1, vote_granted=True, request_id=2),
    AppendEntriesRequest(1, 2, 3, 4, 5),
    AppendEntriesResponse(1, True, 2, 3, 4, 5),
    InstallSnapshotRequest(1, 2, 3, Configuration(("a",)), 4, 5, 6),
    InstallSnapshotResponse(1, 2, 3, 4),
    TimeoutNowRequest(1, 2),
    TimeoutNowResponse(1, 2),
]
NUMBERS = [
    (message, field)
    for message in MESSAGES
    for field in message.__struct_fields__
    if type(getattr(message, field)) is int
]
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def decode(message: Message, field: str, value: object) -> Message:
    raw = msgspec.msgpack.decode(msgspec.msgpack.encode(message))
    raw[field] = value
    return _decoder.decode(msgspec.msgpack.encode(raw))


@pytest.mark.parametrize(("message", "field"), NUMBERS)
@pytest.mark.parametrize("value", [2**63, 2**64 - 1, -1, 1.0, 1.5, True, "1", None])
def test_what_is_no_number_of_ours_is_refused(message: Message, field: str, value: object) -> None:
    """pitfall 13: in every integer field, before anything is done with it."""
    with pytest.raises(msgspec.ValidationError):
        decode(message, field, value)


@pytest.mark.parametrize(("message", "field"), NUMBERS)
@pytest.mark.parametrize("value", [0, 2**63 - 1])
def test_the_bounds_themselves_are_numbers(message: Message, field: str, value: int) -> None:
    """pitfall 13"""
    assert getattr(decode(message, field, value), field) == value


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_each_message_has_its_own_tag(message: Message) -> None:
    assert _decoder.decode(msgspec.msgpack.encode(message)) == message
