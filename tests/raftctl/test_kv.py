"""`raftctl kv`: bytes in, bytes out, and the cluster's errors."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.raftctl import canned
from tests.raftctl.canned import base64
from tests.raftctl.conftest import Golden, Raftctl
from tests.raftctl.fake_daemon import FakeDaemon

_ALL_BYTES = bytes(range(1, 256))


def test_put(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    assert raftctl("kv", "put", "app/mode", "blue").text == "revision 42 (new)\n"
    asked = {"key": base64(b"app/mode"), "value": base64(b"blue"), "timeout_ms": 4500}
    assert daemon.asked("Put") == [asked]
    result = raftctl("kv", "put", "app/mode", "blue", "-o", "json", "--timeout", "2")
    assert json.loads(result.out) == {"revision": 42, "existed": False}
    assert daemon.asked("Put")[1] == asked | {"timeout_ms": 1600}
    daemon.answers["Put"] = {"revision": 50, "existed": True}
    assert raftctl("kv", "put", "a", "b").text == "revision 50 (replaced)\n"


def test_words_are_the_bytes_the_shell_passed(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    assert raftctl("kv", "put", "--", _ALL_BYTES, _ALL_BYTES[::-1]).code == 0
    (asked,) = daemon.asked("Put")
    assert (asked["key"], asked["value"]) == (base64(_ALL_BYTES), base64(_ALL_BYTES[::-1]))


def test_a_value_may_start_with_a_dash_behind_a_double_dash(
    daemon: FakeDaemon, raftctl: Raftctl
) -> None:
    assert raftctl("kv", "put", "offset", "--", "-5").code == 0
    assert daemon.asked("Put")[0]["value"] == base64(b"-5")


@pytest.mark.parametrize("words", [("-",), ("--file", "-")])
def test_a_value_from_standard_input(
    daemon: FakeDaemon, raftctl: Raftctl, words: tuple[str, ...]
) -> None:
    assert raftctl("kv", "put", "k", *words, stdin=b"\0\xff\n").code == 0
    assert daemon.asked("Put")[0]["value"] == base64(b"\0\xff\n")


def test_a_value_from_a_file(daemon: FakeDaemon, raftctl: Raftctl, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_bytes(b"\0\xff\n")
    assert raftctl("kv", "put", "k", "--file", str(file)).code == 0
    assert daemon.asked("Put")[0]["value"] == base64(b"\0\xff\n")
    missing = raftctl("kv", "put", "k", "--file", str(tmp_path / "no\x1bne"))
    assert missing.code == 1
    assert missing.err == f"raftctl: cannot read {tmp_path}/no\\x1bne: No such file or directory\n"


def test_an_endless_value_is_not_read_to_its_end(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    result = raftctl("kv", "put", "k", "--file", "/dev/zero")
    assert (result.code, daemon.calls) == (1, [])
    assert result.err == "raftctl: /dev/zero: a value has at most 4194304 bytes\n"


def test_base64_in_and_out(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    raftctl("kv", "put", "--base64", base64(b"k\xff"), "-", stdin=b" AAD/\n")
    (asked,) = daemon.asked("Put")
    assert (asked["key"], asked["value"]) == (base64(b"k\xff"), base64(b"\0\0\xff"))
    assert raftctl("kv", "get", "--base64", base64(b"app/mode")).text == base64(b"blue") + "\n"
    found = json.loads(raftctl("kv", "get", "--base64", "-o", "json", base64(b"app/mode")).out)
    expected = {"key_base64": base64(b"app/mode"), "value_base64": base64(b"blue")}
    assert found == expected | {"revision": 42}
    assert raftctl("kv", "range", "--base64", "--keys-only").text == "YXBwLzE=\nYXBwLzI=\n"


@pytest.mark.parametrize("word", ["!", "AA", "AAA=\n", "é"])
def test_what_is_no_base64_is_a_usage_error(
    daemon: FakeDaemon, raftctl: Raftctl, word: str
) -> None:
    result = raftctl("kv", "get", "--base64", word)
    assert (result.code, daemon.calls) == (2, [])
    assert result.err.startswith("raftctl: KEY is no base64 (")


def test_get_prints_the_bytes_as_they_are(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    daemon.answers["Get"] = {"item": canned.item(b"k", _ALL_BYTES)}
    assert raftctl("kv", "get", "k").out == _ALL_BYTES
    assert raftctl("kv", "get", "k", terminal=True).out == _ALL_BYTES + b"\n"
    assert raftctl("kv", "get", "k", "--raw", terminal=True).out == _ALL_BYTES
    asked = {"key": base64(b"k"), "stale": False, "timeout_ms": 4500}
    assert daemon.asked("Get") == [asked] * 3
    raftctl("kv", "get", "k", "--stale")
    assert daemon.asked("Get")[-1] == asked | {"stale": True}


def test_json_has_text_where_it_is_text(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    daemon.answers["Get"] = {"item": canned.item("ключ\x7f\x1b".encode(), b"\xff\0")}
    result = raftctl("kv", "get", "k", "-o", "json")
    assert all(0x20 <= byte < 0x7F for byte in result.out[:-1])
    expected = {"key": "ключ\x7f\x1b", "value_base64": "/wA=", "revision": 42}
    assert json.loads(result.out) == expected


def test_delete(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    assert raftctl("kv", "delete", "k").text == "revision 43 (deleted)\n"
    daemon.answers["Delete"] = {"revision": 44, "existed": False}
    gone = raftctl("kv", "delete", "k")
    assert (gone.code, gone.text) == (0, "revision 44 (did not exist)\n")
    found = json.loads(raftctl("kv", "delete", "k", "-o", "json").out)
    assert found == {"revision": 44, "existed": False}


def _many(count: int) -> Any:
    """Answers of a store with `count` keys, at most 1000 at a time."""
    keys = [f"key/{number:05d}".encode() for number in range(count)]

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        start = 0
        if "after" in asked:
            start = [base64(key) for key in keys].index(asked["after"]) + 1
        page = keys[start : start + min(asked["limit"], 1000)]
        items = [canned.item(key, b"v") for key in page]
        return {"items": items, "more": start + len(page) < count}

    return answer


def test_range_turns_pages_until_the_end_or_the_limit(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    daemon.answers["Range"] = _many(2500)
    everything = raftctl("kv", "range", "--keys-only").text.splitlines()
    assert everything == [f"key/{number:05d}" for number in range(2500)]
    limited = raftctl("kv", "range", "key/", "--limit", "1001", "-o", "json").text.splitlines()
    assert [json.loads(line)["key"] for line in limited] == everything[:1001]
    pages = daemon.asked("Range")[3:]
    asked = {"prefix": base64(b"key/"), "stale": False, "timeout_ms": 4500}
    after = base64(b"key/00999")
    assert pages == [asked | {"limit": 1000}, asked | {"limit": 1, "after": after}]


def test_a_range_that_does_not_go_on_is_no_endless_loop(
    daemon: FakeDaemon, raftctl: Raftctl
) -> None:
    for items in ([], [canned.item(b"a", b"")]):
        daemon.answers["Range"] = {"items": items, "more": True}
        result = raftctl("kv", "range")
        assert result.code == 1
        assert "more keys, but none after this one" in result.err


def test_range_as_a_table(daemon: FakeDaemon, raftctl: Raftctl, golden: Golden) -> None:
    items = [
        canned.item(b"app/mode", b"blue", 7),
        canned.item(b"app/\x1b[2Jmode\n", b"\xff\0 back\\slash", 12_345_678),
        canned.item("app/名前".encode(), ("東京" * 40).encode(), 9),
        canned.item(b"app/text", b"word " * 40, 10),
    ]
    daemon.answers["Range"] = {"items": items, "more": False}
    golden.check(
        "kv_range",
        raftctl("kv", "range", "app/", terminal=True)
        .text.replace("\x1b[1m", "")
        .replace("\x1b[0m", ""),
    )
    assert ("word " * 40).rstrip() in raftctl("kv", "range", "app/").text, "a pipe gets all of it"


def test_an_empty_range_is_no_failure(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    daemon.answers["Range"] = {"items": [], "more": False}
    result = raftctl("kv", "range", "nothing/")
    assert (result.code, result.out, result.err) == (0, b"", "")


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("--expect", "old", "new"), {"expected_value": "b2xk", "value": "bmV3"}),
        (("--expect-revision", "0", "new"), {"expected_revision": 0, "value": "bmV3"}),
        (("--absent", "new"), {"absent": True, "value": "bmV3"}),
        (("--absent", "--file", "-"), {"absent": True, "value": "bmV3"}),
        (("--expect", "", "--delete"), {"expected_value": ""}),
    ],
)
def test_cas(
    daemon: FakeDaemon, raftctl: Raftctl, words: tuple[str, ...], asked: dict[str, Any]
) -> None:
    result = raftctl("kv", "cas", "k", *words, stdin=b"new")
    outcome = "deleted" if "--delete" in words else "replaced"
    assert (result.code, result.text) == (0, f"revision 44 ({outcome})\n")
    assert daemon.asked("CompareAndSet") == [{"key": "aw==", "timeout_ms": 4500} | asked]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("put", "k"), "Say exactly one of: VALUE or --file."),
        (("put", "k", "v", "--file", "f"), "Say exactly one of: VALUE or --file."),
        (
            ("cas", "k", "v"),
            "Say exactly one of: --expect or --expect-revision or --absent.",
        ),
        (
            ("cas", "k", "v", "--absent", "--expect-revision", "0"),
            "Say exactly one of: --expect or --expect-revision or --absent.",
        ),
        (("cas", "k", "--absent"), "Say exactly one of: VALUE or --file or --delete."),
        (("cas", "k", "v", "--absent", "--delete"), "Say exactly one of: VALUE or --file or"),
        (("get",), "Missing argument 'KEY'."),
        (("range", "--limit", "0"), "Invalid value for '--limit'"),
    ],
)
def test_command_lines_that_make_no_sense(
    daemon: FakeDaemon, raftctl: Raftctl, words: tuple[str, ...], sentence: str
) -> None:
    result = raftctl("kv", *words)
    assert (result.code, daemon.calls) == (2, [])
    assert result.err.startswith(f"raftctl: {sentence}")
    assert result.err.endswith(f"Try 'raftctl kv {words[0]} --help'.\n")


def test_a_value_goes_through_a_pipe_untouched(
    daemon: FakeDaemon, raftctl: Raftctl, tmp_path: Path
) -> None:
    """Standard input that is no regular file is read to its end, too."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    writer = os.fork()
    if writer == 0:
        fifo.write_bytes(b"x" * 100_000)
        os._exit(0)
    assert raftctl("kv", "put", "k", "--file", str(fifo)).code == 0
    os.waitpid(writer, 0)
    assert daemon.asked("Put")[0]["value"] == base64(b"x" * 100_000)
