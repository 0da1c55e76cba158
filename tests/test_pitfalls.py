"""Ninety-seven faults seen in other consensus systems: each is covered here, or cannot happen here.

A test says in its docstring which of them it would catch, as in "pitfall 25" or "pitfalls 40 and
41"; ARCHITECTURE.md says why some cannot happen.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
ARCHITECTURE = TESTS.parent / "ARCHITECTURE.md"
ALL = frozenset(range(1, 98))
_NUMBERS = re.compile(r"[Pp]itfalls?\s+(\d+(?:(?:,\s*|\s+and\s+|,\s*and\s+)\d+)*)")


def _docstrings() -> Iterator[tuple[str, str]]:
    """Of every test, and of every test module: its name, and what it says."""
    for path in sorted(TESTS.rglob("*.py")):
        module = ast.parse(path.read_text())
        name = str(path.relative_to(TESTS))
        if path.name.startswith("test_") and path != Path(__file__):
            yield name, ast.get_docstring(module) or ""
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
                "test_"
            ):
                yield f"{name}::{node.name}", ast.get_docstring(node) or ""


def _numbers(text: str) -> set[int]:
    return {int(each) for found in _NUMBERS.findall(text) for each in re.findall(r"\d+", found)}


@cache
def _covered() -> dict[int, list[str]]:
    """By number, the tests that cover it."""
    covered: dict[int, list[str]] = {}
    for name, text in _docstrings():
        for number in _numbers(text):
            covered.setdefault(number, []).append(name)
    return covered


def _impossible() -> set[int]:
    """What ARCHITECTURE.md lists: "- 83, 84: why"."""
    section = ARCHITECTURE.read_text().partition("## What cannot happen here")[2]
    section = section.partition("\n## ")[0]
    lists = re.findall(r"^- (\d+(?:, \d+)*): \S", section, flags=re.MULTILINE)
    return {int(each) for found in lists for each in found.split(", ")}


def test_every_pitfall_is_covered_or_cannot_happen() -> None:
    missing = ALL - _covered().keys() - _impossible()
    assert not missing, f"no test's docstring has, and ARCHITECTURE.md does not explain: {missing}"


def test_numbers_are_those_of_the_list() -> None:
    unknown = {number: where for number, where in _covered().items() if number not in ALL}
    assert not unknown
    assert _impossible() <= ALL


def test_how_numbers_are_written() -> None:
    assert _numbers("pitfall 7, 9; and 10 times pitfalls 40 and\n 41, and 42") == {7, 9, 40, 41, 42}
