"""Nothing is said before it is on disk, and what a disk does wrong ends the process, with words."""

from __future__ import annotations

import signal
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from raftd import codec
from raftd.raft.messages import AppendEntriesResponse, RequestVoteRequest, RequestVoteResponse
from tests.history import Recorder
from tests.system.client import CallError, NoAnswer
from tests.system.cluster import Cluster
from tests.system.load import read_back
from tests.system.node import Node
from tests.system.tracing import Call, Trace, require_strace

SENDS = "write,writev,sendto,sendmsg"
WRITES = "pwrite64,pwritev,pwritev2,fdatasync,fsync"
SLOW_DISK = "fdatasync:delay_exit=100000"  # microseconds
SP_LENGTH_AND_ID = 8 + 4
"""What stands before the message in a request or reply on TCP (SP protocol mapping)."""


def test_write_is_answered_after_its_sync() -> None:
    """pitfall 2, 38, 64: fdatasync of the entry returns before the answer begins to leave."""
    require_strace()
    with Cluster(1).start() as cluster:
        node = cluster["node1"]
        with Trace(node, f"{WRITES},{SENDS}", SLOW_DISK) as trace, node.client() as client:
            for number in range(5):
                client.put("key", f"marker {number}")
        calls = trace.calls()
        answers = [each for each in calls if _sends(each) and b'"revision"' in each.data]
        assert len(answers) == 5
        for number, answer in enumerate(answers):
            synced = _synced(calls, f"marker {number}".encode())
            assert synced < answer.begun, f"answer {number} left before its entry was durable"


def test_follower_acknowledges_after_its_sync() -> None:
    """pitfall 2, 38: an AppendEntries response speaks only of what fdatasync has returned for."""
    require_strace()
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        revisions = []
        with Trace(follower, f"{WRITES},{SENDS}", SLOW_DISK) as trace:
            with leader.client() as client:
                for number in range(5):
                    revisions.append(client.put("key", f"marker {number}"))
            cluster.wait_until_converged()
        calls = trace.calls()
        acknowledged = [
            (call, message.match_index)
            for call, message in _messages(calls)
            if isinstance(message, AppendEntriesResponse) and message.success
        ]
        for number, revision in enumerate(revisions):
            synced = _synced(calls, f"marker {number}".encode())
            first = next(call for call, match in acknowledged if match >= revision)
            assert synced < first.begun, f"entry {revision} was acknowledged before it was durable"


def test_vote_is_durable_before_it_is_given() -> None:
    """pitfall 2, 3, 5: so is a candidate's vote for itself."""
    require_strace()
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        node = cluster.others(leader)[0]
        term = node.wait_until_up()["term"]
        with Trace(node, f"{WRITES},{SENDS}", SLOW_DISK) as trace:
            leader.kill()
            cluster.wait_for_leader()
        calls = trace.calls()
        votes = [
            (call, message)
            for call, message in _messages(calls)
            if (isinstance(message, RequestVoteResponse) and message.vote_granted)
            or isinstance(message, RequestVoteRequest)
        ]
        binding = [(call, each) for call, each in votes if not each.pre_vote and each.term > term]
        assert binding, "it has voted for itself or for the other one"
        for call, vote in binding:
            written = struct.pack("<Q", vote.term)
            synced = _synced(calls, b"raftdhst", written)
            assert synced < call.begun, f"{vote} left before it was durable"


def test_failed_sync_ends_the_process_and_is_never_repeated() -> None:
    """pitfall 65, 34: EIO once, although the next fdatasync would succeed."""
    require_strace()
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        cluster.wait_until_writable(leader, "before", "1")
        with Trace(leader, WRITES, "fdatasync:error=EIO:when=1") as trace, leader.client() as client:
            with pytest.raises((NoAnswer, CallError)):
                client.put("during", "2", 2000)
            leader.wait_for_exit(5)
        syncs = [each for each in trace.calls() if each.name in {"fdatasync", "fsync"}]
        failed = next(number for number, each in enumerate(syncs) if not each.succeeded)
        assert failed == len(syncs) - 1, "no second fsync"
        assert "Input/output error" in leader.log_of_this_life
        assert "data/" in leader.log_of_this_life.rpartition("critical")[2], "it names the file"
        cluster.wait_for_leader(cluster.running)
        cluster.start()
        cluster.wait_until_converged()
        for node in cluster:
            assert read_back(node, ["before"], Recorder()) == {"before": "1"}


def test_failed_write_ends_the_process() -> None:
    """pitfall 65: a write error, too, on a follower; the others do not notice much."""
    require_strace()
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        with Trace(follower, WRITES, "pwrite64:error=EIO:when=1"):
            cluster.wait_until_writable(leader, "a", "1")
            follower.wait_for_exit(5)
        assert "Input/output error" in follower.log_of_this_life
        cluster.wait_until_writable(leader, "a", "2")
        cluster.start()
        assert read_back(follower, ["a"], Recorder()) == {"a": "2"}


def test_interrupted_write_is_done_again() -> None:
    """pitfall 75: EINTR is no failure."""
    require_strace()
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        with Trace(follower, WRITES, "pwrite64:error=EINTR:when=1"):
            cluster.wait_until_writable(leader, "a", "1")
            cluster.wait_until_converged()
        follower.kill()
        cluster.start()
        cluster.wait_until_converged()
        assert read_back(follower, ["a"], Recorder()) == {"a": "1"}


