"""InstallSnapshot, the leader's end: paper section 7."""

from __future__ import annotations

import pytest

from raftd.raft.configuration import Configuration
from raftd.raft.messages import (
    AppendEntriesRequest,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
)
from raftd.raft.progress import Mode
from raftd.raft.state import Role, Settings
from tests.raft import rpcs
from tests.raft.lone import THREE, in_role
from tests.raft.network import Network
from tests.raft.packet import Packet

MEMBERS = Configuration(THREE)


def behind(entries: int = 20, *, settings: Settings | None = None) -> Network:
    """n1 leads and has compacted its log, n3 has nothing; nothing is under way."""
    network = Network(THREE, settings=settings)
    network.crash("n3")
    network.elect("n1")
    network.propose("n1", *[b"%d" % number for number in range(entries)])
    network.deliver_all()
    network.take_snapshot("n1")
    network.start("n3")
    return network


def is_chunk(packet: Packet) -> bool:
    return isinstance(packet.message, InstallSnapshotRequest | InstallSnapshotResponse)


def test_each_server_takes_its_own_snapshot() -> None:
    """7: "each server takes snapshots independently, covering just the committed entries in its
    log"; it includes "the last included index" and "last included term", and "the latest
    configuration in the log as of last included index"."""
    network = Network(THREE)
    network.elect("n1")
    network.propose("n1", b"x")
    network.deliver_all()
    network.heartbeat("n1")
    network.take_snapshot("n2")
    server = network["n2"].server
    assert (server.snapshot.last_included_index, server.snapshot.last_included_term) == (2, 1)
    assert server.snapshot.configuration == MEMBERS
    assert (server.log.first_index, server.log.last_index, server.log.last_term) == (3, 2, 1)
    assert network["n1"].server.log.first_index == 1


def test_the_entry_behind_a_snapshot_is_checked_against_it() -> None:
    """7: index and term are there "to support the AppendEntries consistency check for the first log
    entry following the snapshot"."""
    network = behind(3)
    network.propose("n1", b"x")
    request = network.sent(AppendEntriesRequest, to="n2")[-1]
    assert (request.prev_log_index, request.prev_log_term) == (4, 1)
    assert network["n1"].server.log.base_index == 4


def test_a_follower_that_lags_behind_gets_a_snapshot() -> None:
    """7: "the leader must occasionally send snapshots to followers that lag behind. This happens
    when the leader has already discarded the next log entry that it needs to send"."""
    network = behind()
    network.heartbeat("n1")
    network.heartbeat("n1")
    assert network["n3"].durable.snapshot == network["n1"].durable.snapshot
    assert network["n3"].applied == network["n1"].applied
    assert "n3 installs the snapshot up to 21 of term 1" in network["n3"].texts


def test_a_follower_that_refuses_at_the_base_gets_a_snapshot() -> None:
    """7: the same sentence, when the leader is new and asks at its base first: it must not ask
    there for ever. pitfall 33"""
    network = Network(THREE)
    network.crash("n3")
    network.elect("n1")
    network.propose("n1", *[b"x"] * 20)
    network.deliver_all()
    network.heartbeat("n1")
    network.take_snapshot("n2")
    network.crash("n1")
    network.start("n3")
    network.elect("n2")
    assert network["n3"].applied[:21] == network["n2"].applied[:21]


def test_a_snapshot_goes_in_chunks_in_order() -> None:
    """Figure 13: "leaders always send chunks in order"; here with one chunk at a time under way."""
    network = behind()
    network.sleep(0.1)
    network.tick("n1")
    offsets = []
    for packet in network.packets(lambda packet: "n3" in {packet.sender, packet.to}):
        chunks = network.sent(InstallSnapshotRequest)
        assert len(chunks) <= 1
        offsets += [chunk.offset for chunk in chunks]
        network.deliver(packet)
    size = network["n1"].durable.snapshot.size
    assert list(dict.fromkeys(offsets)) == list(range(0, size, 100))
    assert network["n3"].durable.data == network["n1"].durable.data


def test_a_lost_chunk_is_sent_again() -> None:
    network = behind()
    for turn in range(40):
        network.sleep(0.1)
        network.tick("n1")
        for _ in range(4):
            if turn % 2:
                network.lose_all(only=is_chunk)
            for packet in list(network.wire):
                network.deliver(packet)
    assert network["n3"].applied == network["n1"].applied


def test_doubled_chunks_do_no_harm() -> None:
    """pitfall 54: every chunk, and every answer, comes twice."""
    network = behind()
    network.sleep(0.1)
    network.tick("n1")
    doubled: set[int] = set()
    for _ in range(500):
        if not network.wire:
            break
        packet = network.wire[0]
        if is_chunk(packet) and id(packet.message) not in doubled:
            doubled.add(id(packet.message))
            network.double(packet)
        network.deliver(packet)
    network.heartbeat("n1")
    assert network["n3"].applied == network["n1"].applied


