"""Every way to fail: one sentence on standard error, one exit code, never a traceback."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from raftctl import exit_codes, failure
from raftd.admin.protocol import INTERFACES, interface_text
from tests.raftctl.canned import base64
from tests.raftctl.conftest import Raftctl
from tests.raftctl.fake_daemon import SILENCE, Error, FakeDaemon, Raw

_REASON = {"reason": "because"}


@pytest.mark.parametrize(
    ("words", "error", "parameters", "code", "sentence"),
    [
        ("kv get k", "io.raftd.KV.NotFound", {"key": base64(b"k\n")}, 5, 'no such key: "k\\x0a"'),
        ("kv get k", "io.raftd.KV.NoQuorum", _REASON, 4, "no quorum: because"),
        ("kv put k v", "io.raftd.KV.NoQuorum", _REASON, 4, "no quorum: because"),
        (
            "kv put k v",
            "io.raftd.KV.OutcomeUnknown",
            _REASON,
            4,
            (
                "outcome unknown: because; it may still be done: look, or try again if doing it "
                "twice is harmless"
            ),
        ),
        (
            "kv put k v",
            "io.raftd.KV.Busy",
            _REASON,
            4,
            "busy: because; nothing was done: try again a little later",
        ),
        (
            "kv put k v",
            "io.raftd.KV.TooLarge",
            {"size": 7, "limit": 6},
            1,
            "too large: 7 bytes, the limit is 6",
        ),
        ("kv put k v", "io.raftd.KV.Invalid", _REASON, 2, "because"),
        ("leader transfer x", "io.raftd.Node.Invalid", _REASON, 2, "because"),
        ("kv put k v", "io.raftd.KV.Refused", _REASON, 6, "refused: because"),
        (
            "kv cas k v --absent",
            "io.raftd.KV.CompareFailed",
            {"revision": 9, "value": base64(b"v\xff" + b"w" * 100)},
            8,
            'compare failed: the key has revision 9 and value "v\\xff' + "w" * 52 + '..."',
        ),
        (
            "kv cas k v --expect x",
            "io.raftd.KV.CompareFailed",
            {"revision": 0, "value": None},
            8,
            "compare failed: the key does not exist",
        ),
        ("leader transfer x", "io.raftd.Node.NoQuorum", _REASON, 4, "no quorum: because"),
        ("leader transfer x", "io.raftd.Node.Refused", _REASON, 6, "refused: because"),
        (
            "leader transfer x",
            "io.raftd.Node.NoSuchMember",
            {"name": "x"},
            5,
            'no member is called "x"',
        ),
        (
            "log show 9",
            "io.raftd.Node.NoSuchEntry",
            {"index": 9, "first_index": 1, "last_index": 7},
            5,
            "no entry 9: this node's log has 1 to 7",
        ),
        (
            "log show 9",
            "io.raftd.Node.NoSuchEntry",
            {"index": 9, "first_index": 1, "last_index": 0},
            5,
            "no entry 9: this node's log is empty",
        ),
        (
            "status",
            "io.raftd.Node.ProtocolError",
            _REASON,
            1,
            "the daemon did not take the call: because",
        ),
        (
            "status",
            "io.raftd.Node.TooManyConnections",
            {"limit": 8},
            4,
            "busy: the daemon has all the connections it may have (8)",
        ),
        (
            "reload",
            "org.varlink.service.PermissionDenied",
            {},
            7,
            "not permitted: io.raftd.Node.Reload is for root and the daemon's own user",
        ),
        (
            "kv put k v",
            "org.varlink.service.InvalidParameter",
            {"parameter": "key"},
            2,
            "the daemon does not accept key of io.raftd.KV.Put",
        ),
        (
            "reload",
            "org.varlink.service.MethodNotFound",
            {"method": "x"},
            1,
            "the daemon does not know io.raftd.Node.Reload: is it older than this raftctl (0.1.0)?",
        ),
        (
            "status",
            "com.example.Odd",
            {"a": "\x1b[2J"},
            1,
            "the daemon answered com.example.Odd (a \\x1b[2J)",
        ),
        ("kv get k", "io.raftd.KV.NotFound", {}, 5, "no such key: ?"),
        (
            "log show 9",
            "io.raftd.Node.NoSuchEntry",
            {},
            5,
            "no entry ?: this node's log has ? to ?",
        ),
    ],
)
def test_an_error_of_the_daemon(
    daemon: FakeDaemon,
    raftctl: Raftctl,
    words: str,
    error: str,
    parameters: dict[str, Any],
    code: int,
    sentence: str,
) -> None:
    daemon.answers = dict.fromkeys(daemon.answers, Error(error, parameters))
    result = raftctl(*words.split())
    assert (result.code, result.out) == (code, b"")
    assert result.err == f"raftctl: {sentence}\n"


def test_every_error_of_the_interfaces_has_a_sentence() -> None:
    told = set(failure._SENTENCES)
    for name in INTERFACES[1:]:
        errors = re.findall(r"^error (\w+)", interface_text(name), re.MULTILINE)
        assert {f"{name}.{error}" for error in errors} <= told
        assert {known for known in told if known.startswith(f"{name}.")} == {
            f"{name}.{error}" for error in errors
        }


def test_every_exit_code_is_in_the_help(raftctl: Raftctl) -> None:
    shown = raftctl("--help").text
    for code, meaning in exit_codes.MEANINGS.items():
        assert f"  {code:3d}  {meaning}\n" in shown
    assert set(exit_codes.MEANINGS) == set(exit_codes.ExitCode)


def test_no_daemon(raftctl: Raftctl, tmp_path: Path) -> None:
    result = raftctl("--socket", str(tmp_path / "x.sock"), "status")
    assert result.code == 3
    assert result.err == f"raftctl: no raftd at {tmp_path}/x.sock: there is no such socket\n"


def test_a_socket_that_a_dead_daemon_left(raftctl: Raftctl, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "x.sock"))
    result = raftctl("--socket", str(tmp_path / "x.sock"), "status")
    assert result.code == 3
    assert "nobody listens there any more" in result.err


def test_a_user_who_is_kept_out(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    assert raftctl("status").code == 0
    user = os.geteuid()
    daemon.path.parent.chmod(0)
    try:
        if user == 0:
            os.seteuid(65534)
        results = [raftctl("--socket", str(daemon.path), "status"), raftctl("status")]
    finally:
        os.seteuid(user)
        daemon.path.parent.chmod(0o700)
    assert [result.code for result in results] == [7, 7]
    assert results[0].err == (
        f"raftctl: not permitted to connect to {daemon.path}: ask root, or join the socket's "
        "group\n"
    )
    assert results[1].err.startswith("raftctl: not permitted to ")


def test_a_socket_without_a_name(raftctl: Raftctl) -> None:
    result = raftctl("--socket", "", "status")
    assert (result.code, result.err) == (
        2,
        "raftctl: --socket '': name the daemon's socket, or leave it out\n",
    )


def test_a_socket_that_cannot_be_connected_to(raftctl: Raftctl, tmp_path: Path) -> None:
    """In the system's words, without its numbers."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    result = raftctl("--socket", str(loop), "status")
    assert (result.code, result.err) == (
        3,
        f"raftctl: no raftd at {loop}: Too many levels of symbolic links\n",
    )


