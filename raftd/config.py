"""The configuration of one node: a TOML file, read as a whole, with every problem said at once.

One way in, `load`; one way out, a `Config` in which everything fits together. A `Config` was checked
without looking at the network or the data directory. etc/raftd.toml describes each setting.
"""

from __future__ import annotations

import difflib
import grp
import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from raftd import address, logs, places

NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
MAX_FILE_BYTES = 64 << 10
MAX_SOCKET_PATH_BYTES = 107  # unix(7): sun_path has 108 bytes, one of them the end
ENTRY_OVERHEAD_BYTES = 4 << 10  # more than a command of entry_bytes grows by on its way into a segment
KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30


class ConfigError(Exception):
    """The file cannot be used. `problems`: one line each, "FILE: KEY: what is wrong; what to do"."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Limits(msgspec.Struct, frozen=True):
    """How much of everything. Sizes in bytes."""

    entry_bytes: int = 1 * MiB
    append_bytes: int = 1 * MiB
    in_flight: int = 2
    uncommitted_bytes: int = 64 * MiB
    log_memory_bytes: int = 32 * MiB
    segment_bytes: int = 64 * MiB
    snapshot_log_bytes: int = 256 * MiB
    connections: int = 1024


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is told. Addresses are URLs as `raftd.address` writes them; paths are absolute."""

    name: str
    data_dir: Path
    listen: str
    advertise: str
    members: dict[str, str]
    """the initial members, name -> address; counts only when the data directory is made"""
    cluster: str = ""
    election_timeout_ms: tuple[int, int] = (1000, 2000)
    heartbeat_interval_ms: int = 100
    log: str = "info"
    socket: Path
    socket_group: str | None = None
    allow_plaintext: bool = False
    limits: Limits = Limits()
    source: Path
    """the file"""
    warnings: tuple[str, ...] = ()
    """what is allowed but hardly meant, in the form of ConfigError.problems"""


def load(path: Path) -> Config:
    """Read and check the file at `path`. Raises ConfigError."""
    return _Reading(Path(os.path.abspath(path))).config()  # noqa: PTH100 - no links resolved


def cluster_id(config: Config) -> bytes:
    """16 bytes that a cluster's messages and files carry: the label and the initial members."""
    members = sorted(f"{name}={url}" for name, url in config.members.items())
    return hashlib.sha256("\n".join([config.cluster, *members]).encode()).digest()[:16]


class _Wrong(ValueError):
    """A value that cannot stand; the message says what is wrong and what to do."""


def _integer(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int:  # a bool is an int to isinstance
            raise _Wrong(f"{_show(value)} is not an integer; write one from {low} to {high}")
        if not low <= value <= high:
            raise _Wrong(f"{_show(value)} is out of range; write a number from {low} to {high}")
        return value

    return check


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"{_show(value)} is not a string; write it in quotes")
    if not value.isprintable():
        raise _Wrong(f"{_show(value)} has characters that cannot be printed; leave them out")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"{_show(value)} is neither true nor false; write one of them, without quotes")
    return value


def _name(value: object) -> str:
    name = _text(value)
    if not NAME.fullmatch(name) or name in {".", ".."}:
        raise _Wrong(f"{_show(name)} is no name; use 1 to 63 of A-Z a-z 0-9 . _ -")
    return name


def _label(value: object) -> str:
    label = _text(value)
    if len(label) > 255:
        raise _Wrong(f"{len(label)} characters are too many; write at most 255")
    return label


def _path(value: object) -> Path:
    path = _text(value)
    if not path.startswith("/"):
        raise _Wrong(f"{_show(path)} is not an absolute path; begin it with /")
    return Path(os.path.normpath(path))


def _socket(value: object) -> Path:
    path = _path(value)
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH_BYTES:
        raise _Wrong(
            f"{_show(str(path))} has {size} bytes, a socket's path at most {MAX_SOCKET_PATH_BYTES}; "
            "choose a shorter one"
        )
    return path


def _group(value: object) -> str | None:
    group = _text(value)
    try:
        return grp.getgrnam(group).gr_name if group else None
    except KeyError:
        raise _Wrong(f"no group {_show(group)} on this host; create it or name another") from None


def _log(value: object) -> str:
    try:
        logs.parse(_text(value))
    except logs.LogSpecError as error:
        raise _Wrong(str(error)) from None
    return _text(value)


def _url(value: object) -> str:
    try:
        return str(address.parse(_text(value)))
    except address.AddressError as error:
        raise _Wrong(f"{_show(value)}: {error}") from None


def _dialable(value: object) -> str:
    url = _url(value)
    if address.parse(url).is_wildcard:
        raise _Wrong(f"{url} is every address, nobody can dial it; write the one that peers use")
    return url


def _range(value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise _Wrong(f"{_show(value)} is no range; write two integers, as in [1000, 2000]")
    low, high = (_integer(10, 600_000)(end) for end in value)
    if low >= high:
        raise _Wrong(f"[{low}, {high}] does not ascend; write the smaller number first, then a larger")
    return low, high


_SETTINGS: dict[str, Callable[[object], object]] = {
    "name": _name,
    "data_dir": _path,
    "listen": _url,
    "advertise": _dialable,
    "cluster": _label,
    "election_timeout_ms": _range,
    "heartbeat_interval_ms": _integer(1, 60_000),
    "log": _log,
    "socket": _socket,
    "socket_group": _group,
    "allow_plaintext": _truth,
}
_LIMITS: dict[str, Callable[[object], object]] = {
    "entry_bytes": _integer(1 * KiB, 32 * MiB),
    "append_bytes": _integer(16 * KiB, 32 * MiB),
    "in_flight": _integer(1, 64),
    "uncommitted_bytes": _integer(64 * KiB, 4 * GiB),
    "log_memory_bytes": _integer(64 * KiB, 16 * GiB),
    "segment_bytes": _integer(64 * KiB, 1 * GiB),
    "snapshot_log_bytes": _integer(64 * KiB, 1024 * GiB),
    "connections": _integer(1, 65_536),
}
_TABLES = ("members", "limits")
_FITS = (  # (the smaller limit, what it grows by, the larger limit, why)
    ("entry_bytes", ENTRY_OVERHEAD_BYTES, "segment_bytes", "an entry must fit into a segment"),
    ("entry_bytes", ENTRY_OVERHEAD_BYTES, "uncommitted_bytes", "else the largest is always refused"),
    ("append_bytes", 0, "log_memory_bytes", "else followers are fed from disk"),
    ("segment_bytes", 0, "snapshot_log_bytes", "a snapshot frees whole segments only"),
)


class _Reading:
    """One reading of one file. A value with a problem is missing from what is checked after it."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._problems: list[str] = []
        self._warnings: list[str] = []

    def config(self) -> Config:
        tables = self._decode(self._content())
        top = {key: value for key, value in tables.items() if key not in _TABLES}
        values: dict[str, Any] = {"name": self._source.stem}
        values |= self._checked("", top, _SETTINGS, values)
        if "members" in tables:
            values |= self._members(self._table(tables, "members"))
        else:
            self._problem(
                "members", 'missing; list all nodes, as in [members] node1 = "tcp://192.0.2.1:7001"'
            )
        limits = self._limits(self._table(tables, "limits"))
        self._place(values, given=top)
        self._check_times(values)
        self._check_addresses(values)
        if self._problems:
            raise ConfigError(self._problems)
        return Config(
            **values, limits=limits, source=self._source, warnings=tuple(self._warnings)
        )
