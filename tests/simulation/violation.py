"""What a run finds: which property does not hold, and how."""

from __future__ import annotations


class Violation(AssertionError):
    """`name`: the property; `text`: what was seen, with nodes, terms and indexes."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text
