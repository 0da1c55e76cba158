"""Which answers are made, of those that could wait until there is room for them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial

import pytest

from raftd.admin.limits import Limits, Memory
from raftd.admin.replies import Place, Replies

LIMIT = 100_000
LARGE = b"x" * LIMIT


@pytest.fixture
def client() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


@pytest.fixture
def replies(client: tuple[socket.socket, socket.socket]) -> Replies:
    return Replies(
        client[0],
        Limits(message_bytes=LIMIT),
        Memory(1 << 30),
        on_progress=lambda: None,
        on_break=lambda: None,
        spawn=lambda *_: None,
    )


def test_answers_are_resumed_in_the_order_of_the_calls(replies: Replies) -> None:
    places = [replies.take_place(1) for _ in range(5)]
    made: list[Place] = []
    replies.fill(places[1], LARGE)
    for number in (4, 2, 3):
        assert not places[number].has_room
        places[number].when_room(partial(made.append, places[number]))
    replies.fill(places[0], b"\0")
    replies.flush()
    replies.resume()
    assert made == places[2:]


def test_none_is_made_before_one_that_waits(replies: Replies) -> None:
    """It could not be sent, and would take the room of the one that is to be sent before it."""
    places = [replies.take_place(1) for _ in range(4)]
    made: list[Place] = []
    replies.fill(places[0], b"\0")
    replies.fill(places[1], LARGE)
    assert not places[2].has_room
    places[2].when_room(partial(made.append, places[2]))
    replies.flush()
    assert replies.unsent == 0
    assert not places[3].has_room
    replies.resume()
    assert made == [places[2]]
    assert places[3].has_room


def test_all_that_wait_are_resumed_when_nothing_can_be_sent_any_more(replies: Replies) -> None:
    places = [replies.take_place(1) for _ in range(100)]
    made: list[Place] = []
    replies.fill(places[1], LARGE)
    for place in places[2:]:
        assert not place.has_room
        place.when_room(partial(made.append, place))
    replies.break_off()
    replies.resume()
    assert made == places[2:]
    assert all(place.is_gone and not place.has_room for place in places)