@pytest.mark.parametrize("answers_lost", [0, 1, 2])
def test_after_the_snapshot_comes_the_log(answers_lost: int) -> None:
    """pitfalls 52 and 56: a follower that has the snapshot is no longer sent one, whether its last
    answers arrive or not, and there is no gap behind it."""
    network = behind()
    network.propose("n1", b"behind")
    for _ in range(6):
        network.sleep(0.1)
        network.tick("n1")
        for packet in network.packets():
            if answers_lost and getattr(packet.message, "installed", False):
                answers_lost -= 1
                network.lose(packet)
            else:
                network.deliver(packet)
    assert network["n1"].server.progress["n3"].mode is Mode.REPLICATE
    assert network["n3"].commands[-1] == b"behind"
    network.restart("n3")
    network.propose("n1", b"more")
    network.heartbeat("n1")
    network.heartbeat("n1")
    assert network["n3"].commands[-2:] == [b"behind", b"more"]


def test_a_newer_snapshot_replaces_one_that_is_on_its_way() -> None:
    network = behind()
    network.sleep(0.1)
    network.tick("n1")
    network.deliver_until(
        lambda: any(chunk.offset >= 300 for chunk in network.sent(InstallSnapshotRequest))
    )
    network.propose("n1", b"x" * 50)
    network.deliver_all(only=lambda packet: "n3" not in {packet.sender, packet.to})
    network.take_snapshot("n1")
    network.deliver_all()
    network.heartbeat("n1")
    assert network["n3"].durable.snapshot.last_included_index == 22
    assert network["n3"].commands[-1] == b"x" * 50


def test_a_snapshot_with_a_wrong_checksum_is_not_installed() -> None:
    """The driver says that it holds nothing; the leader starts again."""
    network = behind()
    network.sleep(0.1)
    network.tick("n1")
    node = network["n3"]
    network.deliver_until(lambda: bool(node.partial))
    (key,) = node.partial
    node.partial[key] = b"!" + node.partial[key][1:]
    network.deliver_all()
    assert [text for text in node.texts if "installs" in text] == [
        "n3 installs the snapshot up to 21 of term 1"
    ]
    assert node.applied == network["n1"].applied


def test_a_follower_in_snapshot_mode_still_hears_heartbeats() -> None:
    """A slow chunk does not make it stand for election."""
    network = behind()
    network["n3"].held.add("write")
    for _ in range(30):
        network.heartbeat("n1")
    assert network["n3"].server.role is Role.FOLLOWER
    assert network["n3"].deadline > network.now + 0.5
    network.release("n3")
    network.heartbeat("n1")
    network.heartbeat("n1")
    assert network["n3"].applied == network["n1"].applied


def test_a_follower_that_takes_a_snapshot_is_heard() -> None:
    """Its answers to chunks keep the leader in office, and there may be no others: while chunks are
    sent no heartbeats are."""
    network = behind()
    network.heartbeat("n1")
    network.crash("n2")
    network.sleep(5)
    leader = network["n1"].running
    assert not leader.has_quorum(network.now)
    network.inject("n3", "n1", InstallSnapshotResponse(1, 21, 100, 999_999))
    assert leader.has_quorum(network.now)


@pytest.mark.parametrize(
    "response",
    [
        InstallSnapshotResponse(1, 21, 2100, 999_999),
        InstallSnapshotResponse(0, 21, 2100, 999_999, installed=True),
        InstallSnapshotResponse(1, 21, 2100, 999_999, installed=True),
    ],
)
def test_answers_that_nobody_waits_for_move_nothing(response: InstallSnapshotResponse) -> None:
    network = behind()
    for sender in ("n3", "stranger"):
        network.inject(sender, "n1", response)
    progress = network["n1"].server.progress["n3"]
    assert (progress.match_index, progress.snapshot_offset) == (0, 0)


def test_an_answer_about_another_snapshot_moves_nothing() -> None:
    network = behind()
    network.sleep(0.1)
    network.tick("n1")
    network.deliver_until(lambda: bool(network.sent(InstallSnapshotRequest)))
    chunks = network.sent(InstallSnapshotRequest)
    network.inject("n3", "n1", InstallSnapshotResponse(1, 5, 700, chunks[0].request_id))
    assert network["n1"].server.progress["n3"].snapshot_offset == 0


def test_an_old_snapshot_never_replaces_a_newer_one() -> None:
    """A local snapshot is done only after a newer one has come from the leader."""
    network = in_role(Role.FOLLOWER, log=[1, 1])
    network.inject("n2", "n1", rpcs.append(1, 2, 1, leader_commit=2))
    network["n1"].held.add("save")
    network.inject("n2", "n1", rpcs.snapshot(1, [1] * 9, MEMBERS))
    assert network["n1"].server.snapshot.last_included_index == 9
    network.take_snapshot("n1")
    assert network["n1"].server.snapshot.last_included_index == 9
    network.release("n1")
    assert network["n1"].durable.snapshot.last_included_index == 9
    assert network["n1"].server.configurations == [(9, MEMBERS)]
