"""How a call that was not done becomes one sentence for a person and one exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftctl.exit_codes import ExitCode
from raftctl.text import cut, readable
from raftd import __version__
from raftd.admin import protocol


class Failure(Exception):
    """raftctl ends with `code`, and the sentence on standard error."""

    def __init__(self, sentence: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(sentence)
        self.code = code


class ReaderGone(Exception):
    """Whoever read standard output has closed it."""


def of_admin_error(error: protocol.AdminError, *, changes: bool) -> Failure:
    """`changes`: the call was one that changes something, so that its end matters."""
    unknown = "; it may still be done: look before you try again" if changes else ""
    match error:
        case protocol.NotPermitted():
            return Failure(str(error), ExitCode.NOT_PERMITTED)
        case protocol.TimedOut():
            return Failure(f"{error}{unknown}", ExitCode.NO_QUORUM)
        case protocol.Disconnected() if changes:
            return Failure(f"{error}{unknown}", ExitCode.NO_QUORUM)
        case protocol.NoDaemon():
            return Failure(str(error), ExitCode.NO_DAEMON)
    return Failure(f"the daemon's answer makes no sense: {error}{unknown}")


def of_call_error(error: protocol.CallError, method: str) -> Failure:
    sentence, code = _SENTENCES.get(error.name, (_unexpected, ExitCode.FAILED))
    return Failure(sentence(_Parameters(error, method)), code)


class _Parameters:
    """What an error says, by name; a question mark where it says nothing."""

    def __init__(self, error: protocol.CallError, method: str) -> None:
        self.error = error
        self.method = method

    def __getitem__(self, name: str) -> Any:
        return self.error.parameters.get(name, "?")

    def bytes_of(self, name: str) -> str:
        """A value in base64, quoted for people and not too long."""
        from binascii import Error, a2b_base64  # noqa: PLC0415 - rarely needed

        try:
            data = a2b_base64(self[name], strict_mode=True)
        except (Error, TypeError, ValueError):
            return "?"
        return '"' + cut(readable(data), 60, "...") + '"'


def _compare_failed(p: _Parameters) -> str:
    if not p.error.parameters.get("revision"):
        return "compare failed: the key does not exist"
    value = "" if p.error.parameters.get("value") is None else f" and value {p.bytes_of('value')}"
    return f"compare failed: the key has revision {p['revision']}{value}"


def _no_such_entry(p: _Parameters) -> str:
    try:
        empty = p["last_index"] < p["first_index"]
    except TypeError:
        empty = False
    has = "is empty" if empty else f"has {p['first_index']} to {p['last_index']}"
    return f"no entry {p['index']}: this node's log {has}"


def _unexpected(p: _Parameters) -> str:
    return f"the daemon answered {p.error}"


def _not_known(p: _Parameters) -> str:
    return f"the daemon does not know {p.method}: is it older than this raftctl ({__version__})?"


def _no_such_state(p: _Parameters) -> str:
    return (
        f"no state behind entry {p['index']}: snapshot and log of this node reach"
        f" {p['first_index']} to {p['last_index']}"
    )


_NODE, _KV, _SNAPSHOTS = protocol.NODE, protocol.KV, protocol.SNAPSHOTS
_SENTENCES: dict[str, tuple[Callable[[_Parameters], str], ExitCode]] = {
    f"{_KV}.NotFound": (lambda p: f"no such key: {p.bytes_of('key')}", ExitCode.NOT_FOUND),
    f"{_KV}.CompareFailed": (_compare_failed, ExitCode.COMPARE_FAILED),
    f"{_KV}.NoQuorum": (lambda p: f"no quorum: {p['reason']}", ExitCode.NO_QUORUM),
    f"{_NODE}.NoQuorum": (lambda p: f"no quorum: {p['reason']}", ExitCode.NO_QUORUM),
    f"{_KV}.OutcomeUnknown": (
        lambda p: (
            f"outcome unknown: {p['reason']}; it may still be done: look, or try again "
            "if doing it twice is harmless"
        ),
        ExitCode.NO_QUORUM,
    ),
    f"{_KV}.Busy": (
        lambda p: f"busy: {p['reason']}; nothing was done: try again a little later",
        ExitCode.NO_QUORUM,
    ),
    f"{_KV}.TooLarge": (
        lambda p: f"too large: {p['size']} bytes, the limit is {p['limit']}",
        ExitCode.FAILED,
    ),
    f"{_KV}.Invalid": (lambda p: str(p["reason"]), ExitCode.USAGE),
    f"{_NODE}.Invalid": (lambda p: str(p["reason"]), ExitCode.USAGE),
    f"{_KV}.Refused": (lambda p: f"refused: {p['reason']}", ExitCode.REFUSED),
    f"{_NODE}.Refused": (lambda p: f"refused: {p['reason']}", ExitCode.REFUSED),
    f"{_NODE}.NoSuchEntry": (_no_such_entry, ExitCode.NOT_FOUND),
    f"{_NODE}.NoSuchMember": (lambda p: f'no member is called "{p["name"]}"', ExitCode.NOT_FOUND),
    f"{_SNAPSHOTS}.Refused": (lambda p: f"refused: {p['reason']}", ExitCode.REFUSED),
    f"{_SNAPSHOTS}.NoSuchState": (_no_such_state, ExitCode.NOT_FOUND),
    protocol.PROTOCOL_ERROR: (
        lambda p: f"the daemon did not take the call: {p['reason']}",
        ExitCode.FAILED,
    ),
    protocol.TOO_MANY_CONNECTIONS: (
        lambda p: f"busy: the daemon has all the connections it may have ({p['limit']})",
        ExitCode.NO_QUORUM,
    ),
    protocol.PERMISSION_DENIED: (
        lambda p: f"not permitted: {p.method} is for root and the daemon's own user",
        ExitCode.NOT_PERMITTED,
    ),
    protocol.INVALID_PARAMETER: (
        lambda p: f"the daemon does not accept {p['parameter']} of {p.method}",
        ExitCode.USAGE,
    ),
    protocol.METHOD_NOT_FOUND: (_not_known, ExitCode.FAILED),
    protocol.METHOD_NOT_IMPLEMENTED: (_not_known, ExitCode.FAILED),
    protocol.INTERFACE_NOT_FOUND: (_not_known, ExitCode.FAILED),
}
