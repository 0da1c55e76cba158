"""Where a change of the members leads, as a function of configurations alone."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd.raft.changes import (
    AddMember,
    Change,
    ChangeRefused,
    DemoteMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
    SetAddress,
    first_step,
    last_step,
    promoted,
    target,
)
from raftd.raft.configuration import Configuration

URLS = {name: f"tcp://{name}:1" for name in ("n1", "n2", "n3", "n4", "n5")}
THREE = Configuration(
    ("n1", "n2", "n3"), addresses={name: URLS[name] for name in ("n1", "n2", "n3")}
)
WITH_LEARNER = target(THREE, AddMember("n4", URLS["n4"], voter=False), 7)


def test_who_is_added_is_a_learner_of_that_entry() -> None:
    """A learner first, whatever it is to be; and an entry says since when (pitfall 45)."""
    new = target(THREE, AddMember("n4", URLS["n4"]), 7)
    assert new.voters == THREE.voters
    assert new.learners == ("n4",)
    assert new.promotions == {"n4": ""}
    assert new.is_member("n4", 7)
    assert not new.is_member("n4", 0)
    assert new.addresses["n4"] == URLS["n4"]
    assert target(THREE, AddMember("n4", URLS["n4"], voter=False), 7).promotions == {}


def test_a_learner_stays_one_until_it_is_promoted() -> None:
    """pitfall 45: nothing else that happens makes a voter of it."""
    moved = target(WITH_LEARNER, SetAddress("n4", "tcp://n4:2"), 8)
    assert (moved.learners, moved.promotions) == (("n4",), {})
    removed = target(WITH_LEARNER, RemoveMember("n3"), 8)
    assert (removed.learners, removed.promotions) == (("n4",), {})
    asked = target(WITH_LEARNER, PromoteMember("n4"), 8)
    assert (asked.voters, asked.learners, asked.promotions) == (THREE.voters, ("n4",), {"n4": ""})
    assert promoted(asked, "n4").voters == ("n1", "n2", "n3", "n4")
    assert target(asked, DemoteMember("n4"), 9) == WITH_LEARNER


def test_a_demoted_voter_stays_a_member() -> None:
    new = target(THREE, DemoteMember("n3"), 7)
    joint = first_step(THREE, new)
    assert (joint.voters, joint.outgoing_voters, joint.learners) == (
        ("n1", "n2"),
        ("n1", "n2", "n3"),
        ("n3",),
    )
    assert last_step(joint) == new


def test_a_removed_member_is_known_until_the_end_of_the_joint_configuration() -> None:
    new = target(THREE, RemoveMember("n3"), 7)
    joint = first_step(THREE, new)
    assert joint.addresses["n3"] == URLS["n3"]
    assert "n3" in joint.members
    assert last_step(joint) == new
    assert "n3" not in new.addresses


def test_a_replacement_is_one_step() -> None:
    """At no time there are fewer, or more, voters than before."""
    asked = target(THREE, ReplaceMember("n3", "n4", URLS["n4"]), 7)
    assert (asked.voters, asked.promotions) == (THREE.voters, {"n4": "n3"})
    joint = first_step(asked, promoted(asked, "n4"))
    assert (joint.voters, joint.outgoing_voters) == (("n1", "n2", "n4"), ("n1", "n2", "n3"))
    assert last_step(joint).members == ("n1", "n2", "n4")


def test_who_was_to_be_replaced_may_go_before() -> None:
    asked = target(THREE, ReplaceMember("n3", "n4", URLS["n4"]), 7)
    gone = target(asked, RemoveMember("n3"), 9)
    assert gone.promotions == {"n4": ""}
    assert promoted(gone, "n4").voters == ("n1", "n2", "n4")


def test_a_learner_is_replaced_at_once() -> None:
    new = target(WITH_LEARNER, ReplaceMember("n4", "n5", URLS["n4"]), 9)
    assert (new.voters, new.learners, new.promotions) == (THREE.voters, ("n5",), {})
    asked = target(WITH_LEARNER, PromoteMember("n4"), 8)
    assert target(asked, ReplaceMember("n4", "n5", URLS["n5"]), 9).promotions == {"n5": ""}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (AddMember("n3", "tcp://x:1"), "n3 is a member already; a node whose data is lost is"),
        (AddMember("n5", URLS["n1"]), "tcp://n1:1 is the address of n1"),
        (PromoteMember("n3"), "n3 is a voter already"),
        (PromoteMember("n9"), "there is no member n9"),
        (DemoteMember("n4"), "n4 is a learner already"),
        (RemoveMember("n9"), "there is no member n9"),
        (ReplaceMember("n3", "n3", "tcp://x:1"), "a member cannot replace itself: remove n3, then"),
        (ReplaceMember("n3", "n4", "tcp://x:1"), "n4 is a member already"),
        (ReplaceMember("n3", "n5", URLS["n1"]), "tcp://n1:1 is the address of n1"),
        (SetAddress("n1", URLS["n1"]), "n1 has that address already"),
        (SetAddress("n1", URLS["n2"]), "tcp://n2:1 is the address of n2"),
    ],
)
def test_what_makes_no_sense_is_refused(change: Change, why: str) -> None:
    with pytest.raises(ChangeRefused) as refused:
        target(WITH_LEARNER, change, 9)
    assert str(refused.value).startswith(why)


@pytest.mark.parametrize("change", [RemoveMember("n1"), DemoteMember("n1")])
def test_the_last_voter_stays(change: Change) -> None:
    """pitfall 46"""
    with pytest.raises(ChangeRefused, match="n1 is the last voter: a cluster needs one"):
        target(Configuration(("n1",), learners=("n2",)), change, 9)


def test_a_dead_member_is_replaced_only_once() -> None:
    asked = target(THREE, ReplaceMember("n3", "n4", URLS["n4"]), 7)
    with pytest.raises(ChangeRefused, match="n3 is being replaced already"):
        target(asked, ReplaceMember("n3", "n5", URLS["n5"]), 8)


_names = st.sampled_from(sorted(URLS))
_changes = st.one_of(
    st.builds(AddMember, _names, _names, st.booleans()),
    st.builds(PromoteMember, _names),
    st.builds(DemoteMember, _names),
    st.builds(RemoveMember, _names),
    st.builds(ReplaceMember, _names, _names, _names),
    st.builds(SetAddress, _names, _names),
)


@given(st.lists(_changes, max_size=30), st.data())
def test_whatever_is_asked_the_configuration_is_sound(
    changes: list[Change], data: st.DataObject
) -> None:
    """pitfall 46: voters never run out, nobody is voter and learner, everybody has an address."""
    members = Configuration(("n1", "n2", "n3"), addresses=dict.fromkeys(THREE.members, "x"))
    for index, change in enumerate(changes, 1):
        try:
            new = target(members, change, index)
        except ChangeRefused:
            continue
        promote: bool = data.draw(st.booleans())
        if new.promotions and promote:
            new = promoted(new, data.draw(st.sampled_from(sorted(new.promotions))))
        step = first_step(members, new)
        if step.is_joint:
            assert step.outgoing_voters == members.voters
            assert set(step.addresses) == set(step.members)
            step = last_step(step)
        assert step == new
        assert new.voters
        assert not set(new.voters) & set(new.learners)
        assert set(new.promotions) <= set(new.learners)
        assert set(new.promotions.values()) <= {"", *new.members}
        assert set(new.addresses) == set(new.members)
        assert set(new.since) <= set(new.members)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(new), type=Configuration) == new
        members = new
