"""Answers for the fake daemon: a healthy cluster of three, one without quorum, and a short log."""

from __future__ import annotations

from binascii import b2a_base64
from typing import Any

LEADER_SINCE_MS = 1_763_900_000_000
NOW_MS = LEADER_SINCE_MS + 11_520_000 + 4_000


def base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def member(name: str, **fields: Any) -> dict[str, Any]:
    number = name[-1]
    return {
        "name": name,
        "address": f"tcp://10.0.0.{number}:7001",
        "voter": True,
        "role": "follower",
        "reachable": True,
        "last_contact_ms": 87,
        "match_index": 20_412,
        "behind": 0,
        "term": 7,
        "first_index": 10_001,
        "last_index": 20_412,
        "commit_index": 20_412,
        "applied_index": 20_412,
        "snapshot_index": 10_000,
        "disk_used_bytes": 134_217_728,
        "uptime_ms": 273_600_000,
        "version": "0.1.0",
        "problem": None,
    } | fields


def unknown(name: str, **fields: Any) -> dict[str, Any]:
    """A member that does not answer."""
    known = {"name", "address", "voter", "role", "reachable"}
    nothing = dict.fromkeys(member(name).keys() - known)
    return member(name, role="unknown", reachable=False, **(nothing | fields))


def healthy() -> dict[str, Any]:
    return {
        "node": "node1",
        "cluster_id": "5d41402abc4b2a76b9719d911017c592",
        "role": "follower",
        "term": 7,
        "leader": "node2",
        "leader_since_ms": LEADER_SINCE_MS,
        "writable": True,
        "reason": None,
        "voters": 3,
        "quorum": 2,
        "failures_tolerated": 1,
        "must_not_stop": [],
        "members": [
            member("node1", last_contact_ms=None),
            member("node2", role="leader"),
            member("node3", match_index=20_400, behind=12, last_index=20_400, applied_index=20_399),
        ],
    }


def one_down() -> dict[str, Any]:
    return healthy() | {
        "failures_tolerated": 0,
        "must_not_stop": ["node1", "node2"],
        "members": [
            member("node1", last_contact_ms=None),
            member("node2", role="leader"),
            unknown("node3", last_contact_ms=754_000, match_index=20_400, behind=12),
        ],
    }


def no_quorum() -> dict[str, Any]:
    return healthy() | {
        "role": "pre-candidate",
        "leader": None,
        "leader_since_ms": None,
        "writable": False,
        "reason": "no quorum: 1 of 3 voters answers, 2 are needed",
        "failures_tolerated": 0,
        "members": [
            member("node1", role="pre-candidate", last_contact_ms=None, behind=None)
            | {"problem": "disk full: 0 bytes free on /var/lib/raftd/node1"},
            unknown("node2"),
            unknown("node3", last_contact_ms=12_300),
        ],
    }


def entry(index: int, **fields: Any) -> Any:
    return {
        "index": index,
        "term": 7,
        "time_ms": LEADER_SINCE_MS + index * 61_234,
        "kind": "command",
        "uid": 0,
        "node": "node1",
        "what": f'put "app/{index}" = 4 bytes',
        "size": 57,
        "state": "applied",
    } | fields


def short_log() -> list[dict[str, Any]]:
    nobody = {"uid": None, "node": None}
    return [
        entry(1, kind="no-op", term=6, what="a new leader begins its term", **nobody),
        entry(2, kind="configuration", what="members node1, node2, node3", **nobody),
        entry(3),
        entry(4, uid=424242, node="node3", what='delete "app/3"'),
        entry(5, state="committed"),
        entry(6, what='put "a/key/that/is/much/longer/than/most/…" = 1048576 bytes')
        | {"state": "uncommitted"},
    ]


def log_info(**fields: Any) -> dict[str, Any]:
    return {
        "first_index": 1,
        "last_index": 6,
        "last_term": 7,
        "commit_index": 5,
        "applied_index": 4,
        "snapshot_index": 0,
        "snapshot_term": 0,
        "used_bytes": 1_363_149,
        "size_bytes": 134_217_728,
        "segments": [
            {
                "file": "00000000000000000001.seg",
                "first_index": 1,
                "last_index": 4,
                "first_term": 6,
                "last_term": 7,
                "used_bytes": 1_363_000,
                "size_bytes": 67_108_864,
            },
            {
                "file": "00000000000000000005.seg",
                "first_index": 5,
                "last_index": 6,
                "first_term": 7,
                "last_term": 7,
                "used_bytes": 149,
                "size_bytes": 67_108_864,
            },
            {
                "file": "spare.seg",
                "first_index": None,
                "last_index": None,
                "first_term": None,
                "last_term": None,
                "used_bytes": 0,
                "size_bytes": 67_108_864,
            },
        ],
    } | fields


def item(key: bytes, value: bytes, revision: int = 42) -> dict[str, Any]:
    return {"key": base64(key), "value": base64(value), "revision": revision}


def answers() -> dict[str, Any]:
    """By the name of the method."""
    entries = short_log()
    return {
        "GetStatus": {"status": healthy()},
        "GetVersion": {"version": "0.1.0", "node": "node1"},
        "TransferLeadership": lambda asked: {"leader": asked.get("name", "node3")},
        "GetLogInfo": {"info": log_info()},
        "GetLogEntry": {"entry": entries[2], "payload": base64(b"\x93\x00\xa5node1\xc4\x04x")},
        "ReadLog": {"entries": entries},
        "Reload": {},
        "Put": {"revision": 42, "existed": False},
        "Get": {"item": item(b"app/mode", b"blue")},
        "Delete": {"revision": 43, "existed": True},
        "Range": {"items": [item(b"app/1", b"one", 3), item(b"app/2", b"two", 5)], "more": False},
        "CompareAndSet": {"revision": 44, "existed": True},
    }