def test_torn_tail_is_cut_and_fetched_again() -> None:
    """pitfall 69, 72: a follower is killed before its fdatasync, and half of its write is missing."""
    require_strace()
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        cluster.wait_until_writable(leader, "a", "1")
        cluster.wait_until_converged()
        segment, data = _killed_before_its_sync(cluster, leader, follower)
        end = len(data.rstrip(b"\0"))
        segment.write_bytes(data[: end - 700] + bytes(len(data) - end + 700))
        cluster.start()
        assert "torn" in follower.log_of_this_life
        assert segment.name in follower.log_of_this_life
        cluster.wait_until_converged()
        assert read_back(follower, ["key"], Recorder()) == {"key": "x" * 2000}


def test_loss_of_what_was_applied_is_refused() -> None:
    """pitfall 70: the same hole in an entry that was acknowledged and applied is no torn write."""
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        cluster.wait_until_writable(leader, "key", "x" * 2000)
        cluster.wait_until_converged()
        follower.kill()
        segment = _newest_segment(follower)
        data = segment.read_bytes()
        end = len(data.rstrip(b"\0"))
        damaged = data[: end - 700] + bytes(len(data) - end + 700)
        segment.write_bytes(damaged)
        follower.start()
        follower.wait_for_exit(4)
        assert "were applied" in follower.log_of_this_life
        assert segment.read_bytes() == damaged, "nothing was changed, it says"
        segment.write_bytes(data)
        cluster.start()
        cluster.wait_until_converged()


def test_damage_in_the_log_is_refused_and_nothing_changed() -> None:
    """pitfall 70: status 4 with file, offset, index range and the way out; undamaged it starts."""
    with Cluster(3).start() as cluster:
        leader = cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        for number in range(5):
            cluster.wait_until_writable(leader, f"key{number}", "x" * 500)
        cluster.wait_until_converged()
        follower.kill()
        segment = _newest_segment(follower)
        data = segment.read_bytes()
        place = data.index(b"x" * 500) + 100
        damaged = data[:place] + b"y" + data[place + 1 :]
        segment.write_bytes(damaged)
        for _ in range(2):
            follower.start()
            follower.wait_for_exit(4)
            assert segment.name in follower.log_of_this_life
            assert "byte" in follower.log_of_this_life
            assert "in doubt" in follower.log_of_this_life
            assert "Traceback" not in follower.log_of_this_life
            assert segment.read_bytes() == damaged
        segment.write_bytes(data)
        cluster.start()
        cluster.wait_until_converged()


def test_damaged_term_and_vote_are_refused() -> None:
    """pitfall 1, 70: never term 0 and an empty vote."""
    with Cluster(1).start() as cluster:
        node = cluster["node1"]
        node.kill()
        file = node.data / "hard-state"
        data = file.read_bytes()
        file.write_bytes(bytes(len(data)))
        node.start()
        node.wait_for_exit(4)
        assert "hard-state" in node.log_of_this_life
        file.write_bytes(data)
        cluster.start()


def test_damaged_state_machine_is_only_a_view() -> None:
    """pitfall 53, 61: the database may be thrown away; it is made again from the log."""
    with Cluster(1).start() as cluster:
        node = cluster["node1"]
        cluster.wait_until_writable(node, "a", "1")
        node.kill()
        for file in (node.data / "state").iterdir():
            file.unlink()
        cluster.start()
        assert read_back(node, ["a"], Recorder()) == {"a": "1"}


def _sends(call: Call) -> bool:
    return call.name in SENDS.split(",")


def _synced(calls: Sequence[Call], *content: bytes) -> int:
    """When the first fdatasync returned that began behind the first write of `content`."""
    write = next(
        each
        for each in calls
        if each.name.startswith("pwrite") and all(part in each.data for part in content)
    )
    sync = next(
        each
        for each in calls
        if each.name in {"fdatasync", "fsync"}
        and each.begun > write.ended
        and each.descriptor == write.descriptor
        and each.succeeded
    )
    return sync.ended


def _messages(calls: Sequence[Call]) -> list[tuple[Call, codec.AnyMessage]]:
    """What went to peers, and when."""
    found = []
    for call in calls:
        if _sends(call) and len(call.data) > SP_LENGTH_AND_ID:
            try:
                envelope = codec.decode(call.data[SP_LENGTH_AND_ID:])
            except codec.DecodeError:
                continue
            found.append((call, envelope.message))
    return found


def _killed_before_its_sync(
    cluster: Cluster, leader: Node, follower: Node
) -> tuple[Path, bytes]:
    """The segment with an entry that `follower` wrote and never acknowledged, and its content."""
    with Trace(follower, WRITES, "fdatasync:signal=SIGKILL:when=1"):
        cluster.wait_until_writable(leader, "key", "x" * 2000)
        follower.wait_for_exit(-signal.SIGKILL)
    segment = _newest_segment(follower)
    data = segment.read_bytes()
    assert b"x" * 2000 in data
    return segment, data


def _newest_segment(node: Node) -> Path:
    """The last file of the log that has entries: behind it there may be one made ahead."""
    used = [
        path for path in sorted((node.data / "wal").glob("*.seg")) if any(path.read_bytes()[512:])
    ]
    return used[-1]
