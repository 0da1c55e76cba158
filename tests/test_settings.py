"""Single settings of the configuration file: each mistake in one clear sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.config_file import ONE, loaded, problem


@pytest.fixture(autouse=True)
def system(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, and not started by systemd."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node1.toml"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('nam = "node1"', "nam: unknown; did you mean name?"),
        ("electon_timeout_ms = 1", "electon_timeout_ms: unknown; did you mean election_timeout_ms"),
        ("zzz = 1", "zzz: unknown; remove it"),
        ("entry_bytes = 1", "entry_bytes: is one of [limits]; move it there"),
        ("name = 1", "name: 1 is not a string; write it in quotes"),
        ('name = "a b"', "name: 'a b' is no name; use 1 to 63 of A-Z a-z 0-9 . _ -"),
        ('name = ".."', "name: '..' is no name"),
        ('name = ""', "name: '' is no name"),
        (f'name = "{"n" * 64}"', "name: 'nnn"),
        ('name = "node9"', "name: node9 is not one of [members] ('node1'); mend one of them"),
        ('data_dir = "data"', "data_dir: 'data' is not an absolute path; begin it with /"),
        ("data_dir = true", "data_dir: true is not a string"),
        ('listen = "127.0.0.1:7001"', "listen: '127.0.0.1:7001': no tcp:// or tls+tcp:// in"),
        ('listen = "udp://127.0.0.1:7001"', "the scheme is neither tcp nor tls+tcp"),
        ('listen = "tcp://192.0.2.1:7001"', "allow_plaintext = true"),
        ('listen = "tcp://0.0.0.0:7001"', "allow_plaintext = true"),
        ('advertise = "tcp://127.0.0.1:8001"', "advertise: tcp://127.0.0.1:8001 is not tcp://127"),
        ('advertise = "tcp://0.0.0.0:7001"', "is every address, nobody can dial it; write the one"),
        (f'cluster = "{"c" * 256}"', "cluster: 256 characters are too many; write at most 255"),
        ('cluster = "a\\nb"', "cluster: 'a\\nb' has characters that cannot be printed"),
        ("election_timeout_ms = 1000", "election_timeout_ms: 1000 is no range; write two integers"),
        ("election_timeout_ms = [1, 2, 3]", "election_timeout_ms: [1, 2, 3] is no range"),
        ("election_timeout_ms = [true, 900]", "election_timeout_ms: true is not an integer"),
        ("election_timeout_ms = [1.5, 900]", "election_timeout_ms: 1.5 is not an integer"),
        ("election_timeout_ms = [900, 600]", "election_timeout_ms: [900, 600] does not ascend"),
        ("election_timeout_ms = [900, 900]", "election_timeout_ms: [900, 900] does not ascend"),
        (
            "election_timeout_ms = [1, 900]",
            "election_timeout_ms: 1 is out of range; write a number",
        ),
        ("heartbeat_interval_ms = 1000", "heartbeat_interval_ms: 1000 must be below the shortest"),
        ("heartbeat_interval_ms = 0", "heartbeat_interval_ms: 0 is out of range"),
        ("heartbeat_interval_ms = true", "heartbeat_interval_ms: true is not an integer"),
        ("heartbeat_interval_ms = 0x" + "f" * 9999, "a number far too large is out of range"),
        ('log = "loud"', "log: 'loud' is no log level; write one of debug, info, warning, error"),
        ('log = "rat=debug"', "log: 'rat' is no module; did you mean raft?"),
        ('socket = "raftd.sock"', "socket: 'raftd.sock' is not an absolute path"),
        (
            f'socket = "/{"s" * 107}"',
            "has 108 bytes, a socket's path at most 107; choose a shorter",
        ),
        (f'socket = "/{"é" * 54}"', "has 109 bytes"),
        ('socket_group = "no-such-group"', "socket_group: no group 'no-such-group' on this host"),
        ('allow_plaintext = "yes"', "allow_plaintext: 'yes' is neither true nor false"),
        ("allow_plaintext = 1", "allow_plaintext: 1 is neither true nor false"),
        ("limits = 1", "limits: is not a table; write [limits] on a line of its own"),
        ("log = 1979-05-27", "is not a string"),
    ],
)
def test_one_clear_sentence_for_a_bad_setting(file: Path, line: str, expected: str) -> None:
    found = problem(file, f"{line}\n{ONE}")
    assert expected in found
    assert found.startswith(line.split(" = ", maxsplit=1)[0])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("conections = 9", "limits.conections: unknown; did you mean connections?"),
        ('log = "info"', "limits.log: does not belong into a table; move it above the first line"),
        ("in_flight = 0", "limits.in_flight: 0 is out of range; write a number from 1 to 64"),
        ("in_flight = true", "limits.in_flight: true is not an integer"),
        ("in_flight = 2.0", "limits.in_flight: 2.0 is not an integer"),
        ('entry_bytes = "1 MiB"', "limits.entry_bytes: '1 MiB' is not an integer; write one from"),
        ("entry_bytes = 1_000_000_000", "limits.entry_bytes: 1000000000 is out of range"),
        ("segment_bytes = 1_052_671", "limits.segment_bytes: 1052671 is too small for entry_bytes"),
        ("uncommitted_bytes = 1_000_000", "limits.uncommitted_bytes: 1000000 is too small for"),
        ("log_memory_bytes = 1_000_000", "limits.log_memory_bytes: 1000000 is too small for app"),
        ("snapshot_log_bytes = 1_000_000", "limits.snapshot_log_bytes: 1000000 is too small for"),
    ],
)
def test_limits_have_bounds_and_fit_together(file: Path, line: str, expected: str) -> None:
    assert problem(file, f"{ONE}[limits]\n{line}\n").startswith(expected)


def test_the_tail_of_the_log_is_at_most_half_of_it(file: Path) -> None:
    """The default comes down by itself; what is written down is not changed in silence."""
    small = f"{ONE}[limits]\nsegment_bytes = 2_000_000\nsnapshot_log_bytes = 2_000_001\n"
    assert loaded(file, small).limits.log_tail_bytes == 1_000_000
    assert loaded(file, f"{small}log_tail_bytes = 1_000_000\n").limits.log_tail_bytes == 1_000_000
    assert problem(file, f"{small}log_tail_bytes = 1_000_001\n") == (
        "limits.log_tail_bytes: 1000001 is over half of snapshot_log_bytes = 2000001; write "
        "1000000 or less, or make that 2000002 or more"
    )
    assert problem(file, f"{ONE}[limits]\nlog_tail_bytes = 268_435_456\n").startswith(
        "limits.log_tail_bytes: 268435456 is over half of snapshot_log_bytes = 268435456"
    )
    large = f"{ONE}[limits]\nsnapshot_log_bytes = 1_000_000_000\n"
    assert loaded(file, large).limits.log_tail_bytes == 64 << 20


def test_a_limit_that_just_fits(file: Path) -> None:
    found = loaded(file, f"{ONE}[limits]\nsegment_bytes = 1_052_672\n")
    assert found.limits.segment_bytes == 1_052_672


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('node2 = "tcp://127.0.0.1:7001"', "tcp://127.0.0.1:7001 is also the address of node1"),
        ('node2 = "TCP://127.0.0.1:07001"', "is also the address of node1; mend one"),
        ('node2 = "tcp://127.0.0.1:70010"', "the port is not a number from 1 to 65535"),
        ('node2 = "tcp://127.0.0.1"', "the port is missing; write tcp://HOST:PORT"),
        ('node2 = "tcp://[::]:7001"', "is every address, nobody can dial it"),
        ("node2 = 7002", "7002 is not a string; write it in quotes"),
        ('node.2 = "tcp://127.0.0.1:7002"', "is a table; a name with a dot is written in quotes"),
        ('"node 2" = "tcp://127.0.0.1:7002"', "'node 2' is no name; use 1 to 63 of"),
        ("heartbeat_interval_ms = 50", "does not belong into a table; move it above the first"),
        ('log = "debug"', "does not belong into a table; move it above the first line in brackets"),
    ],
)
def test_members_are_names_and_addresses_each_once(file: Path, line: str, expected: str) -> None:
    found = problem(file, f"{ONE}{line}\n")
    assert expected in found
    assert found.startswith("members.")


def test_a_name_for_a_setting_is_a_good_name(file: Path) -> None:
    assert loaded(file, ONE + 'log = "tcp://127.0.0.1:7002"\n').members["log"]


def test_text_from_the_file_cannot_play_with_the_terminal(file: Path) -> None:
    found = problem(file, '"\\u001b[2J" = 1\n' + ONE)
    assert "\x1b" not in found
    assert len(problem(file, f'{"k" * 5000} = "{"v" * 5000}"\n{ONE}')) < 300
