"""The configuration file: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from raftd import settings
from raftd.config import Config, ConfigError, Limits, cluster_id, load
from raftd.credentials import TlsFiles
from tests.config_file import ONE, THREE, loaded, problem, problems

USUAL = ("ca.pem", "node1.pem", "node1.key")
"""What node1 shows to its peers."""
SAMPLE = Path(__file__).parents[1] / "etc" / "raftd.toml"


@pytest.fixture(autouse=True)
def system(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, and not started by systemd."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node1.toml"


def test_members_are_all_that_must_be_said(file: Path) -> None:
    assert loaded(file, THREE) == Config(
        name="node1",
        data_dir=Path("/var/lib/raftd/node1"),
        listen="tcp://127.0.0.1:7001",
        advertise="tcp://127.0.0.1:7001",
        members={f"node{n}": f"tcp://127.0.0.1:700{n}" for n in (1, 2, 3)},
        election_timeout_ms=(1000, 2000),
        heartbeat_interval_ms=100,
        check_interval_ms=10_000,
        log="info",
        socket=Path("/run/raftd/node1/raftd.sock"),
        socket_group=None,
        allow_plaintext=False,
        limits=Limits(
            entry_bytes=1 << 20,
            append_bytes=1 << 20,
            in_flight=2,
            uncommitted_bytes=64 << 20,
            log_memory_bytes=16 << 20,
            segment_bytes=64 << 20,
            snapshot_log_bytes=256 << 20,
            connections=1024,
        ),
        source=file,
    )


def test_everything_can_be_said(file: Path) -> None:
    found = loaded(
        file,
        """
        name = "db.eu-1"
        data_dir = "/srv/raft/../raftd"
        listen = "tcp://[::]:7100"
        advertise = "tcp://db1.example.org:7100"
        cluster = "production"
        election_timeout_ms = [300, 600]
        heartbeat_interval_ms = 30
        log = "warning,raft=debug"
        socket = "/srv/raftd.sock"
        socket_group = "root"
        allow_plaintext = true
        [limits]
        entry_bytes = 4096
        append_bytes = 65536
        in_flight = 8
        uncommitted_bytes = 131072
        log_memory_bytes = 262144
        segment_bytes = 524288
        snapshot_log_bytes = 1048576
            log_tail_bytes = 0
        connections = 10
        [members]
        "db.eu-1" = "tcp://DB1.example.org:7100"
        """,
    )
    assert found.data_dir == Path("/srv/raftd")
    assert found.listen == "tcp://[::]:7100"
    assert found.advertise == found.members["db.eu-1"] == "tcp://db1.example.org:7100"
    assert (found.cluster, found.log, found.socket_group) == (
        "production",
        "warning,raft=debug",
        "root",
    )
    assert (found.election_timeout_ms, found.heartbeat_interval_ms) == ((300, 600), 30)
    assert msgspec.structs.astuple(found.limits) == (
        *(4096, 65536, 8, 131072, 262144, 524288, 1048576, 0, 10),
    )
    assert found.warnings == ()


def test_the_sample_file_has_every_setting_with_its_default(file: Path) -> None:
    sample = SAMPLE.read_text()
    uncommented = re.sub(r"^#(?=[a-z0-9_]+ = |\[)", "", sample, flags=re.MULTILINE)
    top = tomllib.loads(uncommented)
    assert top.pop("limits").keys() == settings.LIMITS.keys()
    assert top.pop("tls").keys() == settings.TLS.keys()
    assert top.keys() - {"members"} == settings.SETTINGS.keys()
    found = loaded(file, uncommented)
    assert found.tls == TlsFiles(*(Path(f"/etc/raftd/tls/{name}") for name in USUAL))
    assert msgspec.structs.replace(found, tls=None) == loaded(file, THREE)
    assert tomllib.loads(sample) == {}, "nothing in it is in force"


def test_every_setting_has_a_field_and_every_field_a_check() -> None:
    fields = {field.name for field in msgspec.structs.fields(Config)}
    assert fields - {"members", "limits", "tls", "source", "warnings"} == settings.SETTINGS.keys()
    assert {field.name for field in msgspec.structs.fields(Limits)} == settings.LIMITS.keys()


def test_an_empty_file_lacks_members(file: Path) -> None:
    assert problem(file, "").startswith("members: no members are given; write [members]")
    assert problem(file, "[members]\n").startswith("members: no members are given")
    assert problem(file, "members = 3\n").startswith("members: no members are given")


def test_the_name_of_the_file_is_the_node(tmp_path: Path) -> None:
    assert loaded(tmp_path / "node3.toml", THREE).name == "node3"
    assert problem(tmp_path / "raftd.toml", THREE).startswith("name: raftd is not one of [members]")


def test_a_name_given_twice_is_found(file: Path) -> None:
    """TOML refuses it too, but does not say which."""
    assert problem(file, f'log = "info"\n{THREE}node2 = "tcp://127.0.0.1:7009"\n') == (
        "members.node2: given twice, in lines 4 and 6; keep one"
    )
    assert problem(file, f'log = "info"\nlog = "info"\n{ONE}').startswith("log: given twice")
    assert problem(file, ONE + "[members]\n").startswith("is not TOML: Cannot declare ('members',)")


def test_all_problems_are_said_at_once(file: Path) -> None:
    found = problems(file, f'nam = "x"\nlog = 3\nlisten = "?"\n{ONE}node2 = 4\n[limits]\nx = 1\n')
    assert [line.split(":")[0] for line in found] == (
        ["nam", "log", "listen", "members.node2", "limits.x"]
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name = \xff\n", "is not UTF-8 at byte 7; save it as UTF-8"),
        (b"name =\n", "is not TOML: Invalid value (at line 1, column 7); mend it there"),
        (b"name = 1" + b"0" * 5000, "is not TOML: Exceeds the limit"),
        (b"a = " + b"[" * 20_000, "is nested too deeply; two levels are enough"),
        (b"#" * (64 * 1024 + 1), "has over 65536 bytes; is it a configuration?"),
    ],
)
def test_what_is_no_toml(file: Path, content: bytes, expected: str) -> None:
    assert problem(file, content).startswith(expected)


def test_a_byte_order_mark_and_windows_lines_do_no_harm(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + ONE.replace("\n", "\r\n").encode())
    assert load(file).name == "node1"


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, expected in [
        (tmp_path, "is not a regular file; name the TOML file itself"),
        (tmp_path / "fifo", "is not a regular file"),
        (tmp_path / "missing", "cannot be read (No such file or directory); check the path"),
        (tmp_path / ("n" * 300), "cannot be read (File name too long)"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(f"{path}: {expected}")):
            load(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ONE + 'node2 = "tcp://127.0.0.1:7002"\n', "members: 2 nodes survive no more failures"),
        (f"heartbeat_interval_ms = 334\n{ONE}", "heartbeat_interval_ms: 334 is over a third of"),
        (
            '[members]\nnode1 = "tcp://192.0.2.1:1"\n',
            "listen: no other host reaches tcp://127.0.0.1:1; write tcp://192.0.2.1:1",
        ),
        (
            "[members]\n" + "".join(f'node{n} = "tcp://127.0.0.1:{n}"\n' for n in range(1, 10)),
            "members: 9 nodes make writes slow; use 3, 5 or 7",
        ),
    ],
)
def test_what_is_hardly_meant_is_a_warning(file: Path, text: str, expected: str) -> None:
    if "192" in text:
        text = 'listen = "tcp://127.0.0.1:1"\n' + text
    (warning,) = loaded(file, text).warnings
    assert warning.startswith(f"{file}: {expected}")


def test_a_heartbeat_of_a_third_is_enough(file: Path) -> None:
    assert loaded(file, f"heartbeat_interval_ms = 333\n{ONE}").warnings == ()


def test_plaintext_off_the_loopback_must_be_allowed(file: Path) -> None:
    members = '[members]\nnode1 = "tcp://host1.example.org:7001"\n'
    assert problem(file, members).startswith(
        "listen: tcp://host1.example.org:7001 can be reached by other hosts, and what nodes say"
    )
    assert loaded(file, f"allow_plaintext = true\n{members}").listen.endswith("org:7001")
    assert loaded(file, f'listen = "tcp://[::1]:1"\n{members}').listen == "tcp://[::1]:1"


def test_an_encrypted_address_brings_the_usual_files(file: Path) -> None:
    members = '[members]\nnode1 = "tls+tcp://host1.example.org:7001"\n'
    found = loaded(file, members)
    assert found.listen == "tls+tcp://host1.example.org:7001", "no need to trust the network"
    assert found.tls == TlsFiles(*(file.parent / "tls" / name for name in USUAL))
    assert found.warnings == ()
    own = loaded(file, f'{members}[tls]\nkey_file = "/run/key"\n').tls
    assert own == msgspec.structs.replace(found.tls, key_file=Path("/run/key"))
    assert loaded(file, ONE).tls is None
    assert loaded(file, f"{ONE}[tls]\n").tls == found.tls, "peers may be encrypted later"
    (warning,) = loaded(file, f'listen = "tcp://127.0.0.1:1"\n{members}').warnings[:1]
    assert warning.endswith("tls+tcp://host1.example.org:7001: only one of them is encrypted")


def test_what_is_wrong_with_tls(file: Path) -> None:
    assert problem(file, f"tls = 3\n{ONE}").startswith("tls: is not a table; write [tls] on")
    assert problem(file, f'{ONE}[tls]\nca_file = "ca.pem"\n').startswith(
        "tls.ca_file: 'ca.pem' is not an absolute path"
    )
    assert problem(file, f'{ONE}[tls]\ncafile = "/x"\n').startswith("tls.cafile: unknown; did you")
    assert problem(file, f'key_file = "/x"\n{ONE}') == "key_file: is one of [tls]; move it there"


def test_the_cluster_id_comes_from_label_and_members(file: Path) -> None:
    one = cluster_id(loaded(file, THREE))
    lines = THREE.splitlines()
    same = cluster_id(loaded(file, "\n".join([lines[0], *reversed(lines[1:])])))
    assert len(one) == 16
    assert one == same, "the order of members means nothing"
    assert one == bytes.fromhex("87cf3f0db1580767eba8836cf250d0cc"), (
        "it must never change: it is on disks"
    )
    assert one != cluster_id(loaded(file, f'cluster = "x"\n{THREE}'))
    assert one != cluster_id(loaded(file, THREE.replace("7003", "7004")))


def test_a_user_without_a_runtime_directory_has_to_choose_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert loaded(file, f'socket = "/srv/x"\n{ONE}').socket == Path("/srv/x")

    def unsafe(_: str) -> Path:
        raise PermissionError("runtime directory is not yours")

    monkeypatch.setattr("platformdirs.user_runtime_path", unsafe)
    assert problem(file, ONE).startswith(
        "socket: no place for it by default (runtime directory is not yours); write one down"
    )
