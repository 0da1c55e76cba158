"""Requests as a peer would send them, short to write down. Each has an id of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from raftd.raft.configuration import Configuration, encode
from raftd.raft.log import Entry, EntryType
from raftd.raft.messages import (
    AppendEntriesRequest,
    InstallSnapshotRequest,
    RequestVoteRequest,
    TimeoutNowRequest,
)
from tests.raft import durable

_ids = count(10_000)


def vote(
    term: int,
    last_log_index: int = 0,
    last_log_term: int = 0,
    *,
    pre_vote: bool = False,
    transfer: bool = False,
) -> RequestVoteRequest:
    return RequestVoteRequest(term, last_log_index, last_log_term, next(_ids), pre_vote, transfer)


def append(
    term: int,
    prev_log_index: int = 0,
    prev_log_term: int = 0,
    entries: Sequence[int | Entry] = (),
    *,
    leader_commit: int = 0,
) -> AppendEntriesRequest:
    """`entries`: themselves, or only their terms."""
    following = tuple(durable.log_of(entries, prev_log_index + 1))
    return AppendEntriesRequest(
        term, prev_log_index, prev_log_term, leader_commit, next(_ids), following
    )


def configuration_entry(index: int, term: int, configuration: Configuration) -> Entry:
    record = durable.encode(index, term, EntryType.CONFIGURATION, encode(configuration))
    return Entry(index, term, EntryType.CONFIGURATION, record, configuration)


def snapshot(
    term: int,
    terms: Sequence[int],
    configuration: Configuration,
    *,
    offset: int = 0,
    size: int | None = None,
) -> InstallSnapshotRequest:
    """A chunk, by default the whole, of a snapshot of a log with these terms."""
    data = durable.snapshot_of(durable.log_of(terms))
    chunk = data[offset:] if size is None else data[offset : offset + size]
    return InstallSnapshotRequest(
        term,
        len(terms),
        terms[-1],
        configuration,
        offset,
        next(_ids),
        len(data),
        durable.checksum_of(data),
        chunk,
        offset + len(chunk) == len(data),
    )


def timeout_now(term: int) -> TimeoutNowRequest:
    return TimeoutNowRequest(term, next(_ids))
