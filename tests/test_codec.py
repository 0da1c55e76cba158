"""raftd.codec: every message there and back, and nothing but DecodeError for anything else."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftd import client_messages, codec, record
from raftd.codec import DecodeError, Envelope, VersionMismatch
from raftd.raft import configuration as members
from raftd.raft.configuration import Configuration
from raftd.raft.log import Entry, EntryType
from raftd.raft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    RequestVoteRequest,
    RequestVoteResponse,
    TimeoutNowRequest,
    TimeoutNowResponse,
)

MAX = 2**63 - 1
THREE = Configuration(("a", "b"), ("c",), ("d",), {"a": "tcp://[::1]:1", "b": "tcp://h:2"})

counters = st.integers(0, MAX)
names = st.from_regex(r"\A[A-Za-z0-9._-]{1,63}\Z")
texts = st.text(max_size=20)
blobs = st.binary(max_size=50)
ids = st.binary(min_size=16, max_size=16)
name_lists = st.lists(names, max_size=3).map(tuple)
configurations = st.builds(
    Configuration, name_lists, name_lists, name_lists, st.dictionaries(names, texts, max_size=3)
)


def entry(index: int, term: int, payload: bytes = b"x", time_ms: int = 0) -> Entry:
    raw = record.encode(index, term, EntryType.COMMAND, payload, time_ms)
    return Entry(index, term, EntryType.COMMAND, raw)


def configuration_entry(index: int, term: int, configuration: Configuration) -> Entry:
    raw = record.encode(index, term, EntryType.CONFIGURATION, members.encode(configuration), 0)
    return Entry(index, term, EntryType.CONFIGURATION, raw, configuration)


@st.composite
def appends(draw: st.DrawFn) -> AppendEntriesRequest:
    payloads = draw(st.lists(st.tuples(st.integers(0, 2), st.none() | blobs), max_size=5))
    first = draw(st.integers(0, MAX - 10))
    term = prev_log_term = draw(st.integers(1, MAX - 20))
    entries = []
    for index, (step, payload) in enumerate(payloads, first + 1):
        term += step
        if payload is None:
            entries.append(configuration_entry(index, term, draw(configurations)))
        else:
            entries.append(entry(index, term, payload))
    return AppendEntriesRequest(
        term + draw(st.integers(0, 5)),
        first,
        prev_log_term,
        draw(counters),
        draw(counters),
        tuple(entries),
    )


outcomes = st.builds(
    client_messages.Outcome,
    st.sampled_from(["applied", "no-quorum", "unknown", "busy", "too-large", "refused"]),
    counters,
    counters,
    blobs,
    texts,
)
messages = st.one_of(
    appends(),
    st.builds(
        AppendEntriesResponse, counters, st.booleans(), counters, counters, counters, counters
    ),
    st.builds(
        RequestVoteRequest, counters, counters, counters, counters, st.booleans(), st.booleans()
    ),
    st.builds(RequestVoteResponse, counters, st.booleans(), counters, st.booleans()),
    st.builds(
        InstallSnapshotRequest,
        *(counters, counters, counters, configurations, counters, counters, counters),
        *(texts, blobs, st.booleans()),
    ),
    st.builds(InstallSnapshotResponse, counters, counters, counters, counters, st.booleans()),
    st.builds(TimeoutNowRequest, counters, counters),
    st.builds(TimeoutNowResponse, counters, counters),
    st.builds(client_messages.ForwardRequest, st.lists(blobs, max_size=3).map(tuple), counters),
    st.builds(client_messages.ForwardResponse, st.lists(outcomes, max_size=3).map(tuple)),
    st.builds(client_messages.ReadIndexRequest, counters),
    st.builds(client_messages.ReadIndexResponse, st.none() | counters, texts),
    st.builds(client_messages.TransferRequest, st.none() | names, counters),
    st.builds(client_messages.TransferResponse, st.none() | names, texts),
    st.just(client_messages.ReportRequest()),
    st.builds(client_messages.ReportResponse, blobs),
    st.builds(client_messages.RefusedResponse, texts),
)
envelopes = st.builds(Envelope, ids, names, ids, counters, names, messages, st.just(b"") | ids)


def envelope(message: Any) -> Envelope:
    return Envelope(b"c" * 16, "node1", b"n" * 16, 3, "node2", message)


SAMPLES = [
    AppendEntriesRequest(7, 4, 5, 3, 99, (entry(5, 5), configuration_entry(6, 7, THREE))),
    AppendEntriesRequest(7, 4, 5, 3, 99),
    AppendEntriesResponse(7, success=False, request_id=4, conflict_index=3, conflict_term=2),
    RequestVoteRequest(7, 5, 4, 3, pre_vote=True),
    RequestVoteResponse(7, vote_granted=True, request_id=4),
    InstallSnapshotRequest(7, 5, 4, THREE, 3, 2, 9, "abc", b"data", done=True),
    InstallSnapshotResponse(7, 6, 5, 4, installed=True),
    TimeoutNowRequest(7, 6),
    TimeoutNowResponse(7, 6),
    client_messages.ForwardRequest((b"one", b"two"), 500),
    client_messages.ForwardResponse(
        (client_messages.Outcome("applied", 5, 4, b"result"), client_messages.Outcome("busy"))
    ),
    client_messages.ReadIndexRequest(500),
    client_messages.ReadIndexResponse(7),
    client_messages.TransferRequest("node2", 500),
    client_messages.TransferResponse("node2"),
    client_messages.ReportRequest(),
    client_messages.ReportResponse(b"report"),
    client_messages.RefusedResponse("no"),
]


def sample_id(message: Any) -> str:
    return type(message).__name__


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header as plain values, and what stands behind it."""
    (length,) = struct.unpack_from("<I", data, 5)
    header: dict[str, Any] = msgspec.msgpack.decode(data[9 : 9 + length])
    return header, data[9 + length :]


