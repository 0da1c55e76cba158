"""The configuration of one node: a TOML file, read as a whole, with every problem said at once.

One way in, `load`; one way out, a `Config` in which everything fits together. Neither the network
nor the data directory is looked at. etc/raftd.toml describes each setting; raftd.settings has the
checks of single values.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from raftd import address, places, settings
from raftd.credentials import TlsFiles
from raftd.join import Join
from raftd.settings import Wrong, show

MAX_FILE_BYTES = 64 << 10
ENTRY_OVERHEAD_BYTES = 4 << 10  # more than a command grows by on its way into a segment


class ConfigError(Exception):
    """The file cannot be used. `problems`: lines like "FILE: KEY: what is wrong; what to do"."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Limits(msgspec.Struct, frozen=True):
    """How much of everything; sizes in bytes. etc/raftd.toml says what each is for."""

    entry_bytes: int = 1 << 20
    append_bytes: int = 1 << 20
    in_flight: int = 2
    uncommitted_bytes: int = 64 << 20
    log_memory_bytes: int = 16 << 20
    segment_bytes: int = 64 << 20
    snapshot_log_bytes: int = 256 << 20
    log_tail_bytes: int = 64 << 20
    connections: int = 1024


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is told. Addresses are spelled as `raftd.address` does; paths are absolute."""

    name: str
    data_dir: Path
    listen: str
    advertise: str
    members: dict[str, str]
    """the initial members, name -> address; they count only when the data directory is made"""
    cluster: str = ""
    join: Join | None = None
    """how this node came into a cluster that was there before it"""
    priority: int = 1
    election_timeout_ms: tuple[int, int] = (1000, 2000)
    heartbeat_interval_ms: int = 100
    check_interval_ms: int = 10_000
    log: str = "info"
    socket: Path
    socket_group: str | None = None
    allow_plaintext: bool = False
    tls: TlsFiles | None = None
    """for encrypted connections; None: no address asks for any"""
    state_trace: Path | None = None
    limits: Limits = Limits()
    source: Path
    """the file"""
    warnings: tuple[str, ...] = ()
    """what is allowed but hardly meant, in the form of ConfigError.problems"""


def load(path: Path) -> Config:
    """Read and check the file at `path`. Raises ConfigError."""
    return _Reading(Path(os.path.abspath(path))).config()  # noqa: PTH100 - links stay


def cluster_id(config: Config) -> bytes:
    """16 bytes that a cluster's messages and files carry: those of the cluster that is joined, or
    else made from its label and initial members."""
    if config.join is not None:
        return config.join.cluster_id
    members = sorted(f"{name}={url}" for name, url in config.members.items())
    return hashlib.sha256("\n".join([config.cluster, *members]).encode()).digest()[:16]


_TABLES = ("members", "tls", "limits")
_FITS = (  # the smaller limit, what comes on top, the larger limit, why
    ("entry_bytes", ENTRY_OVERHEAD_BYTES, "segment_bytes", "an entry must fit into a segment"),
    ("entry_bytes", ENTRY_OVERHEAD_BYTES, "uncommitted_bytes", "else no large entry gets in"),
    ("append_bytes", 0, "log_memory_bytes", "else followers are fed from the disk"),
    ("segment_bytes", 0, "snapshot_log_bytes", "a snapshot frees whole segments only"),
)
_TABLE_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*("[^"]*"|'[^']*'|[A-Za-z0-9_.-]+)\s*=""")


