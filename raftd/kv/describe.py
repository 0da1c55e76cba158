"""Commands of the key-value store in words, safe to print whatever bytes they hold."""

from __future__ import annotations

from typing import assert_never

from raftd.kv.commands import Command, CompareAndSet, Delete, Put, decode_command

_SHOWN = 40
"""How many characters of a key are shown."""


def describe(body: bytes) -> str:
    """What the command in `body` would do, in one line of printable characters."""
    try:
        return in_words(decode_command(body))
    except (ValueError, RecursionError):
        return f"no command of the key-value store ({_size(body)})"


def in_words(command: Command) -> str:
    """What `command` would do, in one line of printable characters."""
    match command:
        case Put(key, value):
            return f"put {show(key)} = {_size(value)}"
        case Delete(key):
            return f"delete {show(key)}"
        case CompareAndSet():
            condition = _condition(command)
            if command.value is None:
                return f"delete {show(command.key)} if {condition}"
            return f"set {show(command.key)} = {_size(command.value)} if {condition}"
        case _ as never:
            assert_never(never)


def show(key: bytes) -> str:
    """`key` in quotes if it is printable text, else in hexadecimal; shortened."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable():
        # A quote or backslash inside is escaped, so that where the key ends is never in doubt.
        end = "…" if len(text) > _SHOWN else ""
        shown = text[:_SHOWN].replace("\\", "\\\\").replace('"', '\\"')
        return f'"{shown}{end}"'
    end = "…" if len(key) > _SHOWN // 2 else ""
    return f"0x{key[: _SHOWN // 2].hex()}{end}"


def _condition(command: CompareAndSet) -> str:
    if command.expected_revision is not None:
        if command.expected_revision == 0:
            return "it does not exist"
        return f"its revision is {command.expected_revision}"
    if command.expected_value is None:
        return "it does not exist"
    return f"its value is a certain {_size(command.expected_value)}"


def _size(value: bytes) -> str:
    return f"{len(value)} byte{'' if len(value) == 1 else 's'}"