def pack(header: Any, rest: bytes = b"") -> bytes:
    raw = msgspec.msgpack.encode(header)
    return b"RAFT\x01" + struct.pack("<I", len(raw)) + raw + rest


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every scalar in nested lists and dictionaries, with the way to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from leaves(inner, (*path, position))
    else:
        yield path, value


def replaced(data: bytes, path: tuple[Any, ...], value: Any) -> bytes:
    header, rest = unpack(data)
    target: Any = header
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return pack(header, rest)


@given(envelopes)
@settings(max_examples=150)
def test_every_message_comes_back_as_it_was(sent: Envelope) -> None:
    assert codec.decode(codec.encode(sent)) == sent


def test_entries_cross_the_wire_as_the_very_bytes_of_their_records() -> None:
    message = SAMPLES[0]
    assert isinstance(message, AppendEntriesRequest)
    data = codec.encode(envelope(message))
    assert data.endswith(b"".join(e.record for e in message.entries))
    header, _ = unpack(data)
    assert "entries" not in header["message"]


@pytest.mark.parametrize("message", SAMPLES, ids=sample_id)
def test_every_truncation_is_refused(message: Any) -> None:
    """pitfall 77"""
    data = codec.encode(envelope(message))
    whole_prefixes = 0
    for length in range(len(data)):
        try:
            received = codec.decode(data[:length])
        except DecodeError as error:
            assert error.reason
        else:  # cut exactly between two records: that is a message with fewer entries
            assert isinstance(received.message, AppendEntriesRequest)
            whole_prefixes += 1
    assert whole_prefixes == len(getattr(message, "entries", ()))


@pytest.mark.parametrize("message", SAMPLES, ids=sample_id)
def test_every_flipped_byte_is_refused_or_still_a_message(message: Any) -> None:
    """pitfall 77"""
    data = codec.encode(envelope(message))
    dice = random.Random(7)
    for position in range(len(data)):
        for mask in (0x01, 0x80, 0xFF, dice.randrange(1, 256)):
            changed = bytearray(data)
            changed[position] ^= mask
            try:
                received = codec.decode(bytes(changed))
            except DecodeError:
                continue
            assert codec.decode(codec.encode(received)) == received


def test_every_flipped_bit_of_an_entry_is_refused() -> None:
    message = SAMPLES[0]
    assert isinstance(message, AppendEntriesRequest)
    data = codec.encode(envelope(message))
    size = sum(len(e.record) for e in message.entries)
    for position in range(len(data) - size, len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(DecodeError, match="damaged"):
                codec.decode(bytes(changed))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    """pitfall 77"""
    for start in (b"", b"RAFT", b"RAFT\x01", b"RAFT\x01" + struct.pack("<I", len(data))):
        with pytest.raises(DecodeError):
            codec.decode(start + data)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts | blobs,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(SAMPLES), st.data())
@settings(max_examples=300)
def test_any_value_in_any_place_of_the_header(message: Any, data: st.DataObject) -> None:
    """pitfall 12, pitfall 77"""
    sent = codec.encode(envelope(message))
    path, _ = data.draw(st.sampled_from(list(leaves(unpack(sent)[0]))))
    changed = replaced(sent, path, data.draw(plain))
    try:
        received = codec.decode(changed)
    except DecodeError as error:
        assert error.reason.isprintable()
    else:
        assert codec.decode(codec.encode(received)) == received


BAD_INTEGERS = [
    -1,
    -(2**63),
    2**63,
    2**64 - 1,
    1.0,
    1e300,
    float("nan"),
    True,
    False,
    "1",
    b"1",
    [],
]


