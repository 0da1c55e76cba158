"""Who may speak: other clusters, wiped nodes, old copies, strangers."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from raftd import codec
from raftd.client_messages import RefusedResponse, ReportRequest, ReportResponse
from raftd.codec import Envelope
from raftd.driver import admission
from raftd.promise import Promise
from raftd.raft.messages import RequestVoteRequest, RequestVoteResponse
from raftd.transport.transport import Unreachable
from tests.driver.cluster import Cluster, running, until


async def ask(cluster: Cluster, envelope: Envelope, certified: str | None = None) -> object:
    answer = await cluster.network.handlers["n1"](codec.encode(envelope), certified)
    return None if answer is None else codec.decode(answer).message


def genuine(cluster: Cluster) -> Envelope:
    """A message as n2 would send it to n1."""
    identity = cluster["n2"].disk.identity
    return Envelope(
        identity.cluster_id,
        "n2",
        identity.node_id,
        identity.incarnation,
        "n1",
        ReportRequest(),
        cluster["n1"].disk.identity.node_id,
    )


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("cluster_id", bytes(16), "another cluster"),
        ("recipient", "n3", "takes n1 for n3"),
        ("sender", "n1", "another node calls itself n1"),
        ("node_id", bytes(16), "another node id"),
        ("recipient_id", bytes(16), "by another node id"),
        ("incarnation", 0, "old copy"),
    ],
)
async def test_what_is_refused(
    autojump_clock: MockClock, tmp_path: Path, field: str, value: object, reason: str
) -> None:
    """pitfall 10, 11, 12: said to the sender, and nothing else happens."""
    async with running(tmp_path) as cluster:
        await cluster.leader()
        await cluster["n1"].put("a", "1")
        message = genuine(cluster)
        assert not isinstance(await ask(cluster, message), RefusedResponse)
        known = cluster["n1"].disk.known_peers
        answer = await ask(cluster, msgspec.structs.replace(message, **{field: value}))
        assert isinstance(answer, RefusedResponse)
        assert reason in answer.reason
        assert cluster["n1"].disk.known_peers == known


async def test_who_has_a_certificate_speaks_for_nobody_else(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as cluster:
        await cluster.leader()
        await cluster["n1"].put("a", "1")
        message = genuine(cluster)
        assert isinstance(await ask(cluster, message, "n2"), ReportResponse)
        assert await ask(cluster, message, "n3") is None
        assert await ask(cluster, message, "") is None
        assert "refused a message: n3 says that it is n2" in caplog.text
        assert "refused a message: somebody says that it is n2" in caplog.text
        assert cluster["n1"].driver.peers.refused == {}, "n2 itself has done nothing wrong"


@pytest.mark.parametrize("term", [2**32 + 100, 2**63 - 1])
async def test_a_term_that_no_election_leads_to_is_refused(
    autojump_clock: MockClock, tmp_path: Path, term: int
) -> None:
    """pitfall 13: nobody could be elected behind the last one."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        server = cluster["n1"].driver.raft.server
        before = server.current_term
        request = RequestVoteRequest(term, 10**6, before, 10**6)
        answer = await ask(cluster, msgspec.structs.replace(genuine(cluster), message=request))
        assert isinstance(answer, RefusedResponse)
        assert f"term {term}" in answer.reason
        assert server.current_term == before
        assert cluster["n1"].disk.recovered.hard_state.current_term <= before
        await leader.put("a", "1")


async def test_who_does_not_know_the_cluster_does_not_learn_it(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path) as cluster:
        await cluster.leader()
        message = msgspec.structs.replace(genuine(cluster), cluster_id=bytes(16))
        answer = await cluster.network.handlers["n1"](codec.encode(message), None)
        identity = cluster["n1"].disk.identity
        for secret in (identity.cluster_id, identity.node_id):
            assert secret not in (answer or b"")
            assert secret.hex().encode() not in (answer or b"")


