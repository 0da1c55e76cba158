"""What goes to the journal: fields, kinds of events, and the catalog that explains them."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftd import journal, logs
from raftd.journal import MESSAGE_IDS, Journal, fields

ROOT = Path(__file__).parents[1]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd-journald would listen on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        receiver.setblocking(False)
        yield receiver


@pytest.fixture
def sender(receiver: socket.socket) -> Iterator[Journal]:
    sender = Journal("node1", receiver.getsockname())
    yield sender
    sender.close()


def entry(receiver: socket.socket) -> dict[str, str]:
    """One datagram, by the rules of systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    data, found = receiver.recv(1 << 20), {}
    while data:
        line, _, data = data.partition(b"\n")
        key, separator, value = line.partition(b"=")
        if not separator:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[8 + size + 1 :]
        found[key.decode()] = value.decode()
    return found


def record(extra: dict[str, object] | None = None) -> logging.LogRecord:
    return logging.getLogger("raftd.raft").makeRecord(
        "raftd.raft", logging.WARNING, "raft.py", 7, "node1 leads", (), None, "lead", extra
    )


def test_a_record_has_its_words_its_level_and_what_it_speaks_of(
    sender: Journal, receiver: socket.socket
) -> None:
    about = fields("leader-changed", term=3, index=17, peer="node2")
    assert sender.send(record(about), "raft: node1 leads")
    assert entry(receiver) == {
        "MESSAGE": "raft: node1 leads",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "raftd",
        "MESSAGE_ID": MESSAGE_IDS["leader-changed"],
        "RAFTD_NODE": "node1",
        "RAFTD_MODULE": "raft",
        "RAFTD_TERM": "3",
        "RAFTD_INDEX": "17",
        "RAFTD_PEER": "node2",
        "CODE_FILE": "raft.py",
        "CODE_LINE": "7",
        "CODE_FUNC": "lead",
    }


def test_what_a_record_does_not_speak_of_is_no_field(
    sender: Journal, receiver: socket.socket
) -> None:
    assert sender.send(record(), "x")
    assert not {"MESSAGE_ID", "RAFTD_TERM", "RAFTD_INDEX", "RAFTD_PEER"} & entry(receiver).keys()
    assert sender.send(record(fields(index=0)), "x")
    assert entry(receiver)["RAFTD_INDEX"] == "0", "zero is an index"


def test_several_lines_stay_one_record_and_make_no_fields(
    sender: Journal, receiver: socket.socket
) -> None:
    assert sender.send(record(), "one\nPRIORITY=0\nthree=")
    found = entry(receiver)
    assert (found["MESSAGE"], found["PRIORITY"]) == ("one\nPRIORITY=0\nthree=", "4")


def test_no_journal_and_a_record_too_large_for_it_are_told(
    sender: Journal, receiver: socket.socket
) -> None:
    assert not sender.send(record(), "x" * (8 << 20))
    Path(receiver.getsockname()).unlink()
    assert not sender.send(record(), "x")


def test_a_journal_that_takes_nothing_holds_up_nobody(
    sender: Journal, receiver: socket.socket
) -> None:
    for _ in range(100_000):
        if not sender.send(record(), "x" * 1000):
            return
    pytest.fail("it never was full")


def test_lines_go_to_the_journal_and_to_stderr_only_without_one(
    receiver: socket.socket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal, "SOCKET", receiver.getsockname())
    status, top = os.fstat(2), logging.getLogger("raftd")
    before, top.handlers = top.handlers, []
    try:
        logs.configure("info", {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}, node="n1")
        logging.getLogger("raftd.kv").warning("said\x1b[2J", extra=fields("disk-full"))
        found = entry(receiver)
        assert (found["MESSAGE"], found["RAFTD_NODE"]) == (r"kv: said\x1b[2J", "n1")
        assert found["MESSAGE_ID"] == MESSAGE_IDS["disk-full"]
        assert capsys.readouterr().err == ""
        Path(receiver.getsockname()).unlink()
        logging.getLogger("raftd.kv").warning("said")
        assert capsys.readouterr().err == "<4>kv: said\n"
    finally:
        for handler in top.handlers:
            handler.close()
        top.handlers = before


def test_an_event_that_nobody_knows_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="leader-chnaged"):
        fields("leader-chnaged")


def test_the_catalog_explains_each_event_once() -> None:
    catalog = (ROOT / "packaging" / "raftd.catalog").read_text()
    assert re.findall(r"^-- (\S+)$", catalog, re.MULTILINE) == list(MESSAGE_IDS.values())
    for text in catalog.split("\n-- ")[1:]:
        assert re.match(r"[0-9a-f]{32}\nSubject: .+\nDefined-By: raftd\nDocumentation: ", text)
    assert set(re.findall(r"@(\w+)@", catalog)) <= {
        f"RAFTD_{x}" for x in ("NODE", "TERM", "PEER", "INDEX")
    }


def test_each_event_is_said_somewhere() -> None:
    source = "".join(
        path.read_text() for path in (ROOT / "raftd").rglob("*.py") if path.name != "journal.py"
    )
    missing = {event for event in MESSAGE_IDS if f'"{event}"' not in source}
    assert missing <= {"member-changed"}
