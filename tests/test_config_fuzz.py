"""Whatever stands in a configuration file: a configuration, or ConfigError in printable lines."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from raftd import settings
from raftd.config import ConfigError, cluster_id, load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node1.toml"


KEYS = st.sampled_from([*settings.SETTINGS, *settings.LIMITS, "members", "node1", "node2"]) | (
    st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), min_size=1, max_size=6)
)
SCALARS = (
    st.integers()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(["tcp://127.0.0.1:7001", "tcp://127.0.0.1:7002", "/tmp/x", "node1", "info"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def toml(value: Any) -> str:
    """An inline TOML value."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
        case _:
            return repr(value)


@given(st.dictionaries(KEYS, VALUES, max_size=8), st.booleans())
@examples(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_toml_gives_a_config_or_a_config_error(
    file: Path, top: dict[str, Any], with_members: bool
) -> None:
    if with_members:
        top["members"] = {"node1": "tcp://127.0.0.1:7001"}
    text = "".join(f"{toml(key)} = {toml(value)}\n" for key, value in top.items())
    tomllib.loads(text)
    check_any(file, text.encode())


@given(
    st.binary(max_size=60) | st.text(alphabet="ab=[]{}\"'.,#\n\\ 1-_", max_size=40).map(str.encode)
)
@examples(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_give_a_config_or_a_config_error(file: Path, content: bytes) -> None:
    check_any(file, content)


def check_any(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        found = load(file)
    except ConfigError as error:
        assert error.problems
        for line in error.problems:
            assert line.startswith(f"{file}: ")
            assert line.isprintable()
    else:
        assert found.name in found.members
        assert cluster_id(found)
