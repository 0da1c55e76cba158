"""`raftctl status`, `members`, `leader`, `version`, `reload`."""

from __future__ import annotations

import json
import re

import pytest

from raftctl import status_view
from raftctl.answers import Status
from tests.raftctl import canned
from tests.raftctl.conftest import Golden, Raftctl
from tests.raftctl.fake_daemon import SILENCE, Error, FakeDaemon


def _plain(text: str, _look: str) -> str:
    return text


def _shown(status: object, width: int = 80) -> str:
    shape: Status = status  # type: ignore[assignment]
    return "".join(f"{line}\n" for line in status_view.lines(shape, width, _plain, canned.NOW_MS))


@pytest.mark.parametrize("state", ["healthy", "one_down", "no_quorum"])
def test_at_80_columns(state: str, golden: Golden) -> None:
    golden.check(f"status_{state}", _shown(getattr(canned, state)()))


def test_a_wide_terminal_has_one_table(golden: Golden) -> None:
    golden.check("status_wide", _shown(canned.healthy(), 140), columns=140)


def test_a_narrow_terminal_has_records(golden: Golden) -> None:
    golden.check("status_narrow", _shown(canned.one_down(), 40), columns=48)


def test_large_numbers_and_seven_members_fit_80_columns() -> None:
    index = 2_000_000_000
    members = [
        canned.member(
            f"node{number}",
            role="pre-candidate",
            term=123_456,
            match_index=index,
            behind=1_234_567,
            first_index=index - 10_000_000,
            last_index=index,
            applied_index=index,
            snapshot_index=index - 10_000_001,
            last_contact_ms=7_300_000,
        )
        for number in range(1, 8)
    ]
    shown = _shown(canned.healthy() | {"members": members})
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert shown.count("node7") == 2, "tables, not records"


def test_a_learner_and_another_term_are_told() -> None:
    members = [canned.member("node1", voter=False, term=6), *canned.healthy()["members"][1:]]
    line = next(
        line
        for line in _shown(canned.healthy() | {"members": members}).splitlines()
        if line.startswith("node1")
    )
    assert line.split() == ["node1", "follower", "(learner)", "this", "node", "6", "20412", "0"]


def test_a_match_index_of_0_is_no_news_of_a_member_that_does_not_answer() -> None:
    """A new leader begins at 0, which says nothing about what the member has."""
    members = [canned.unknown("node3", match_index=0, behind=20_412), canned.member("node1")]
    shown = _shown(canned.healthy() | {"members": members}).splitlines()
    assert next(line.split()[-3:] for line in shown if line.startswith("node3")) == ["-"] * 3