def test_a_path_that_is_too_long_for_a_socket(raftctl: Raftctl) -> None:
    result = raftctl("--socket", "/" + "x" * 200, "status")
    assert result.code == 3
    assert "a socket's path has at most 107 bytes" in result.err


@pytest.mark.parametrize(
    ("words", "unknown"),
    [("kv get k", False), ("status", False), ("kv put k v", True), ("leader transfer", True)],
)
def test_no_answer_in_time(daemon: FakeDaemon, raftctl: Raftctl, words: str, unknown: bool) -> None:
    daemon.answers.update(dict.fromkeys(daemon.answers, SILENCE))
    result = raftctl("--timeout", "0.05", *words.split())
    assert result.code == 4
    tail = "; it may still be done: look before you try again" if unknown else ""
    assert result.err == f"raftctl: no answer from {daemon.path} within 0.05 s{tail}\n"


@pytest.mark.parametrize(("words", "code"), [("kv get k", 3), ("kv put k v", 4)])
def test_the_daemon_hangs_up(daemon: FakeDaemon, raftctl: Raftctl, words: str, code: int) -> None:
    daemon.answers.update(dict.fromkeys(daemon.answers, Raw(b'{"parameters":{')))
    result = raftctl(*words.split())
    assert result.code == code
    assert "it ended the connection before it had answered" in result.err
    assert ("it may still be done" in result.err) == (code == 4)


@pytest.mark.parametrize(
    "answer",
    [
        Raw(b"HTTP/1.1 400 Bad Request\r\n\0"),
        Raw(b"[]\0"),
        Raw(b"\xff\xfe\0"),
        Raw(b'{"parameters": 5}\0'),
        Raw(b'{"error": 5}\0'),
    ],
)
def test_an_answer_that_is_no_varlink(daemon: FakeDaemon, raftctl: Raftctl, answer: Raw) -> None:
    daemon.answers["GetStatus"] = answer
    result = raftctl("status")
    assert result.code == 1
    assert result.err.startswith("raftctl: the daemon's answer makes no sense: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("method", "answer", "words"),
    [
        ("GetStatus", {}, "status"),
        ("GetStatus", {"status": {"members": 3}}, "members"),
        ("Get", {"item": {"key": "aw==", "value": "!", "revision": 1}}, "kv get k"),
        ("ReadLog", {"entries": [{}]}, "log tail"),
        ("Range", {"items": [{"key": 5}], "more": False}, "kv range"),
    ],
)
def test_an_answer_of_another_shape(
    daemon: FakeDaemon,
    raftctl: Raftctl,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    answer: object,
    words: str,
) -> None:
    daemon.answers[method] = answer
    result = raftctl(*words.split())
    assert result.code == 1
    assert result.err.startswith("raftctl: ")
    assert result.err.count("\n") == 1


def test_a_traceback_is_there_for_those_who_want_it(
    daemon: FakeDaemon, raftctl: Raftctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["GetStatus"] = {}
    result = raftctl("status")
    assert result.err == "raftctl: unexpected: KeyError: 'status'; RAFTCTL_DEBUG=1 shows where\n"
    monkeypatch.setenv("RAFTCTL_DEBUG", "1")
    with pytest.raises(KeyError):
        raftctl("status")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e9", "soon"])
def test_timeouts_that_make_no_sense(raftctl: Raftctl, seconds: str) -> None:
    result = raftctl("--timeout", seconds, "status")
    assert result.code == 2
    assert f"{seconds!r} is no number of seconds from 0.001 to 86400." in result.err


@pytest.mark.parametrize("words", [(), ("kv",), ("log",), ("-o", "json")])
def test_a_command_that_is_missing(raftctl: Raftctl, words: tuple[str, ...]) -> None:
    result = raftctl(*words)
    assert (result.code, result.out) == (2, b"")
    assert "Usage: raftctl" in result.err or "Missing command" in result.err


def test_a_slip_of_the_finger(raftctl: Raftctl) -> None:
    result = raftctl("stauts")
    assert result.code == 2
    assert result.err.splitlines()[0] == (
        "raftctl: There is no command 'stauts'. Did you mean 'status'?"
    )
