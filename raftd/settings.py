"""What each single setting of the configuration file may be: one check a key, value in, value out.

A check raises `Wrong` with a sentence; what several settings must be together is raftd.config's.
"""

from __future__ import annotations

import grp
import os
import re
from collections.abc import Callable
from pathlib import Path

from raftd import address, logs
from raftd.join import Join
from raftd.join import parse as parse_join

MAX_SOCKET_PATH_BYTES = 107  # unix(7): sun_path has 108 bytes, one of them the end
_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30
Check = Callable[[object], object]


class Wrong(ValueError):
    """A value that cannot stand; the message says what is wrong and what to do."""


def show(value: object) -> str:
    """A value for a message: on one line, and short."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a number far too large"
    return text if len(text) <= 60 else f"{text[:56]} ..."


def _integer(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int:  # a bool is an int to isinstance
            raise Wrong(f"{show(value)} is not an integer; write one from {low} to {high}")
        if not low <= value <= high:
            raise Wrong(f"{show(value)} is out of range; write a number from {low} to {high}")
        return value

    return check


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{show(value)} is not a string; write it in quotes")
    if not value.isprintable():
        raise Wrong(f"{show(value)} has characters that cannot be printed; leave them out")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"{show(value)} is neither true nor false; write one of them, without quotes")
    return value


def name(value: object) -> str:
    text = _text(value)
    if not _NAME.fullmatch(text) or text in {".", ".."}:
        raise Wrong(f"{show(text)} is no name; use 1 to 63 of A-Z a-z 0-9 . _ -")
    return text


def _label(value: object) -> str:
    label = _text(value)
    if len(label) > 255:
        raise Wrong(f"{len(label)} characters are too many; write at most 255")
    return label


def _join(value: object) -> Join | None:
    text = _text(value)
    try:
        return parse_join(text) if text else None
    except ValueError as error:
        raise Wrong(f"{error}; take the file that it printed as it is") from None


def _path(value: object) -> Path:
    path = _text(value)
    if not path.startswith("/"):
        raise Wrong(f"{show(path)} is not an absolute path; begin it with /")
    return Path(os.path.normpath(path))


def _optional_path(value: object) -> Path | None:
    return _path(value) if _text(value) else None


def socket_path(value: object) -> Path:
    path = _path(value)
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH_BYTES:
        raise Wrong(
            f"{show(str(path))} has {size} bytes, a socket's path at most {MAX_SOCKET_PATH_BYTES}; "
            "choose a shorter one"
        )
    return path


def _group(value: object) -> str | None:
    group = _text(value)
    try:
        return grp.getgrnam(group).gr_name if group else None
    except KeyError:
        raise Wrong(f"no group {show(group)} on this host; create it or name another") from None


def _log(value: object) -> str:
    try:
        logs.parse(_text(value))
    except logs.LogSpecError as error:
        raise Wrong(str(error)) from None
    return _text(value)


def _url(value: object) -> str:
    try:
        return str(address.parse(_text(value)))
    except address.AddressError as error:
        raise Wrong(f"{show(value)}: {error}") from None


def dialable_url(value: object) -> str:
    url = _url(value)
    if address.parse(url).is_wildcard:
        raise Wrong(f"{url} is every address, nobody can dial it; write the one that peers use")
    return url


def _range(value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise Wrong(f"{show(value)} is no range; write two integers, as in [1000, 2000]")
    low, high = (_integer(10, 600_000)(end) for end in value)
    if low >= high:
        raise Wrong(
            f"[{low}, {high}] does not ascend; write the smaller number first, then a larger"
        )
    return low, high


SETTINGS: dict[str, Check] = {
    "name": name,
    "data_dir": _path,
    "listen": _url,
    "advertise": dialable_url,
    "cluster": _label,
    "join": _join,
    "priority": _integer(0, 100),
    "election_timeout_ms": _range,
    "heartbeat_interval_ms": _integer(1, 60_000),
    "check_interval_ms": _integer(100, 86_400_000),
    "log": _log,
    "socket": socket_path,
    "socket_group": _group,
    "allow_plaintext": _truth,
    "state_trace": _optional_path,
}
TLS: dict[str, Check] = {
    "ca_file": _path,
    "cert_file": _path,
    "key_file": _path,
}
LIMITS: dict[str, Check] = {
    "entry_bytes": _integer(1 * KiB, 32 * MiB),
    "append_bytes": _integer(16 * KiB, 32 * MiB),
    "in_flight": _integer(1, 64),
    "uncommitted_bytes": _integer(64 * KiB, 4 * GiB),
    "log_memory_bytes": _integer(64 * KiB, 16 * GiB),
    "segment_bytes": _integer(64 * KiB, 1 * GiB),
    "snapshot_log_bytes": _integer(64 * KiB, 1024 * GiB),
    "log_tail_bytes": _integer(0, 1024 * GiB),
    "connections": _integer(1, 65_536),
}
