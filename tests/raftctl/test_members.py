"""`raftctl members add`, `promote`, `demote`, `remove`, `replace`, `set-address`; `drain`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.raftctl import canned
from tests.raftctl.conftest import Golden, Raftctl
from tests.raftctl.fake_daemon import Error, FakeDaemon

FILE = 'name = "node4"\njoin = "5d41402abc4b2a76b9719d911017c592:17"\n'


def report(**fields: Any) -> dict[str, Any]:
    before = {
        "voters": ["node1", "node2", "node3"],
        "learners": [],
        "quorum": 2,
        "tolerates": 1,
        "answering": ["node1", "node2", "node3"],
        "may_fail": 1,
    }
    after = before | {
        "voters": ["node1", "node2"],
        "answering": ["node1", "node2"],
        "tolerates": 0,
        "may_fail": 0,
    }
    nothing = {"refused": None, "index": None, "configuration_file": None}
    told: dict[str, Any] = {
        "before": before,
        "after": after,
        "forcible": False,
        "warnings": [],
        **nothing,
    }
    return {"report": told | fields}


@pytest.mark.parametrize(
    ("words", "parameters"),
    [
        ("add node4 tcp://x:1", {"action": "add", "name": "node4", "address": "tcp://x:1"}),
        (
            "add node4 tcp://x:1 --learner",
            {"action": "add", "name": "node4", "address": "tcp://x:1", "learner": True},
        ),
        ("promote node4", {"action": "promote", "name": "node4"}),
        ("demote node4 --force", {"action": "demote", "name": "node4", "force": True}),
        ("remove node4 --dry-run", {"action": "remove", "name": "node4", "dry_run": True}),
        (
            "replace node3 node4 tcp://x:1",
            {"action": "replace", "name": "node3", "new_name": "node4", "address": "tcp://x:1"},
        ),
        (
            "set-address node3 tcp://x:1",
            {"action": "set_address", "name": "node3", "address": "tcp://x:1"},
        ),
    ],
)
def test_what_is_asked(
    daemon: FakeDaemon, raftctl: Raftctl, words: str, parameters: dict[str, Any]
) -> None:
    daemon.answers["ChangeMembers"] = report(index=17)
    assert raftctl("members", *words.split()).code == 0
    (asked,) = daemon.asked("ChangeMembers")
    assert asked.pop("timeout_ms") == 4500
    assert asked == parameters


def test_a_dry_run_shows_before_and_after(
    daemon: FakeDaemon, raftctl: Raftctl, golden: Golden
) -> None:
    daemon.answers["ChangeMembers"] = report(warnings=["2 voters survive no more failures than 1"])
    result = raftctl("members", "remove", "node3", "--dry-run")
    golden.check("members_remove_dry_run", result.text)
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("action", [["add"], ["replace", "node3"]])
def test_the_file_for_the_new_host_stands_alone_on_standard_output(
    daemon: FakeDaemon, raftctl: Raftctl, action: list[str]
) -> None:
    """So that `> node4.toml` is all there is to do."""
    daemon.answers["ChangeMembers"] = report(index=17, configuration_file=FILE)
    result = raftctl("members", *action, "node4", "tcp://x:1")
    assert result.text == FILE
    assert "node4 is admitted; it " in result.err
    assert "VOTERS" in result.err
    printed = raftctl("members", *action, "node4", "tcp://x:1", "-o", "json")
    assert json.loads(printed.out)["configuration_file"] == FILE
    assert printed.err == ""


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("forcible", "hint"), [(True, "; --force does it all the same\n"), (False, "\n")]
)
def test_a_refusal_ends_with_6(
    daemon: FakeDaemon, raftctl: Raftctl, forcible: bool, hint: str, dry_run: bool
) -> None:
    daemon.answers["ChangeMembers"] = report(refused="it would be unsafe", forcible=forcible)
    words = ["--dry-run"] if dry_run else []
    result = raftctl("members", "remove", "node3", *words)
    assert result.code == 6
    assert result.err == f"raftctl: refused: it would be unsafe{hint}"
    assert "before" in result.text


def test_what_was_forced_is_done(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    daemon.answers["ChangeMembers"] = report(refused=None, forcible=True, index=17)
    result = raftctl("members", "remove", "node3", "--force")
    assert result.code == 0
    assert result.text.endswith("node3 is no member any more\n")


@pytest.mark.parametrize("word", ["drain", "undrain"])
def test_drain(daemon: FakeDaemon, raftctl: Raftctl, word: str) -> None:
    daemon.answers[word.capitalize()] = lambda parameters: {"name": parameters.get("name", "node1")}
    assert raftctl(word).text.startswith("node1 ")
    assert raftctl(word, "node2").text.startswith("node2 ")
    printed = json.loads(raftctl(word, "-o", "json").out)
    assert printed == {"name": "node1", "drained": word == "drain"}


def test_a_drain_that_is_refused(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    reason = {"reason": "nobody would lead"}
    daemon.answers["Drain"] = Error("io.raftd.Node.Refused", reason)
    result = raftctl("drain")
    assert (result.code, result.err) == (6, "raftctl: refused: nobody would lead\n")
    assert raftctl("drain", "--force").code == 6
    assert [asked.get("force") for asked in daemon.asked("Drain")] == [None, True]


def test_status_shows_who_joins_leaves_and_is_drained(
    daemon: FakeDaemon, raftctl: Raftctl, golden: Golden
) -> None:
    status = canned.healthy() | {"joint": True}
    status["members"] = [
        canned.member("node1", last_contact_ms=None, membership="leaving"),
        canned.member("node2", role="leader"),
        canned.member("node3", drained=True),
        canned.member("node4", role="learner", voter=False, membership="joining", behind=4000),
        canned.member("node5", role="learner", voter=False, membership="learner"),
    ]
    daemon.answers["GetStatus"] = {"status": status}
    head = raftctl("status").text.splitlines()
    shown = "\n".join(line for line in head if not line.startswith("Leader"))
    golden.check("status_members", f"{shown}\n")