@pytest.mark.parametrize("message", SAMPLES, ids=sample_id)
def test_integers_out_of_range_or_of_another_type_are_refused(message: Any) -> None:
    """pitfall 13"""
    sent = codec.encode(envelope(message))
    checked = 0
    for path, value in leaves(unpack(sent)[0]):
        if type(value) is not int:
            continue
        for bad in BAD_INTEGERS:
            with pytest.raises(DecodeError):
                codec.decode(replaced(sent, path, bad))
        if not (
            isinstance(message, client_messages.ReadIndexResponse) and path == ("message", "index")
        ):
            with pytest.raises(DecodeError):
                codec.decode(replaced(sent, path, None))
        if not isinstance(message, AppendEntriesRequest):
            assert codec.decode(replaced(sent, path, MAX))
        checked += 1
    assert checked >= 1, "at least the incarnation"


@pytest.mark.parametrize("message", SAMPLES, ids=sample_id)
def test_wrong_types_are_refused_everywhere(message: Any) -> None:
    """pitfall 12, pitfall 77"""
    sent = codec.encode(envelope(message))
    wrong: dict[type, list[Any]] = {
        str: [b"x", 1, None, []],
        bytes: ["x", 1, None, {}],
        bool: [0, 1, None, "true"],
    }
    optional = {("message", "target"), ("message", "leader")}
    for path, value in leaves(unpack(sent)[0]):
        for bad in wrong.get(type(value), []):
            if bad is None and path in optional:
                continue
            with pytest.raises(DecodeError):
                codec.decode(replaced(sent, path, bad))


@pytest.mark.parametrize("field", ["sender", "recipient"])
def test_names_are_names(field: str) -> None:
    """pitfall 12"""
    sent = codec.encode(envelope(client_messages.ReportRequest()))
    for good in ("a", "a" * 63, "node-1.example_x"):
        assert getattr(codec.decode(replaced(sent, (field,), good)), field) == good
    for bad in ("", "a" * 64, "a b", "a\n", "\x1b[2J", "ä", "a/b", "x" * 100_000):
        with pytest.raises(DecodeError) as caught:
            codec.decode(replaced(sent, (field,), bad))
        assert len(caught.value.reason) < 300
        assert caught.value.reason.isprintable()


@pytest.mark.parametrize("field", ["cluster_id", "node_id"])
def test_ids_have_sixteen_bytes(field: str) -> None:
    sent = codec.encode(envelope(client_messages.ReportRequest()))
    for bad in (b"", b"x" * 15, b"x" * 17):
        with pytest.raises(DecodeError, match="16"):
            codec.decode(replaced(sent, (field,), bad))


def test_the_recipient_is_known_by_its_id_or_not_at_all() -> None:
    """pitfall 7"""
    sent = codec.encode(envelope(client_messages.ReportRequest()))
    assert codec.decode(sent).recipient_id == b""
    assert codec.decode(replaced(sent, ("recipient_id",), b"r" * 16)).recipient_id == b"r" * 16
    for bad in (b"x", b"x" * 15, b"x" * 17):
        with pytest.raises(DecodeError, match="recipient_id"):
            codec.decode(replaced(sent, ("recipient_id",), bad))


def test_a_configuration_with_a_name_that_is_none_is_refused() -> None:
    bad = Configuration(("a\x1b",), addresses={"a\x1b": "tcp://h:1"})
    entries = (configuration_entry(5, 6, bad),)
    snapshot = InstallSnapshotRequest(7, 5, 4, bad, 3, 2)
    append = AppendEntriesRequest(7, 4, 5, 3, 1, entries)
    for message in (snapshot, append):
        with pytest.raises(DecodeError, match="no name of a node") as caught:
            codec.decode(codec.encode(envelope(message)))
        assert caught.value.reason.isprintable()


def test_another_version_is_named() -> None:
    data = bytearray(codec.encode(envelope(client_messages.ReportRequest())))
    for theirs in (0, 2, 255):
        data[4] = theirs
        with pytest.raises(VersionMismatch, match=f"version {theirs} .*version 1") as caught:
            codec.decode(bytes(data))
        assert (caught.value.theirs, caught.value.ours) == (theirs, 1)
        # A later version may have another layout: its number is all that is looked at.
        with pytest.raises(VersionMismatch):
            codec.decode(bytes(data[:5]))


def test_something_else_on_the_port_is_told_from_raftd() -> None:
    with pytest.raises(DecodeError, match="no message between raftd nodes"):
        codec.decode(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ((entry(6, 5),), "entry 6 stands where 5 belongs"),
        ((entry(5, 5), entry(5, 5)), "entry 5 stands where 6 belongs"),
        ((entry(5, 5), entry(7, 5)), "entry 7 stands where 6 belongs"),
        ((entry(5, 4),), "entry 5 has term 4"),
        ((entry(5, 6), entry(6, 5)), "entry 6 has term 5"),
        ((entry(5, 8),), "entry 5 has term 8"),
    ],
)
def test_entries_that_cannot_follow_are_refused(entries: tuple[Entry, ...], reason: str) -> None:
    message = AppendEntriesRequest(7, 4, 5, 3, 1, entries)
    with pytest.raises(DecodeError, match=reason):
        codec.decode(codec.encode(envelope(message)))


