"""The shapes of the daemon's answers, as raftd/admin/interfaces/*.varlink describes them.

A field that may be null may also be missing: those are read with `.get`. Import this module for
type checking only: making these classes takes 7 ms.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Member(TypedDict):
    name: str
    address: str
    voter: bool
    role: str
    reachable: bool
    last_contact_ms: NotRequired[int | None]
    match_index: NotRequired[int | None]
    behind: NotRequired[int | None]
    term: NotRequired[int | None]
    first_index: NotRequired[int | None]
    last_index: NotRequired[int | None]
    commit_index: NotRequired[int | None]
    applied_index: NotRequired[int | None]
    snapshot_index: NotRequired[int | None]
    disk_used_bytes: NotRequired[int | None]
    uptime_ms: NotRequired[int | None]
    version: NotRequired[str | None]
    problem: NotRequired[str | None]
    membership: str
    drained: NotRequired[bool | None]
    priority: NotRequired[int | None]


class Status(TypedDict):
    node: str
    cluster_id: str
    role: str
    term: int
    leader: NotRequired[str | None]
    leader_since_ms: NotRequired[int | None]
    writable: bool
    reason: NotRequired[str | None]
    voters: int
    quorum: int
    failures_tolerated: int
    must_not_stop: list[str]
    members: list[Member]
    joint: bool
    removed: bool


class Quorum(TypedDict):
    voters: list[str]
    learners: list[str]
    quorum: int
    tolerates: int
    answering: list[str]
    may_fail: int


class Change(TypedDict):
    before: Quorum
    after: Quorum
    refused: NotRequired[str | None]
    forcible: bool
    warnings: list[str]
    index: NotRequired[int | None]
    configuration_file: NotRequired[str | None]


class Entry(TypedDict):
    index: int
    term: int
    time_ms: int
    kind: str
    uid: NotRequired[int | None]
    node: NotRequired[str | None]
    what: str
    size: int
    state: str


class Segment(TypedDict):
    file: str
    first_index: NotRequired[int | None]
    last_index: NotRequired[int | None]
    first_term: NotRequired[int | None]
    last_term: NotRequired[int | None]
    used_bytes: int
    size_bytes: int


class LogInfo(TypedDict):
    first_index: int
    last_index: int
    last_term: int
    commit_index: int
    applied_index: int
    snapshot_index: int
    snapshot_term: int
    used_bytes: int
    size_bytes: int
    segments: list[Segment]


class Item(TypedDict):
    key: str
    value: str
    revision: int
