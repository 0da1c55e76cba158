"""Commands in words: readable, unambiguous, harmless on a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd.kv import commands
from raftd.kv.commands import CompareAndSet, Delete, Put
from raftd.kv.describe import describe, in_words, show
from raftd.kv.store import KeyValueStore


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (Put(b"color", b"x" * 12), 'put "color" = 12 bytes'),
        (Put(b"color", b"x"), 'put "color" = 1 byte'),
        (Put(b"color", b""), 'put "color" = 0 bytes'),
        (Delete(b"color"), 'delete "color"'),
        (CompareAndSet(b"k", 7, None, b"v"), 'set "k" = 1 byte if its revision is 7'),
        (CompareAndSet(b"k", 0, None, b"v"), 'set "k" = 1 byte if it does not exist'),
        (CompareAndSet(b"k", None, None, b"v"), 'set "k" = 1 byte if it does not exist'),
        (
            CompareAndSet(b"k", None, b"12", b"v"),
            'set "k" = 1 byte if its value is a certain 2 bytes',
        ),
        (CompareAndSet(b"k", 7, None, None), 'delete "k" if its revision is 7'),
    ],
)
def test_commands(command: commands.Command, words: str) -> None:
    assert in_words(command) == words


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (b"plain key/1", '"plain key/1"'),
        ("grün".encode(), '"grün"'),
        (b'a"b\\c', '"a\\"b\\\\c"'),
        (b"k" * 40, '"' + "k" * 40 + '"'),
        (b"k" * 41, '"' + "k" * 40 + '…"'),
        (b"\x1b[2J", "0x1b5b324a"),
        (b"a\nb", "0x610a62"),
        (b"\xff\xfe", "0xfffe"),
        ("a\u202eb".encode(), "0x61e280ae62"),
        (b"\0" * 21, "0x" + "00" * 20 + "…"),
    ],
)
def test_keys(key: bytes, shown: str) -> None:
    assert show(key) == shown


@given(st.binary(min_size=1, max_size=100) | st.text(min_size=1).map(str.encode))
def test_any_key_is_printable_and_short(key: bytes) -> None:
    words = in_words(Put(key, b""))
    assert words.isprintable()
    assert len(words) < 110


@given(st.binary(max_size=100))
def test_any_bytes_are_described(body: bytes) -> None:
    """pitfall 77"""
    words = describe(body)
    assert words.isprintable()


def test_what_is_no_command_is_said_to_be_none(tmp_path: Path) -> None:
    store = KeyValueStore(tmp_path)
    assert store.describe(b"junk") == "no command of the key-value store (4 bytes)"
    assert store.describe(b"\x91" * 100_000).startswith("no command")
    assert store.describe(commands.encode(Delete(b"a"))) == 'delete "a"'
    store.close()
