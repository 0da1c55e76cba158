"""Each deliberate bug is caught: first with the seed that caught it when it was last looked for."""

from __future__ import annotations

import pytest

from tests.simulation import mutations

KNOWN_SEEDS = {
    "vote-not-saved": 0,
    "double-vote-after-restart": 1,
    "second-vote-in-a-term": 1,
    "up-to-date-check-ignored": 2,
    "asks-before-own-vote-is-saved": 0,
    "pre-vote-counts-as-vote": 0,
    "majority-off-by-one": 0,
    "term-not-adopted": 0,
    "older-leader-is-followed": 2,
    "leader-does-not-step-down": 6,
    "no-no-op-before-read-index": 2,
    "stale-read-after-partition": 4,
    "read-index-one-too-low": 0,
    "lease-never-ends": 4,
    "reply-before-fsync": 0,
    "reply-before-entries-are-saved": 0,
    "commit-old-term-by-counting": 3,
    "prev-log-term-ignored": 5,
    "truncates-without-conflict": 10,
    "truncates-committed-entries": 2,
    "leader-counts-unsynced-entries": 2,
    "sent-counts-as-matched": 0,
    "commit-index-without-min": 0,
    "heartbeat-commits-beyond-match": 0,
    "applies-what-is-not-saved": 0,
    "configuration-not-rolled-back": 9,
    "log-slice-ignores-eviction": 0,
    "next-index-never-goes-back": 1,
    "window-never-reopens": 0,
    "proposal-index-off-by-one": 1,
    "entries-not-synced": 1,
    "hard-state-not-synced": 2,
    "hard-state-slot-not-alternated": 7,
    "hard-state-left-out": 2,
    "directory-fsync-skipped": 1,
    "segment-name-not-synced": 5,
    "snapshot-not-synced": 5,
    "failed-fsync-is-repeated": 1,
    "torn-tail-is-damage": 6,
    "damage-is-taken-for-a-torn-write": 1,
    "last-frame-lost": 1,
    "superseded-entries-come-back": 0,
}


@pytest.mark.parametrize("name", KNOWN_SEEDS)
def test_the_simulation_catches(name: str) -> None:
    bug = mutations.find(name)
    caught = mutations.hunt(bug, KNOWN_SEEDS[name])
    assert caught is not None, f"{bug.text}: not caught by {bug.limit} seeds"
    assert caught.result.property


def test_there_are_enough() -> None:
    assert len(KNOWN_SEEDS) >= 25
