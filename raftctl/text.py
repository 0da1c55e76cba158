"""Text that came from elsewhere, made fit for a terminal: nothing unprintable, known width.

Unprintable is what `str.isprintable` says: control characters, but also bidirectional overrides,
invisible characters, and lone surrogates, any of which can make a line say something else.
"""

from __future__ import annotations


def clean(text: str) -> str:
    """`text` in one line, each unprintable character written as an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def readable(data: bytes) -> str:
    """Bytes for people: UTF-8 where they are UTF-8, \\xNN elsewhere, a backslash doubled.

    Different bytes give different text.
    """
    return clean(data.decode("utf-8", "surrogateescape").replace("\\", "\\\\"))


def columns(text: str) -> int:
    """How many columns of a terminal clean text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # noqa: PLC0415 - rarely needed

    return sum(
        0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text
    )


def cut(text: str, width: int, ellipsis: str) -> str:
    """Clean text in at most `width` columns; what is left out is shown by `ellipsis`."""
    if columns(text) <= width:
        return text
    room = width - columns(ellipsis)
    if room < 0:
        return ""
    end = min(len(text), room)
    while columns(text[:end]) > room:
        end -= 1
    return text[:end] + ellipsis


def _escape(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:  # surrogateescape: a byte that is no UTF-8
        number -= 0xDC00
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
