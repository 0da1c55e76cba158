"""Nothing is said before it is on disk, and what a disk does wrong ends the process, with words."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from raftd import codec
from raftd.raft.messages import AppendEntriesResponse, RequestVoteRequest, RequestVoteResponse
from tests.history import Recorder
from tests.system.client import CallError, NoAnswer
from tests.system.cluster import Cluster
from tests.system.load import read_back
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
        with Trace(follower, f"{WRITES},{SENDS}", SLOW_DISK) as trace:
            with leader.client() as client:
                revisions = [client.put("key", f"marker {number}") for number in range(5)]
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
        with (
            Trace(leader, WRITES, "fdatasync:error=EIO:when=1") as trace,
            leader.client() as client,
        ):
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


def _messages(calls: Sequence[Call]) -> list[tuple[Call, object]]:
    """What went to peers, and when."""
    found: list[tuple[Call, object]] = []
    for call in calls:
        if _sends(call) and len(call.data) > SP_LENGTH_AND_ID:
            try:
                envelope = codec.decode(call.data[SP_LENGTH_AND_ID:])
            except codec.DecodeError:
                continue
            found.append((call, envelope.message))
    return found
