"""`raftctl log`: entries in lines, one entry at length, the files; following is in test_follow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.raftctl import canned
from tests.raftctl.canned import base64
from tests.raftctl.conftest import Golden, Raftctl
from tests.raftctl.fake_daemon import Error, FakeDaemon


@pytest.fixture(autouse=True)
def _no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def test_on_a_terminal_of_80_columns(daemon: FakeDaemon, raftctl: Raftctl, golden: Golden) -> None:
    golden.check("log_tail_terminal", raftctl("log", "tail", terminal=True).text)
    assert daemon.asked("ReadLog") == [{"count": 10}]


def test_on_a_wide_terminal(daemon: FakeDaemon, raftctl: Raftctl, golden: Golden) -> None:
    shown = raftctl("log", "tail", terminal=True, columns=130).text
    golden.check("log_tail_wide", shown, columns=130)


def test_in_a_pipe_nothing_is_cut(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    shown = raftctl("log", "tail").text.splitlines()
    words = "    1    6 2025-11-23T12:14:21 applied     no-op   -            "
    assert shown[1] == words + "a new leader begins its term"
    assert shown[6].endswith(canned.short_log()[5]["what"])


def test_numbers_of_ten_digits_keep_their_columns(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    entries = [canned.entry(index, term=123_456) for index in (999_999_999, 1_000_000_000)]
    daemon.answers["ReadLog"] = {"entries": entries}
    shown = raftctl("log", "tail", terminal=True).text.splitlines()
    assert len({line.find("123456") for line in shown[3:]}) == 1
    assert max(len(line) for line in shown) < 80


def test_without_unicode_marks_are_ascii(
    daemon: FakeDaemon, raftctl: Raftctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "linux")
    daemon.answers["ReadLog"] = {"entries": [canned.entry(1, what="x" * 100)]}
    shown = raftctl("log", "tail", terminal=True).text
    assert shown.isascii()
    assert shown.splitlines()[0] == "? uncommitted  + committed  * applied  x truncated"


def test_json_lines(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    shown = raftctl("log", "tail", "-o", "json").text.splitlines()
    assert [json.loads(line) for line in shown] == canned.short_log()


def _log(last: int) -> Any:
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        first = asked.get("first", last - asked["count"] + 1)
        end = min(last, first + asked["count"] - 1)
        return {"entries": [canned.entry(index) for index in range(first, end + 1)]}

    return answer


def _indexes(raftctl: Raftctl, *words: str) -> list[int]:
    result = raftctl("log", "tail", "-o", "json", *words)
    assert result.code == 0, result.err
    return [json.loads(line)["index"] for line in result.text.splitlines()]


@pytest.mark.parametrize(
    ("words", "first", "last"),
    [
        (("-n", "3"), 1998, 2000),
        (("-n", "1200"), 801, 2000),
        (("-n", "5000"), 101, 2000),
        (("--from", "1990"), 1990, 2000),
        (("--from", "300"), 300, 2000),
        (("--from", "300", "-n", "700"), 300, 999),
    ],
)
def test_which_entries(
    daemon: FakeDaemon, raftctl: Raftctl, words: tuple[str, ...], first: int, last: int
) -> None:
    daemon.answers["GetLogInfo"] = {"info": canned.log_info(first_index=101, last_index=2000)}
    daemon.answers["ReadLog"] = _log(2000)
    assert _indexes(raftctl, *words) == list(range(first, last + 1))
    assert max(asked["count"] for asked in daemon.asked("ReadLog")) <= 500


def test_an_index_behind_the_end(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    result = raftctl("log", "tail", "--from", "7")
    assert (result.code, result.err) == (
        5,
        "raftctl: no entry 7: this node's log has 1 to 6\n",
    )


def test_an_index_below_the_start(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    """What a snapshot has replaced is not skipped in silence."""
    daemon.answers["GetLogInfo"] = {"info": canned.log_info(first_index=4)}
    result = raftctl("log", "tail", "--from", "3")
    assert (result.code, result.err) == (
        5,
        "raftctl: no entry 3: this node's log has 4 to 6\n",
    )


def test_a_log_that_shrinks_meanwhile_is_no_endless_loop(
    daemon: FakeDaemon, raftctl: Raftctl
) -> None:
    daemon.answers["ReadLog"] = {"entries": []}
    assert _indexes(raftctl, "--from", "2") == []


def test_an_empty_log(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    daemon.answers["ReadLog"] = {"entries": []}
    result = raftctl("log", "tail")
    assert (result.code, result.err) == (0, "")
    assert len(result.text.splitlines()) == 1


def test_hostile_entries(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    hostile = "\x1b[2J\x9b\u202e\nroot"
    entry = canned.entry(1, what=hostile, node=hostile, kind=hostile, state=hostile)
    daemon.answers["ReadLog"] = {"entries": [entry]}
    daemon.answers["GetLogEntry"] = {"entry": entry, "payload": base64(hostile.encode())}
    segment = dict(canned.log_info()["segments"][0], file=hostile)
    daemon.answers["GetLogInfo"] = {"info": canned.log_info(segments=[segment])}
    for words in (("tail",), ("show", "1"), ("info",), ("tail", "-o", "json")):
        for terminal in (False, True):
            text = raftctl("log", *words, terminal=terminal).text
            assert all(char.isprintable() or char == "\n" for char in text), words
            assert "\nroot" not in text


def test_show(daemon: FakeDaemon, raftctl: Raftctl, golden: Golden) -> None:
    payload = b"\x93\x00\xa5node1\xc4\x16\x93\x01\xc4\x05app/3\xc4\x04blue"
    daemon.answers["GetLogEntry"] = {"entry": canned.short_log()[2], "payload": base64(payload)}
    golden.check("log_show", raftctl("log", "show", "3").text)
    assert daemon.asked("GetLogEntry") == [{"index": 3}]
    found = json.loads(raftctl("log", "show", "3", "-o", "json").out)
    assert found == canned.short_log()[2] | {"payload_base64": base64(payload)}


def test_show_text_and_nothing(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    entry = canned.short_log()[0]
    daemon.answers["GetLogEntry"] = {"entry": entry, "payload": base64("Grüße\nWelt".encode())}
    assert raftctl("log", "show", "1").text.endswith("payload\n\n  Grüße\n  Welt\n")
    daemon.answers["GetLogEntry"] = {"entry": entry, "payload": ""}
    assert raftctl("log", "show", "1").text.endswith("0 of them payload\n")


def test_show_cuts_a_long_payload_and_says_so(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    answer = {"entry": canned.short_log()[2], "payload": base64(b"\0" * 10_000)}
    daemon.answers["GetLogEntry"] = answer
    shown = raftctl("log", "show", "3").text.splitlines()
    assert shown[-1] == "... and 5904 bytes more: --full shows them"
    assert shown[-2].startswith("00000ff0  00 00")
    shown = raftctl("log", "show", "3", "--full").text.splitlines()
    assert shown[-1].startswith("00002700  00 00")


def test_show_what_is_not_there(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    parameters = {"index": 7, "first_index": 1, "last_index": 6}
    daemon.answers["GetLogEntry"] = Error("io.raftd.Node.NoSuchEntry", parameters)
    result = raftctl("log", "show", "7")
    assert (result.code, result.err) == (5, "raftctl: no entry 7: this node's log has 1 to 6\n")
    assert raftctl("log", "show", "0").code == 2


def test_info(daemon: FakeDaemon, raftctl: Raftctl, golden: Golden) -> None:
    golden.check("log_info", raftctl("log", "info").text)
    assert json.loads(raftctl("log", "info", "-o", "json").out) == canned.log_info()
    daemon.answers["GetLogInfo"] = {
        "info": canned.log_info(
            first_index=7, snapshot_index=6, snapshot_term=7, used_bytes=0, segments=[]
        )
    }
    shown = raftctl("log", "info").text.splitlines()
    assert shown[0] == "Entries    empty, the last of term 7"
    assert shown[3] == "Snapshot   up to 6 (term 7)"
