"""The file of one node's trace: its lines, its lives, and what becomes of it on a full disk."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from raftd.state_trace.events import Event, State, TracedMessage, line
from raftd.state_trace.file import CannotTrace, TraceFile

MESSAGE = TracedMessage("MsgApp", 2, from_="n1", to="n2", entries=3, log_term=1, index=7, commit=6)
EVENT = Event(
    "SendAppendEntriesRequest",
    "n1",
    State(2, "n1", 6),
    "StateLeader",
    10,
    (("n1", "n2"), ()),
    MESSAGE,
    {"match": 7, "next": 8},
)


def test_the_form_of_a_line() -> None:
    """Names, order and types as in etcd's tla/example.ndjson."""
    assert line(EVENT, 1_712_329_729_602_453_700) == (
        b'{"level":"debug","ts":1712329729.602453700,"caller":"raftd","msg":"trace","tag":"trace",'
        b'"event":{"name":"SendAppendEntriesRequest","nid":"n1",'
        b'"state":{"term":2,"vote":"n1","commit":6},"role":"StateLeader","log":10,'
        b'"conf":[["n1","n2"],[]],'
        b'"msg":{"type":"MsgApp","term":2,"from":"n1","to":"n2","entries":3,"logTerm":1,"index":7,'
        b'"commit":6,"vote":"0","reject":false,"rejectHint":0},"prop":{"match":7,"next":8}}}\n'
    )


def test_what_there_is_not_is_left_out() -> None:
    event = Event("Ready", "n1", State(), "StateFollower", 1, (("n1",), ()))
    assert set(json.loads(line(event, 1))["event"]) == {
        *("name", "nid", "state", "role", "log", "conf"),
    }


def test_a_new_life_goes_on_from_the_last_ready(tmp_path: Path) -> None:
    first = TraceFile(tmp_path / "new", "n1")
    assert first.durable("n1") is None
    for name, commit in (("Ready", 4), ("Ready", 5), ("Commit", 6)):
        first.write(Event(name, "n1", State(2, "n2", commit), "StateLeader", 9, (("n1",), ())))
    first.close()
    path = tmp_path / "new" / "n1.ndjson"
    path.write_bytes(path.read_bytes() + b'{"level":"debug","ts":17')  # killed while writing
    second = TraceFile(tmp_path / "new", "n1")
    assert second.durable("n1") == State(2, "n2", 5)
    second.close()


def test_times_grow_even_if_the_clock_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((5_000_000_000, 5_000_000_000, 1_000_000_000))
    monkeypatch.setattr("raftd.state_trace.file.time.time_ns", lambda: next(clock))
    file = TraceFile(tmp_path, "n1")
    for _ in range(3):
        file.write(EVENT)
    file.close()
    lines = (tmp_path / "n1.ndjson").read_bytes().splitlines()
    assert [each.split(b":")[2].split(b",")[0] for each in lines] == [
        *(b"5.000000000", b"5.000000001", b"5.000000002"),
    ]


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotTrace, match=r"state_trace: cannot write .*n1.ndjson \(.*\); name a"):
        TraceFile(tmp_path / "file", "n1")


def test_a_full_disk_ends_the_trace_and_not_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "n1.ndjson").symlink_to("/dev/full")
    file = TraceFile(tmp_path, "n1")
    with caplog.at_level(logging.WARNING):
        file.write(EVENT)
        file.write(EVENT)
    assert len(caplog.messages) == 1
    assert "ends here: No space left on device" in caplog.messages[0]
    file.close()
