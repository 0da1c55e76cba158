"""scenarios/*.txt are told again and must come out word for word; their language: story.py.

RAFTD_REWRITE=1 pytest tests/raft/test_scenarios.py     writes them anew: read the difference
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.raft.story import Story

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 12


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    script = path.read_text()
    told = Story().tell(script)
    if os.environ.get("RAFTD_REWRITE"):
        path.write_text(told)
    else:
        assert told == script