def test_a_previous_entry_from_a_later_term_is_refused() -> None:
    message = AppendEntriesRequest(7, 4, 8, 3, 1)
    with pytest.raises(DecodeError, match="prev_log_term 8 is above"):
        codec.decode(codec.encode(envelope(message)))


def test_a_header_has_no_other_fields() -> None:
    header, _ = unpack(codec.encode(envelope(client_messages.ReportRequest())))
    with pytest.raises(DecodeError, match="unknown field `signature`"):
        codec.decode(pack({**header, "signature": b"x"}))


def test_entries_in_the_header_are_refused() -> None:
    sent = codec.encode(envelope(AppendEntriesRequest(7, 4, 5, 3, 1)))
    header, _ = unpack(sent)
    header["message"]["entries"] = [{"index": 5, "term": 5, "type": 1, "record": b"x"}]
    with pytest.raises(DecodeError, match="entries belong behind it"):
        codec.decode(pack(header))
    header["message"]["entries"] = []
    assert codec.decode(pack(header)) == codec.decode(sent)


@pytest.mark.parametrize("message", SAMPLES[2:], ids=sample_id)
def test_bytes_behind_a_message_without_entries_are_refused(message: Any) -> None:
    sent = codec.encode(envelope(message))
    with pytest.raises(DecodeError, match="1 bytes too many"):
        codec.decode(sent + b"\0")


def test_deep_nesting_is_refused() -> None:
    """pitfall 77"""
    header, _ = unpack(codec.encode(envelope(client_messages.ReportRequest())))
    raw = msgspec.msgpack.encode(header | {"message": 0})
    deep = raw[:-1] + b"\x82\xa4type\xa7report?\xa1x" + b"\x91" * 100_000 + b"\x01"
    with pytest.raises(DecodeError):
        codec.decode(b"RAFT\x01" + struct.pack("<I", len(deep)) + deep)
    payload = b"\x81\xa1x" + b"\x91" * 100_000 + b"\x01"
    raw = record.encode(1, 1, EntryType.CONFIGURATION, payload, 0)
    nested = Entry(1, 1, EntryType.CONFIGURATION, raw)
    with pytest.raises(DecodeError):
        codec.decode(codec.encode(envelope(AppendEntriesRequest(1, 0, 0, 0, 1, (nested,)))))


def test_text_that_is_not_utf8_is_refused() -> None:
    """pitfall 77"""
    sent = codec.encode(envelope(client_messages.RefusedResponse("no!")))
    with pytest.raises(DecodeError):
        codec.decode(sent.replace(b"no!", b"\xff\xfe\xfd"))
    payload = members.encode(Configuration(("abc",))).replace(b"abc", b"\xff\xfe\xfd")
    raw = record.encode(1, 1, EntryType.CONFIGURATION, payload, 0)
    entries = (Entry(1, 1, EntryType.CONFIGURATION, raw),)
    with pytest.raises(DecodeError):
        codec.decode(codec.encode(envelope(AppendEntriesRequest(1, 0, 0, 0, 1, entries))))


def test_announced_lengths_allocate_nothing() -> None:
    """pitfall 74"""
    header, _ = unpack(codec.encode(envelope(client_messages.ReportRequest())))
    start = msgspec.msgpack.encode(header | {"message": 0})[:-1]
    huge = b"\xff\xff\xff\xff"
    hostile = [b"RAFT\x01" + huge + b"x"]
    for tail in (
        b"\x82\xa4type\xa8forward?\xa8commands\xdd" + huge,
        b"\x82\xa4type\xa8forward?\xa8commands\x91\xc6" + huge,
        b"\x82\xa4type\xa8forward!\xa8outcomes\xdd" + huge,
        b"\x82\xa4type\xa8refused!\xa6reason\xdb" + huge,
        b"\xdf" + huge,
    ):
        raw = start + tail
        hostile.append(b"RAFT\x01" + struct.pack("<I", len(raw)) + raw)
    sent = codec.encode(envelope(AppendEntriesRequest(7, 4, 5, 3, 1, (entry(5, 5),))))
    length_of_payload = len(sent) - record.HEADER_SIZE - 1 + 4
    hostile.append(sent[:length_of_payload] + huge + sent[length_of_payload + 4 :])
    tracemalloc.start()
    try:
        for data in hostile:
            with pytest.raises(DecodeError):
                codec.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
