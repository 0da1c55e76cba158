"""The systemd journal: log records with fields of their own, and the kinds of events.

`fields` goes into a log call as `extra`, whatever becomes of the record; `Journal.send` carries it
to the journal in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram of
"KEY=value" lines, or KEY, a 64-bit little-endian length, and a value with line ends in it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

import msgspec

SOCKET = "/run/systemd/journal/socket"
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
CRITICAL = 2
MESSAGE_IDS = {
    "node-started": "e886ab212f55471981ab0e281ee7b766",
    "node-stopped": "f9d54f09a6d94ed384bef38d6856f072",
    "leader-changed": "9257a00d59d24c7394a2e19f11033039",
    "quorum-lost": "feb695d25cd04e9ba0388102a520a211",
    "member-changed": "e09ef236b46043d7bfc708d038391e77",
    "peer-refused": "13de3f708e6b422d8dd4306a9323a8c2",
    "disk-slow": "fb1c04bed7494be792411c0896beb355",
    "disk-full": "5aec423bc24b464fbb9af68205bb3bf9",
    "disk-recovered": "caed8a38fce84ff68bc83246048ba6a7",
    "disk-failed": "6d7a10e756ae493983e302bdf538b6bf",
    "damage-found": "d97fe503ec254548a167aa8c6762f96a",
}
"""Kinds of events. An id never changes its meaning; packaging/raftd.catalog explains each."""


class Fields(msgspec.Struct, frozen=True):
    """What a record speaks of, besides its words."""

    event: str = ""
    """one of MESSAGE_IDS"""
    term: int | None = None
    index: int | None = None
    peer: str = ""


def fields(
    event: str = "", *, term: int | None = None, index: int | None = None, peer: str = ""
) -> dict[str, object]:
    """For `extra=` of a log call."""
    assert not event or event in MESSAGE_IDS, event
    return {"raftd": Fields(event, term, index, peer)}


class Journal:
    """The way to journald from the node `node`."""

    def __init__(self, node: str, path: str = "") -> None:
        self._node = node
        self._path = path or SOCKET
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def close(self) -> None:
        self._socket.close()

    def send(self, record: logging.LogRecord, message: str) -> bool:
        """Whether the journal has it: not if there is none, or the record is too large for it."""
        try:
            self._socket.sendto(_datagram(self._entry(record, message)), self._path)
        except OSError:
            return False
        return True

    def _entry(self, record: logging.LogRecord, message: str) -> Mapping[str, object]:
        given = getattr(record, "raftd", None) or Fields()
        entry = {
            "MESSAGE": message,
            "PRIORITY": PRIORITIES.get(record.levelno, CRITICAL),
            "SYSLOG_IDENTIFIER": "raftd",
            "MESSAGE_ID": MESSAGE_IDS.get(given.event),
            "RAFTD_NODE": self._node,
            "RAFTD_MODULE": record.name.removeprefix("raftd."),
            "RAFTD_TERM": given.term,
            "RAFTD_INDEX": given.index,
            "RAFTD_PEER": given.peer or None,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName,
        }
        return {key: value for key, value in entry.items() if value is not None}


def _datagram(entry: Mapping[str, object]) -> bytes:
    lines = []
    for key, value in entry.items():
        text = str(value).encode(errors="backslashreplace")
        if b"\n" in text:
            lines.append(key.encode() + b"\n" + len(text).to_bytes(8, "little") + text + b"\n")
        else:
            lines.append(key.encode() + b"=" + text + b"\n")
    return b"".join(lines)