def test_status_says_the_same_through_the_command(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    result = raftctl("status")
    assert result.code == 0
    assert result.err == ""
    head, _, members = result.text.partition("\n\n")
    assert re.search(
        r"^Leader +node2 in term 7, since 2025-11-23T12:13:20 \(.* ago\)$", head, re.MULTILINE
    )
    assert members == _shown(canned.healthy()).partition("\n\n")[2]
    assert daemon.asked("GetStatus") == [{"timeout_ms": 1000}]


def test_asking_around_never_takes_longer_than_the_timeout(
    daemon: FakeDaemon, raftctl: Raftctl
) -> None:
    raftctl("status", "--timeout", "0.5")
    raftctl("--timeout", "30", "status")
    assert daemon.asked("GetStatus") == [{"timeout_ms": 400}, {"timeout_ms": 1000}]


@pytest.mark.parametrize("words", [("-o", "json", "status"), ("status", "-o", "json")])
def test_json_is_what_the_daemon_says(
    daemon: FakeDaemon, raftctl: Raftctl, words: tuple[str, ...]
) -> None:
    result = raftctl(*words)
    assert result.text.count("\n") == 1
    assert json.loads(result.out) == canned.healthy()


@pytest.mark.parametrize("output", ["table", "json"])
def test_without_quorum_it_is_printed_and_ends_with_4(
    daemon: FakeDaemon, raftctl: Raftctl, output: str
) -> None:
    daemon.answers["GetStatus"] = {"status": canned.no_quorum()}
    result = raftctl("status", "-o", output)
    assert result.code == 4
    assert "no quorum: 1 of 3 voters answers, 2 are needed" in result.text
    assert result.err == ""


def test_nothing_is_said_by_colour_alone(
    daemon: FakeDaemon, raftctl: Raftctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["GetStatus"] = {"status": canned.no_quorum()}
    coloured = raftctl("status", terminal=True).text
    monkeypatch.setenv("NO_COLOR", "1")
    plain = raftctl("status", terminal=True).text
    assert "\x1b[1;31mNO: no quorum" in coloured
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_no_colours_in_a_pipe_or_on_a_dumb_terminal(
    daemon: FakeDaemon, raftctl: Raftctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert b"\x1b" not in raftctl("status").out
    monkeypatch.setenv("TERM", "dumb")
    assert b"\x1b" not in raftctl("status", terminal=True).out


def test_what_members_say_never_reaches_a_terminal_raw(
    daemon: FakeDaemon, raftctl: Raftctl
) -> None:
    hostile = "\x1b]0;owned\x07\x9b2J\u202e\nnode9"
    member = canned.member("node2", version=hostile, problem=hostile, role=hostile)
    status = canned.healthy() | {"members": [member], "cluster_id": hostile, "leader": hostile}
    daemon.answers["GetStatus"] = {"status": status}
    for words in (("status",), ("members",), ("leader",), ("status", "-o", "json")):
        text = raftctl(*words).text
        assert all(char.isprintable() or char == "\n" for char in text), words
        assert "\nnode9" not in text


def test_fields_that_are_missing_are_unknown(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    """A null field may be left out of a Varlink reply."""
    status = canned.no_quorum()
    status["members"] = [
        {name: value for name, value in member.items() if value is not None}
        for member in status["members"]
    ]
    del status["leader"], status["leader_since_ms"]
    daemon.answers["GetStatus"] = {"status": status}
    assert raftctl("status").text == _shown(canned.no_quorum())


@pytest.mark.parametrize("words", [("members",), ("members", "list")])
def test_members(
    daemon: FakeDaemon, raftctl: Raftctl, golden: Golden, words: tuple[str, ...]
) -> None:
    status = canned.one_down()
    status["members"].reverse()
    daemon.answers["GetStatus"] = {"status": status}
    result = raftctl(*words)
    assert result.code == 0
    golden.check("members", result.text)
    names = [member["name"] for member in json.loads(raftctl(*words, "-o", "json").out)["members"]]
    assert names == ["node1", "node2", "node3"]


@pytest.mark.parametrize("words", [("leader",), ("leader", "show")])
def test_leader(daemon: FakeDaemon, raftctl: Raftctl, words: tuple[str, ...]) -> None:
    result = raftctl(*words)
    assert result.code == 0
    assert result.text.startswith("node2 in term 7, since 2025-11-23T12:13:20 (")
    assert json.loads(raftctl(*words, "-o", "json").out) == {
        "leader": "node2",
        "term": 7,
        "leader_since_ms": canned.LEADER_SINCE_MS,
        "node": "node1",
    }


def test_no_leader_ends_with_4(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    daemon.answers["GetStatus"] = {"status": canned.no_quorum()}
    result = raftctl("leader")
    assert (result.code, result.text) == (4, "none known to node1, in term 7\n")


def test_transfer(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    assert raftctl("leader", "transfer", "node2").text == "node2 leads now\n"
    assert raftctl("leader", "transfer").text == "node3 leads now\n"
    assert raftctl("leader", "transfer", "-o", "json").text == '{"leader":"node3"}\n'
    assert daemon.asked("TransferLeadership") == [
        {"timeout_ms": 4500, "name": "node2"},
        {"timeout_ms": 4500},
        {"timeout_ms": 4500},
    ]


def test_version_of_both(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    assert raftctl("version").text == "raftctl  0.1.0\nraftd    0.1.0, node node1\n"
    found = json.loads(raftctl("version", "-o", "json").out)
    assert found == {"client": "0.1.0", "daemon": "0.1.0", "node": "node1"}


def test_version_without_a_daemon(raftctl: Raftctl) -> None:
    result = raftctl("version")
    assert (result.code, result.text) == (3, "raftctl  0.1.0\n")
    found = raftctl("version", "-o", "json")
    assert json.loads(found.out) == {"client": "0.1.0", "daemon": None, "node": None}
    assert raftctl("--version").text == "raftctl 0.1.0\n"


def test_reload(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    assert raftctl("reload").text == "the log levels have been read again\n"
    assert raftctl("reload", "-o", "json").text == "{}\n"
    daemon.answers["Reload"] = Error("org.varlink.service.PermissionDenied")
    result = raftctl("reload")
    assert result.code == 7
    assert result.err == (
        "raftctl: not permitted: io.raftd.Node.Reload is for root and the daemon's own user\n"
    )


def test_a_daemon_that_is_stopped_is_not_waited_for(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    daemon.answers["GetStatus"] = SILENCE
    result = raftctl("status", "--timeout", "0.1")
    assert result.code == 4
    assert result.err == f"raftctl: no answer from {daemon.path} within 0.1 s\n"
