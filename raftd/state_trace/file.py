"""The file that one node's state trace goes to: DIRECTORY/NAME.ndjson, longer with each life."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import msgspec

from raftd.state_trace.events import Event, State, line

log = logging.getLogger("raftd.server")

VARIABLE = "RAFTD_STATE_TRACE"
"""Environment: a directory; when set and not empty, it stands in for the setting."""
_LOOK_BACK_BYTES = 1 << 20


class CannotTrace(Exception):
    """The file cannot be written; the message says which, and why."""


class _Line(msgspec.Struct):
    event: Event


class TraceFile:
    """A `Sink`. What cannot be written any more ends the trace, with a warning, not the node."""

    def __init__(self, directory: Path, name: str) -> None:
        """Raises CannotTrace."""
        self._path = directory / f"{name}.ndjson"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._durable = _last_ready(self._path)
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise CannotTrace(
                f"state_trace: cannot write {self._path} ({error.strerror}); name a directory that"
                " the node may write to, or none"
            ) from error
        self._time = 0
        self._failed = False

    def write(self, event: Event) -> None:
        if self._failed:
            return
        self._time = max(self._time + 1, time.time_ns())
        data = line(event, self._time)
        try:
            complete = self._file.write(data) == len(data)
        except OSError as error:
            self._end(os.strerror(error.errno or 0))
        else:
            if not complete:
                self._end("no space")

    def durable(self, node: str) -> State | None:
        return self._durable

    def close(self) -> None:
        self._file.close()

    def _end(self, why: str) -> None:
        self._failed = True
        log.warning("the state trace %s ends here: %s", self._path, why)


def _last_ready(path: Path) -> State | None:
    """The state in the newest Ready of the file, if there is one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOOK_BACK_BYTES))
            lines = file.read(_LOOK_BACK_BYTES).splitlines()
    except FileNotFoundError:
        return None
    decoder = msgspec.json.Decoder(_Line)
    for each in reversed(lines):
        try:
            event = decoder.decode(each).event
        except msgspec.DecodeError:
            continue  # cut off when the process was killed
        if event.name == "Ready":
            return event.state
    return None
