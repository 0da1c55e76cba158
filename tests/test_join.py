"""The file for a new host: what `raftctl members add` prints is what a node starts with."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd.config import ConfigError, cluster_id, load
from raftd.join import Join, configuration_file, parse

ID = bytes(range(16))
MEMBERS = {"node1": "tcp://192.0.2.1:7001", "db.4": "tcp://[2001:db8::4]:7001"}


@given(st.binary(min_size=16, max_size=16), st.integers(1, 2**63 - 1))
def test_text_and_back(cluster: bytes, index: int) -> None:
    join = Join(cluster, index)
    assert parse(str(join)) == join


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "ab" * 16, f"{'ab' * 16}:", f"{'ab' * 16}:0", f"{'ab' * 16}:01"),
        *(f"{'AB' * 16}:1", f"{'ab' * 16}:{2**63}", f"{'ab' * 15}:1"),
        *(f" {'ab' * 16}:1", f"{'ab' * 16}:1\n"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not what `raftctl members add` has printed"):
        parse(text)


def test_the_file_is_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "db.4.toml"
    settings = {"election_timeout_ms": [300, 600], "heartbeat_interval_ms": 30}
    file.write_text(configuration_file("db.4", Join(ID, 7), MEMBERS, settings))
    config = load(file)
    assert (config.name, config.join, config.members) == ("db.4", Join(ID, 7), MEMBERS)
    assert cluster_id(config) == ID
    assert config.listen == MEMBERS["db.4"]
    assert config.election_timeout_ms == (300, 600)
    assert config.heartbeat_interval_ms == 30
    assert config.warnings == ()


def test_on_the_loopback_nothing_is_said_of_the_network(tmp_path: Path) -> None:
    members = {"node1": "tcp://127.0.0.1:7001", "node2": "tcp://127.0.0.1:7002"}
    text = configuration_file("node2", Join(ID, 7), members, {})
    assert "allow_plaintext" not in text
    file = tmp_path / "node2.toml"
    file.write_text(text)
    assert load(file).warnings == ()


def test_who_does_not_encrypt_among_others_who_do_is_not_said_to_trust_the_network(
    tmp_path: Path,
) -> None:
    """That is for somebody to say: until then the node refuses its file, and says why."""
    members = {"node1": "tls+tcp://192.0.2.1:7001", "node2": "tcp://192.0.2.2:7001"}
    text = configuration_file("node2", Join(ID, 7), members, {})
    assert "# The other members encrypt what they say, this one would not" in text
    file = tmp_path / "node2.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="write tls\\+tcp:// addresses, or, if you trust that"):
        load(file)
    file.write_text(text.replace("#allow_plaintext", "allow_plaintext"))
    assert load(file).allow_plaintext


def test_who_encrypts_need_not_trust_the_network(tmp_path: Path) -> None:
    members = {"node1": "tls+tcp://192.0.2.1:7001", "node2": "tls+tcp://192.0.2.2:7001"}
    text = configuration_file("node2", Join(ID, 7), members, {})
    assert "allow_plaintext" not in text
    assert "node2.key in tls/ beside it" in text
    file = tmp_path / "node2.toml"
    file.write_text(text)
    assert load(file).tls is not None
