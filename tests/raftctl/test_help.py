"""The help: everywhere, in 80 columns, with examples that are command lines raftctl knows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from raftctl.cli import root
from tests.raftctl.conftest import Raftctl


def _commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _commands(found, (*path, name))


_ALL = list(_commands(root, ()))


@pytest.mark.parametrize("path", _ALL, ids=" ".join)
def test_each_command_has_help(raftctl: Raftctl, path: tuple[str, ...]) -> None:
    short, long = raftctl(*path, "-h"), raftctl(*path, "--help", columns=200)
    assert short == long
    assert short.code == 0
    assert max(len(line) for line in short.text.splitlines()) <= 80
    assert "-o, --output [table|json]" in short.text
    listed = re.search(r"^Commands:\n(.*?)\n\n", short.text, re.MULTILINE | re.DOTALL)
    assert listed is None or "..." not in listed[1], "a summary is cut"


@pytest.mark.parametrize("path", _ALL, ids=" ".join)
def test_examples_are_commands_there_are(raftctl: Raftctl, path: tuple[str, ...]) -> None:
    examples = re.findall(r"raftctl (.*)", raftctl(*path, "-h").text.partition("Examples:")[2])
    for example in examples:
        if not example.startswith(
            ("kv", "log", "leader", "members", "status", "reload", "drain", "--node")
        ):
            continue  # not an example, but a sentence
        words = shlex.split(re.split(r" {2,}| [|>] | \|\| ", example)[0])
        result = raftctl("--socket", "/nonexistent/raftd.sock", *words)
        allowed = {1, 3} if "--file" in words else {3}
        assert result.code in allowed, (example, result.err)
