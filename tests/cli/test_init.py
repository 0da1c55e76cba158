"""`raftd init`: good configurations, from names and addresses, and nothing written that is not."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from raftctl.commands.init import _EXAMPLES as RAFTCTL_EXAMPLES
from raftd.cli.init import _EXAMPLES as RAFTD_EXAMPLES
from raftd.config import load

THREE = ("node1=192.0.2.11", "node2=192.0.2.12", "node3=192.0.2.13")
LOCAL = ("node1=localhost", "node2=localhost", "node3=localhost")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def init(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As a user without rights, so that the user's own directory is meant."""
    return subprocess.run(
        [sys.executable, "-m", "raftd", "init", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home / "data")},
        check=False,
    )


def test_one_file_for_each_host(tmp_path: Path, home: Path) -> None:
    done = init(home, "--trust-network", "--cluster", "ä", "--directory", str(tmp_path), *THREE)
    assert done.returncode == 0, done.stderr
    for number in (1, 2, 3):
        config = load(tmp_path / f"node{number}.toml")
        assert config.name == f"node{number}"
        assert config.members == {f"node{n}": f"tcp://192.0.2.1{n}:7001" for n in (1, 2, 3)}
        assert (config.allow_plaintext, config.cluster) == (True, "ä")
        assert f"scp {tmp_path}/node{number}.toml root@192.0.2.1{number}:" in done.stdout
    assert "3 nodes: the cluster survives the failure of one" in done.stdout
    assert "systemctl enable --now raftd@NAME" in done.stdout


def test_nodes_on_one_host_get_ports_of_their_own(tmp_path: Path, home: Path) -> None:
    done = init(home, "--directory", str(tmp_path), *LOCAL, "node4=localhost:9000", "node5=::1")
    assert done.returncode == 0, done.stderr
    config = load(tmp_path / "node4.toml")
    assert list(config.members.values()) == [
        *(f"tcp://localhost:{port}" for port in (7001, 7002, 7003, 9000)),
        "tcp://[::1]:7001",
    ]
    assert not config.allow_plaintext


def test_encrypted_nodes_need_no_trusted_network(tmp_path: Path, home: Path) -> None:
    done = init(home, "--tls", "--directory", str(tmp_path), *THREE)
    assert done.returncode == 0, done.stderr
    config = load(tmp_path / "node2.toml")
    assert config.members["node1"] == "tls+tcp://192.0.2.11:7001"
    assert not config.allow_plaintext
    assert config.tls is not None
    assert config.tls.key_file == tmp_path / "tls/node2.key"
    assert f"raftd certificates --directory {tmp_path}/tls node1 node2 node3" in done.stdout
    done = init(home, "--directory", str(tmp_path / "b"), "node1=tls+tcp://192.0.2.11:7100")
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "b/node1.toml").listen == "tls+tcp://192.0.2.11:7100"


def test_an_ipv6_address_is_written_as_scp_wants_it(tmp_path: Path, home: Path) -> None:
    done = init(home, "--tls", "--directory", str(tmp_path), "node1=2001:db8::1", "node2=::2")
    assert f"  scp {tmp_path}/node1.toml root@[2001:db8::1]:/etc/raftd/\n" in done.stdout


def test_the_examples_work_without_a_terminal(tmp_path: Path, home: Path) -> None:
    examples = re.findall(r"init (.*=.*)", RAFTD_EXAMPLES + RAFTCTL_EXAMPLES)
    assert len(examples) == 3
    for number, example in enumerate(examples):
        done = init(home, "--directory", str(tmp_path / str(number)), *example.split())
        assert done.returncode == 0, (example, done.stderr)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--tls", "--trust-network", *THREE), "--tls and --trust-network exclude each other"),
        (("--trust-network", "node1=tls+tcp://[::1]:1"), "these nodes encrypt what they say"),
        ((), "say which nodes, as in node1=192.0.2.1"),
        (THREE, "Say --tls; or, if the network between"),
        (("node1",), "'node1' is no node: write NAME=ADDRESS"),
        (("node1=",), "'node1=' is no node"),
        (("no de=::1",), "is no name"),
        (("node1=a:b",), "the port is not a number"),
        (("node1=a:99999",), "the port is not a number"),
        (("node1=0.0.0.0",), "is every address"),
        (("node1=-",), "write tcp://HOST:PORT"),
        (("node1=::1", "node1=::1"), "node1 is given twice"),
        (("node1=::1", "node2=[::1]:7001"), "tcp://[::1]:7001 is given twice"),
        (("--trust-network", "node1=192.0.2.11"), "none of these addresses is this host's"),
    ],
)
def test_what_makes_no_sense_is_told_and_nothing_is_written(
    home: Path, words: tuple[str, ...], told: str
) -> None:
    done = init(home, *words)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not home.exists()


def test_a_file_that_says_something_else_is_kept(tmp_path: Path, home: Path) -> None:
    file = tmp_path / "node1.toml"
    file.write_text("# mine\n")
    words = ("--directory", str(tmp_path), "node1=localhost")
    done = init(home, *words)
    assert (done.returncode, "--force replaces it" in done.stderr) == (2, True)
    assert file.read_text() == "# mine\n"
    assert init(home, "--force", *words).returncode == 0
    assert load(file).members == {"node1": "tcp://localhost:7001"}
    assert (tmp_path / "node1.toml.old").read_text() == "# mine\n"
    assert "is as it should be" in init(home, *words).stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node1.toml", "node1.toml.old"]


def test_the_file_that_came_with_the_package_is_replaced(tmp_path: Path, home: Path) -> None:
    shipped = Path(__file__).parents[2] / "etc" / "node1.toml"
    (tmp_path / "node1.toml").write_text(shipped.read_text())
    assert load(shipped).members == {"node1": "tcp://127.0.0.1:7001"}
    assert init(home, "--directory", str(tmp_path), *LOCAL).returncode == 0


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path, home: Path) -> None:
    (tmp_path / "file").write_text("")
    done = init(home, "--directory", str(tmp_path / "file" / "x"), *LOCAL)
    assert (done.returncode, "cannot" in done.stderr) == (2, True), done.stderr


def test_it_asks_for_everything_on_a_terminal(tmp_path: Path) -> None:
    answers = "2\n\n192.0.2.11\ndb\n192.0.2.12\ny\n"
    controller, terminal = pty.openpty()
    os.write(controller, answers.encode())
    done = subprocess.run(
        [sys.executable, "-m", "raftd", "init", "--directory", str(tmp_path)],
        capture_output=True,
        text=True,
        stdin=terminal,
        check=False,
    )
    os.close(terminal)
    os.close(controller)
    assert done.returncode == 0, done.stderr
    config = load(tmp_path / "db.toml")
    assert config.members == {"node1": "tcp://192.0.2.11:7001", "db": "tcp://192.0.2.12:7001"}
    assert config.allow_plaintext
    assert "2 nodes survive no more failures than 1" in done.stderr


def test_raftctl_hands_over_to_raftd(tmp_path: Path) -> None:
    raftctl = Path(sys.executable).with_name("raftctl")
    if not raftctl.exists():
        pytest.skip("raftctl is not installed beside this Python")
    done = subprocess.run(
        [raftctl, "init", "--directory", tmp_path, "node1=localhost"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "node1.toml").members == {"node1": "tcp://localhost:7001"}
