"""Keys and values between the command line, the socket (base64), and JSON.

A word of the command line is the bytes the shell passed, UTF-8 or not. With --base64 the words, and
what is read and printed, are base64.
"""

from __future__ import annotations

import os
import sys
from binascii import Error, a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Any

import click

from raftctl.failure import Failure
from raftd.admin.protocol import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from raftctl.answers import Item

MAX_INPUT_BYTES = MAX_MESSAGE_BYTES
"""What is read as a value; as base64 it exceeds what the daemon takes in one call anyway."""


def wire(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def from_wire(text: str) -> bytes:
    """Raises Failure if the daemon sent no base64."""
    try:
        return a2b_base64(text, strict_mode=True)
    except (Error, TypeError, ValueError):
        raise Failure("the daemon's answer makes no sense: a value that is no base64") from None


def argument(word: str, name: str, *, base64: bool) -> bytes:
    """The bytes of one word of the command line. Raises click.UsageError."""
    data = os.fsencode(word)
    return _decoded(data, name) if base64 else data


def value(word: str | None, file: str | None, *, base64: bool) -> bytes:
    """A value from the command line, from standard input ("-"), or from a file.

    Raises click.UsageError, Failure.
    """
    if file is None and word is not None and word != "-":
        return argument(word, "VALUE", base64=base64)
    data = _read(file if file is not None else "-")
    return _decoded(data.strip(), file or "standard input") if base64 else data


def _read(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1) if sys.stdin is not None else b""
        else:
            with open(file, "rb") as stream:  # noqa: PTH123 - pathlib is not needed else
                data = stream.read(MAX_INPUT_BYTES + 1)
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from None
    if len(data) > MAX_INPUT_BYTES:
        raise Failure(f"{file}: a value has at most {MAX_INPUT_BYTES} bytes")
    return data


def _decoded(data: bytes, name: str) -> bytes:
    try:
        return a2b_base64(data, strict_mode=True)
    except (Error, ValueError) as error:
        raise click.UsageError(f"{name} is no base64 ({error}).") from None


def fields(name: str, data: bytes, *, base64: bool) -> dict[str, str]:
    """{name: text} if the bytes are UTF-8, {name_base64: ...} if not, or if base64 is asked for."""
    if not base64:
        try:
            return {name: data.decode()}
        except UnicodeDecodeError:
            pass
    return {f"{name}_base64": wire(data)}


def item_json(item: Item, *, base64: bool, keys_only: bool = False) -> dict[str, Any]:
    key = fields("key", from_wire(item["key"]), base64=base64)
    rest = {} if keys_only else fields("value", from_wire(item["value"]), base64=base64)
    return {**key, **rest, "revision": item["revision"]}
