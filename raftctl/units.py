"""Numbers for people: sizes, durations, moments, users."""

from __future__ import annotations

import time

_SIZES = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_YEAR_9999_MS = 253_370_764_800_000
_DURATIONS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def size(count: int) -> str:
    """Bytes: "512 B", "1.5 MiB"."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    unit = -1
    while amount >= 1023.95 and unit < len(_SIZES) - 1:
        amount /= 1024
        unit += 1
    return f"{amount:.1f} {_SIZES[unit]}"


def duration(milliseconds: int) -> str:
    """Two units at most: "0.2 s", "12 s", "3 min 5 s", "3 h 12 min", "4 d 3 h"."""
    milliseconds = max(0, milliseconds)
    if milliseconds < 10_000:
        return f"{milliseconds / 1000:.1f} s"
    seconds = milliseconds // 1000
    for length, unit, smaller_length, smaller_unit in _DURATIONS:
        if seconds >= length:
            rest = seconds % length // smaller_length
            whole = f"{seconds // length} {unit}"
            return f"{whole} {rest} {smaller_unit}" if rest else whole
    return f"{seconds} s"


def moment(unix_ms: int, *, precise: bool = False, zone: bool = False) -> str:
    """Local time, ISO 8601; with milliseconds if `precise`, with the offset from UTC if `zone`."""
    if not 0 <= unix_ms < _YEAR_9999_MS:
        return f"{unix_ms} ms"
    local = time.localtime(unix_ms // 1000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", local)
    if precise:
        text += f".{unix_ms % 1000:03d}"
    if zone:
        offset = time.strftime("%z", local)
        text += f"{offset[:3]}:{offset[3:]}"
    return text


def who(uid: int | None, node: str | None) -> str:
    """Who asked, and on which node: "alice@node1"; the uid where this host does not know it."""
    user = "" if uid is None else _user(uid)
    if node is None:
        return user or "-"
    return f"{user}@{node}"


def _user(uid: int) -> str:
    import pwd  # noqa: PLC0415 - only the log needs it

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)
