"""A snapshot from the daemon into a file (raftd.backup), with a progress bar."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from raftctl import encoding, units
from raftctl.failure import Failure
from raftctl.session import Session
from raftd import backup
from raftd.admin.protocol import SNAPSHOTS
from raftd.backup import Backup, NoBackup

_WIDTH = 30


def fetch(session: Session, path: Path, at: int | None) -> Backup:
    """The newest snapshot, or the state behind entry `at`. Failure: there is no file then."""
    parameters = {} if at is None else {"at": at}
    replies = session.stream(f"{SNAPSHOTS}.Fetch", parameters)
    try:
        about = Backup(**next(replies)["snapshot"])
        bar = Bar(about.size)
        writer = backup.Writer(path)
        try:
            for reply in replies:
                writer.write(encoding.from_wire(reply["data"]))
                bar.show(writer.size)
            writer.finish(about)
        finally:
            writer.abandon()
    except (KeyError, TypeError, StopIteration):
        raise Failure("the daemon's answer makes no sense: a piece is missing") from None
    except NoBackup as error:
        raise Failure(f"the snapshot did not come as a whole: {error}; try again") from None
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from None
    return about


class Bar:
    """How far something is, on standard error if that is a terminal. `whole` in bytes."""

    def __init__(self, whole: int) -> None:
        self._whole = max(1, whole)
        self._begun = self._shown = time.monotonic()
        self._on = sys.stderr is not None and sys.stderr.isatty()

    def show(self, done: int) -> None:
        now = time.monotonic()
        ended = done >= self._whole
        if not self._on or (now - self._shown < 0.1 and not ended):
            return
        self._shown = now
        filled = "#" * min(_WIDTH, done * _WIDTH // self._whole)
        rate = done / max(now - self._begun, 0.001)
        left = units.duration(int((self._whole - done) / max(rate, 1) * 1000))
        text = f"[{filled:{_WIDTH}}] {units.size(done)}, {units.size(int(rate))}/s, {left} left"
        print(f"\r{text:79}", end="\r\x1b[K" if ended else "", file=sys.stderr, flush=True)


def rows(about: Backup) -> list[tuple[str, Any]]:
    """What a backup says, for people."""
    members = ", ".join(f"{name} at {url}" for name, url in sorted(about.members.items()))
    return [
        ("Entries", f"up to {about.last_included_index} of term {about.last_included_term}"),
        ("Cluster", about.cluster_id),
        ("Members", members),
        (
            "Made",
            f"{units.moment(about.time_ms, zone=True)} by {about.node}, raftd {about.version}",
        ),
        ("Size", units.size(about.size)),
        ("SHA-256", about.sha256),
    ]
