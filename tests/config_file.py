"""Configuration files for tests: some good texts, and what `load` makes of any."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftd.config import Config, ConfigError, load

ONE = '[members]\nnode1 = "tcp://127.0.0.1:7001"\n'
THREE = ONE + 'node2 = "tcp://127.0.0.1:7002"\nnode3 = "tcp://127.0.0.1:7003"\n'


def problems(file: Path, text: str | bytes) -> list[str]:
    """What is wrong with a file that has this content, without the file's name in front."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as raised:
        load(file)
    assert str(raised.value) == "\n".join(raised.value.problems)
    for line in raised.value.problems:
        assert line.startswith(f"{file}: ")
        assert "; " in line or "?" in line, "says what to do"
    return [line.removeprefix(f"{file}: ") for line in raised.value.problems]


def problem(file: Path, text: str | bytes) -> str:
    found = problems(file, text)
    assert len(found) == 1, found
    return found[0]


def loaded(file: Path, text: str) -> Config:
    file.write_text(text)
    return load(file)