class _Reading:
    """One reading of one file. A value with a problem is left out of the checks that follow."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._problems: list[str] = []
        self._warnings: list[str] = []

    def config(self) -> Config:
        top = self._decode(self._content())
        declared, limited = top.pop("members", None), top.pop("limits", {})
        tls = top.pop("tls", None)
        top.setdefault("name", self._source.stem)
        values = self._checked("", top, settings.SETTINGS, _defaults(Config))
        members = self._members(declared, joins=values.get("join") is not None)
        limits = self._limits(limited)
        self._check_times(values)
        if "name" in values:
            self._check_membership(values["name"], declared)
            self._add_places(values["name"], values, top)
            self._add_addresses(values["name"], values, members)
            values["tls"] = self._tls(
                values["name"], tls, [values.get("listen"), *members.values()]
            )
        if self._problems:
            raise ConfigError(self._problems)
        return Config(
            **values,
            members=members,
            limits=Limits(**limits),
            source=self._source,
            warnings=tuple(self._warnings),
        )

    def _line(self, key: str, text: str) -> str:
        plain = key if key.isprintable() and len(key) <= 100 else show(key)
        return f"{self._source}: {plain}: {text}"

    def _problem(self, key: str, text: str) -> None:
        self._problems.append(self._line(key, text))

    def _warn(self, key: str, text: str) -> None:
        self._warnings.append(self._line(key, text))

    def _unusable(self, text: str) -> ConfigError:
        return ConfigError([f"{self._source}: {text}"])

    def _content(self) -> str:
        try:
            if not stat.S_ISREG(self._source.stat().st_mode):  # opening a FIFO would wait for ever
                raise self._unusable("is not a regular file; name the TOML file itself")
            with self._source.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise self._unusable(
                f"cannot be read ({error.strerror}); check the path and its permissions"
            ) from error
        if len(content) > MAX_FILE_BYTES:
            raise self._unusable(f"has over {MAX_FILE_BYTES} bytes; is it a configuration?")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self._unusable(f"is not UTF-8 at byte {error.start}; save it as UTF-8") from None

    def _decode(self, text: str) -> dict[str, Any]:
        try:
            return tomllib.loads(text)
        except RecursionError:
            raise self._unusable("is nested too deeply; two levels are enough") from None
        except ValueError as error:
            twice = _given_twice(text) if "overwrite" in str(error) else None
            if twice:
                key, first, second = twice
                raise ConfigError(
                    [self._line(key, f"given twice, in lines {first} and {second}; keep one")]
                ) from None
            raise self._unusable(f"is not TOML: {error}; mend it there") from None

    def _checked(
        self,
        prefix: str,
        table: Mapping[str, object],
        checks: Mapping[str, settings.Check],
        defaults: Mapping[str, Any],
    ) -> dict[str, Any]:
        values = dict(defaults)
        for key, value in table.items():
            if key not in checks:
                self._problem(prefix + key, _unknown(key, checks))
                continue
            try:
                values[key] = checks[key](value)
            except Wrong as wrong:
                self._problem(prefix + key, str(wrong))
                values.pop(key, None)
        return values

    def _limits(self, table: object) -> dict[str, Any]:
        if not isinstance(table, dict):
            self._problem("limits", "is not a table; write [limits] on a line of its own")
            return {}
        limits = self._checked("limits.", table, settings.LIMITS, _defaults(Limits))
        for small, extra, large, why in _FITS:
            if {small, large} <= limits.keys() and limits[small] + extra > limits[large]:
                self._problem(
                    f"limits.{large}",
                    f"{limits[large]} is too small for {small} = {limits[small]} ({why}); "
                    f"make it {limits[small] + extra} or more",
                )
        self._fit_log_tail(limits, given="log_tail_bytes" in table)
        return limits

    def _fit_log_tail(self, limits: dict[str, Any], *, given: bool) -> None:
        """At most half of what makes a snapshot, else one would soon follow the other. The default
        comes down to that."""
        if not {"log_tail_bytes", "snapshot_log_bytes"} <= limits.keys():
            return
        tail, whole = limits["log_tail_bytes"], limits["snapshot_log_bytes"]
        if not given:
            limits["log_tail_bytes"] = min(tail, whole // 2)
        elif tail > whole // 2:
            self._problem(
                "limits.log_tail_bytes",
                f"{tail} is over half of snapshot_log_bytes = {whole}; write {whole // 2} or less, "
                f"or make that {tail * 2} or more",
            )

    def _tls(self, name: str, table: object, urls: list[str | None]) -> TlsFiles | None:
        """Wanted if there is a table of that name, or an address for it."""
        if table is None:
            if not any(url and address.parse(url).is_encrypted for url in urls):
                return None
            table = {}
        if not isinstance(table, dict):
            self._problem("tls", "is not a table; write [tls] on a line of its own")
            return None
        place = self._source.parent / "tls"
        usual = {
            "ca_file": place / "ca.pem",
            "cert_file": place / f"{name}.pem",
            "key_file": place / f"{name}.key",
        }
        files = self._checked("tls.", table, settings.TLS, usual)
        return TlsFiles(**files) if files.keys() == usual.keys() else None

    def _members(self, table: object, *, joins: bool) -> dict[str, str]:
        if not isinstance(table, dict) or not table:
            example = '[members] on one line and node1 = "tcp://192.0.2.1:7001" on the next'
            self._problem("members", f"no members are given; write {example}, for all nodes")
            return {}
        members: dict[str, str] = {}
        for key, value in table.items():
            try:
                member, url = settings.name(key), settings.dialable_url(value)
            except Wrong as wrong:
                text = _unknown(key, {}) if key in settings.SETTINGS else str(wrong)
                if isinstance(value, dict):
                    text = 'is a table; a name with a dot is written in quotes, "node.1" = ...'
                self._problem(f"members.{key}", text)
                continue
            twin = next((name for name, other in members.items() if other == url), None)
            if twin is not None:
                self._problem(f"members.{member}", f"{url} is also the address of {twin}; mend one")
            members[member] = url
        if joins:
            return members
        if len(members) % 2 == 0 and len(members) == len(table):
            self._warn(
                "members",
                f"{len(members)} nodes survive no more failures than {len(members) - 1}; "
                "an odd number is better",
            )
        if len(members) > 7:
            self._warn("members", f"{len(members)} nodes make writes slow; use 3, 5 or 7")
        return members

    def _check_membership(self, name: str, declared: object) -> None:
        if isinstance(declared, dict) and declared and name not in declared:
            names = show(", ".join(declared))
            self._problem("name", f"{name} is not one of [members] ({names}); mend one of them")

    def _check_times(self, values: dict[str, Any]) -> None:
        key = "heartbeat_interval_ms"
        if not {key, "election_timeout_ms"} <= values.keys():
            return
        heartbeat, shortest = values[key], values["election_timeout_ms"][0]
        if heartbeat >= shortest:
            self._problem(
                key,
                f"{heartbeat} must be below the shortest election timeout, {shortest}; "
                f"write {max(1, shortest // 10)}, or raise election_timeout_ms",
            )
        elif heartbeat * 3 > shortest:
            self._warn(
                key,
                f"{heartbeat} is over a third of the shortest election timeout, {shortest}: one "
                "late heartbeat may depose a leader; lower it, or raise election_timeout_ms",
            )

    def _add_places(self, name: str, values: dict[str, Any], given: Mapping[str, object]) -> None:
        system = places.is_system(self._source)
        if "data_dir" not in given:
            values["data_dir"] = places.data_directory(name, system=system)
        if "socket" not in given:
            try:
                values["socket"] = settings.socket_path(str(places.socket(name, system=system)))
            except Wrong as wrong:
                self._problem("socket", str(wrong))
            except OSError as error:
                self._problem("socket", f"no place for it by default ({error}); write one down")

    def _add_addresses(self, name: str, values: dict[str, Any], members: dict[str, str]) -> None:
        own = members.get(name)
        if own is None:
            return
        advertise = values.setdefault("advertise", own)
        if advertise != own:
            self._problem(
                "advertise",
                f"{advertise} is not {own}, which [members] gives for {name}; make them equal",
            )
        listen = address.parse(values.setdefault("listen", advertise))
        exposed = not (listen.is_loopback or listen.is_encrypted)
        if exposed and values.get("allow_plaintext") is False:
            self._problem(
                "listen",
                f"{listen} can be reached by other hosts, and what nodes say to each other there "
                "is not encrypted; write tls+tcp:// addresses, or, if you trust that network, "
                "allow_plaintext = true",
            )
        if listen.is_encrypted != address.parse(own).is_encrypted:
            self._warn("listen", f"{listen} and {own}: only one of them is encrypted")
        if listen.is_loopback and not address.parse(own).is_loopback:
            self._warn("listen", f"no other host reaches {listen}; write {own}, or leave it out")


def _defaults(struct: type[Config | Limits]) -> dict[str, Any]:
    known = settings.SETTINGS.keys() | settings.LIMITS.keys()
    return {
        field.name: field.default
        for field in msgspec.structs.fields(struct)
        if field.name in known and field.default is not msgspec.NODEFAULT
    }


def _unknown(key: str, known: Mapping[str, object]) -> str:
    """Why `key` cannot stand in a table whose keys are `known`."""
    for name, table in (("limits", settings.LIMITS), ("tls", settings.TLS)):
        if key in table:
            return f"is one of [{name}]; move it there"
    if key in settings.SETTINGS:
        return "does not belong into a table; move it above the first line in brackets"
    near = difflib.get_close_matches(key, [*known, *_TABLES], n=1)
    return f"unknown; did you mean {near[0]}?" if near else "unknown; remove it"


def _given_twice(text: str) -> tuple[str, int, int] | None:
    """The first key that stands twice in one table, and where; tomllib does not say."""
    seen: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE_HEADER.match(line):
            table = f"{header[1]}."
        elif match := _KEY.match(line):
            key = table + match[1].strip("\"'")
            if key in seen:
                return key, seen[key], number
            seen[key] = number
    return None
