"""Log levels and the form of log lines. One way in: `configure`, at the start and at every SIGHUP.

A spec is a level ("info"), levels of modules ("raft=debug,storage=warning"), or both
("warning,raft=debug"); what is not named logs at info. Lines go to stderr, one for each record:
time, level, module, sentence. Under systemd they go to its journal with fields of their own
(raftd.journal), or, where it takes none, to stderr with a priority in front (sd-daemon(3)).
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
from collections.abc import Mapping

from raftd.journal import CRITICAL, PRIORITIES, Journal

MODULES = ("raft", "storage", "transport", "admin", "kv", "driver", "server")
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
VARIABLE = "RAFTD_LOG"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class LogSpecError(ValueError):
    """The spec makes no sense; the message says what is wrong and what to write."""


def parse(spec: str) -> dict[str, int]:
    """The level of each module of MODULES, and of all others under "". Raises LogSpecError."""
    default: int | None = None
    levels: dict[str, int] = {}
    for part in spec.split(","):
        module, separator, level = (text.strip() for text in part.rpartition("="))
        if not separator and default is not None:
            raise LogSpecError(f"{spec!r} has two general levels; write one, and module=level")
        if not separator:
            default = _level(level)
        elif module in levels:
            raise LogSpecError(f"{spec!r} names {module} twice; write it once")
        else:
            levels[_module(module)] = _level(level)
    general = logging.INFO if default is None else default
    return {"": general} | {module: levels.get(module, general) for module in MODULES}


def configure(spec: str, environment: Mapping[str, str] = os.environ, *, node: str = "") -> None:
    """Set all levels, and on the first call the form of the lines. Raises LogSpecError.

    The variable RAFTD_LOG, when set and not empty, stands in for `spec`. `node` is the name of the
    node, for the journal.
    """
    override = environment.get(VARIABLE, "")
    try:
        levels = parse(override or spec)
    except LogSpecError as error:
        raise LogSpecError(f"{VARIABLE}: {error}") if override else error from None
    top = logging.getLogger("raftd")
    if not any(isinstance(handler, _Lines) for handler in top.handlers):
        top.addHandler(_Lines(Journal(node) if _goes_to_journal(environment) else None))
        top.propagate = False
    top.setLevel(levels.pop(""))
    for module, level in levels.items():
        logging.getLogger(f"raftd.{module}").setLevel(level)


def priority(level: int, environment: Mapping[str, str] = os.environ) -> str:
    """What has to stand before a plain line on stderr, so that the journal knows its level
    (sd-daemon(3)); nothing, if stderr is not the journal."""
    return f"<{PRIORITIES[level]}>" if _goes_to_journal(environment) else ""


def _level(word: str) -> int:
    try:
        return LEVELS[word.lower()]
    except KeyError:
        raise LogSpecError(f"{word!r} is no log level; write one of {', '.join(LEVELS)}") from None


def _module(word: str) -> str:
    if word in MODULES:
        return word
    near = difflib.get_close_matches(word, MODULES, n=1)
    raise LogSpecError(
        f"{word!r} is no module; did you mean {near[0]}?"
        if near
        else f"{word!r} is no module; write one of {', '.join(MODULES)}"
    )


def _goes_to_journal(environment: Mapping[str, str]) -> bool:
    """Whether stderr is the journal: JOURNAL_STREAM has its device:inode (systemd.exec(5))."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _Lines(logging.StreamHandler):  # type: ignore[type-arg]
    """To the journal if there is one, else to whatever sys.stderr is at the time. A line that
    cannot be written is dropped."""

    def __init__(self, journal: Journal | None) -> None:
        super().__init__(sys.stderr)
        self._journal = journal
        self.setFormatter(_OneLine(journal is not None))

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        if self._journal is not None and self._journal.send(record, _message(record)):
            return
        self.stream = sys.stderr
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Nobody reads stderr any more: that is no reason to stop a node, nor to say so there."""


class _OneLine(logging.Formatter):
    """One record, one line; a traceback follows in lines of its own with the same head."""

    default_msec_format = "%s.%03d"

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        module = record.name.removeprefix("raftd.")
        if self._journal:
            head = f"<{PRIORITIES.get(record.levelno, CRITICAL)}>{module}: "
        else:
            head = f"{self.formatTime(record)} {record.levelname.lower():7} {module}: "
        return "\n".join(head + line for line in _sentences(record))


def _message(record: logging.LogRecord) -> str:
    """For the journal, which knows level and time, and where a record begins."""
    return f"{record.name.removeprefix('raftd.')}: " + "\n".join(_sentences(record))


def _sentences(record: logging.LogRecord) -> list[str]:
    """What the record says, then the traceback if it has one; only printable characters."""
    lines = [record.getMessage()]
    if record.exc_info:
        lines += logging.Formatter().formatException(record.exc_info).splitlines()
    return [_UNPRINTABLE.sub(_escape, line) for line in lines]


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()