async def test_a_claim_to_be_a_later_member_shuts_nobody_out(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """It is answered, as this node may lag behind; who is the member, the log says."""
    async with running(tmp_path) as cluster:
        await cluster.leader()
        await cluster["n1"].put("a", "1")
        message = genuine(cluster)
        claim = msgspec.structs.replace(message, node_id=b"\x7f" * 16)
        assert not isinstance(await ask(cluster, claim), RefusedResponse)
        assert cluster["n1"].disk.known_peers["n2"].node_id == message.node_id
        assert not isinstance(await ask(cluster, message), RefusedResponse)


async def test_names_of_strangers_are_remembered_up_to_a_number(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as cluster:
        await cluster.leader()
        monkeypatch.setattr(admission, "MAX_PEERS", 5)
        refused = []
        for number in range(10):
            name = f"stranger{number}"
            message = msgspec.structs.replace(genuine(cluster), sender=name, node_id=b"\x7f" * 16)
            if isinstance(await ask(cluster, message), RefusedResponse):
                refused.append(name)
        known = cluster["n1"].disk.known_peers
        assert len(known) == 5
        assert len(refused) == 10 - sum(name.startswith("stranger") for name in known)
        await cluster["n1"].put("a", "1")


async def test_garbage_gets_no_answer(autojump_clock: MockClock, tmp_path: Path) -> None:
    """pitfall 77"""
    async with running(tmp_path) as cluster:
        await cluster.leader()
        handler = cluster.network.handlers["n1"]
        for data in (b"", b"RAFT", b"\xff" * 100, codec.encode(genuine(cluster))[:-3]):
            assert await handler(data, None) is None
        await cluster["n1"].put("a", "1")


async def test_a_wiped_node_is_refused_on_both_sides_and_its_old_directory_is_welcome(
    autojump_clock: MockClock,
    tmp_path: Path,
) -> None:
    """pitfall 7, 9: without any traffic it neither votes nor counts."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        wiped = next(name for name in cluster.names if name != leader.name)
        await until(lambda: len(leader.disk.known_peers) == 2)
        await cluster.crash(wiped)
        shutil.move(cluster[wiped].directory, tmp_path / "kept")
        await cluster.start(wiped)
        await until(lambda: wiped in leader.driver.peers.refused)
        await until(lambda: leader.name in cluster[wiped].driver.peers.refused_by)
        await trio.sleep(10)
        assert cluster[wiped].driver.raft.server.log.last_index == 0
        status = await leader.driver.status(timeout=1)
        assert status.failures_tolerated == 0
        member = next(each for each in status.members if each.name == wiped)
        assert not member.reachable
        assert "another node id" in (member.problem or "")
        assert "refused by" in (cluster[wiped].driver.report().problem or "")

        await cluster.crash(wiped)
        shutil.rmtree(cluster[wiped].directory)
        shutil.move(tmp_path / "kept", cluster[wiped].directory)
        await cluster.start(wiped)
        await until(lambda: wiped not in leader.driver.peers.refused)
        assert await cluster[wiped].get("a", timeout=30) == "1"


async def test_a_wiped_node_cannot_make_a_majority(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 7: with one more down, the wiped node's vote would elect a leader without data."""
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        await leader.put("a", "1")
        others = [name for name in cluster.names if name != leader.name]
        for name in cluster.names:
            await until(lambda name=name: len(cluster[name].disk.known_peers) == 2)  # type: ignore[misc]
        for name in [leader.name, others[0]]:
            await cluster.crash(name)
        shutil.rmtree(cluster[others[0]].directory)
        await cluster.start(others[0])
        await trio.sleep(30)
        assert cluster.leaders() == []


async def test_a_peer_at_the_wrong_address_is_not_believed(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """pitfall 11: the right cluster answers, but it is another node."""
    async with running(tmp_path) as cluster:
        await cluster.leader()
        cluster.network.addresses = {"n2": "n3", "n3": "n2"}
        await trio.sleep(5)
        assert sum(cluster[name].driver.peers.strangers for name in cluster.names) > 0
        cluster.network.addresses = {}
        await cluster["n1"].put("a", "1", timeout=30)


async def test_the_answer_of_another_membership_counts_for_nothing(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A new n2, of whose admission n1 has not heard, may ask, and is answered (pitfalls 20, 44);
    but where n1 counts votes, n2 is the one that was there before (pitfall 7)."""
    async with running(tmp_path) as cluster:
        await cluster.leader()
        newer = (99).to_bytes(8, "big") + bytes(8)
        cluster.network.isolate("n2", cluster.names)
        await trio.sleep(1)

        def another_n2(data: bytes, certified: str | None) -> Promise[bytes | None]:
            del certified
            request = codec.decode(data)
            assert isinstance(request.message, RequestVoteRequest)
            vote = RequestVoteResponse(1, vote_granted=True, request_id=request.message.request_id)
            answer = msgspec.structs.replace(genuine(cluster), node_id=newer, message=vote)
            return Promise.done(codec.encode(answer))

        cluster.network.heal()
        cluster.network.handlers["n2"] = another_n2
        ask_vote = RequestVoteRequest(1, 0, 0, request_id=1)
        with pytest.raises(Unreachable, match="became a member with entry 99; that is not the one"):
            await cluster["n1"].driver.peers.call("n2", ask_vote, 5)
        request = msgspec.structs.replace(genuine(cluster), node_id=newer)
        assert not isinstance(await ask(cluster, request), RefusedResponse)
        old = await ask(cluster, genuine(cluster))
        assert not isinstance(old, RefusedResponse), "n1 has not heard that it is none any more"
