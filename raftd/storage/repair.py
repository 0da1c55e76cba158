"""What can be done about a damaged directory without making it worse: first a plan, then the work.

Three things may be taken away, in this order of preference:

* a last write that a crash broke off: it was never acknowledged (the next start does that, too);
* segments, or a snapshot, that are damaged and hold nothing that is not elsewhere in the
  directory: the snapshot covers those segments, or the log has all that the snapshot replaced;
* the log from the damage on. Those entries may have been acknowledged, and a node that votes
  without them may take part in losing them for everybody: `Plan.lost` says which, and it is for
  people to decide. Such a directory is no member's any more, which its `node-id` says: it is for
  `raftd recover` only.

Nothing else is ever taken away: without term and vote, or its id, a node cannot keep its promises.
A plan is offered only if the directory would then load, which is tried on an `Overlay`. Whatever is
taken away is kept, with its name, in a directory beside the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from raftd.storage import snapshots
from raftd.storage.errors import (
    DirectoryDamaged,
    DirectoryMismatch,
    StorageError,
    storage_errors,
)
from raftd.storage.files import naming
from raftd.storage.overlay import Overlay
from raftd.storage.segment import SECTOR
from raftd.storage.stopped import Loaded, Stopped
from raftd.storage.survey import SegmentFound, Survey, survey

STATE = "state"
_PIECE = 1 << 20


class Irreparable(StorageError):
    """Nothing that may be taken away makes this directory whole."""

    def __init__(self, path: Path, fault: StorageError) -> None:
        super().__init__(
            f"{path} cannot be repaired. {fault}"
            " If no majority is left either, see `raftd restore` and `raftd recover`."
        )


class Cut(msgspec.Struct, frozen=True):
    """The file, from `offset` on, becomes zeros."""

    path: Path
    offset: int
    why: str


class SetAside(msgspec.Struct, frozen=True):
    """The file, or directory, is moved away."""

    path: Path
    why: str


class Plan(msgspec.Struct, frozen=True):
    """`lost`: first and last entry that would be missing and may have been acknowledged; None:
    there is none. `last_index`: where the log ends afterwards."""

    node: str
    steps: tuple[Cut | SetAside, ...]
    lost: tuple[int, int] | None
    last_index: int

    @property
    def digest(self) -> str:
        """Stands for this very plan; to be typed back by who wants it done."""
        return digest(self)


def digest(plan: msgspec.Struct) -> str:
    """12 hexadecimal digits of the SHA-256 of a plan."""
    text = msgspec.json.encode(plan, enc_hook=str)
    return hashlib.sha256(text).hexdigest()[:12]


def make_plan(stopped: Stopped) -> Plan:
    """What could be done; a plan without steps if nothing needs to.

    Irreparable, DirectoryMismatch, StorageFailed. Changes nothing.
    """
    try:
        loaded = stopped.load()
    except DirectoryDamaged as error:
        with storage_errors("read", stopped.path):
            found = survey(stopped.files, stopped.directory)
            for attempt in _attempts(stopped, found, error):
                if (plan := attempt.plan(stopped, found, error.last_index or 0)) is not None:
                    return plan
        raise Irreparable(stopped.path, error) from error
    return Plan(loaded.document.identity.name, _torn(loaded), None, loaded.last_index)


class _Attempt(msgspec.Struct):
    """Damaged snapshots go, the first segments up to `first`, and from `cut` on the rest."""

    first: int
    cut: Cut | None
    rest: int

    def plan(self, stopped: Stopped, found: Survey, missed: int) -> Plan | None:
        """None if it does not help, or would lose entries and say that it does not."""
        steps: list[Cut | SetAside] = []
        for bad in found.snapshots:
            if bad.fault is not None:
                why = "its bytes are damaged, and the log has all that it replaced"
                for suffix in ("meta", "snap"):
                    path = stopped.directory.snapshots
                    path /= snapshots.file_name(bad.index, bad.term, suffix)
                    if stopped.files.size(path) is not None:
                        steps.append(SetAside(path, why))
        why = "the snapshot has all its entries"
        steps += [SetAside(each.path, why) for each in found.segments[: self.first]]
        why = "it follows what is damaged"
        steps += [SetAside(each.path, why) for each in found.segments[self.rest :]]
        if self.cut is not None:
            steps.append(self.cut)
        loses = self.cut is not None or self.rest < len(found.segments)
        hidden = {step.path for step in steps if isinstance(step, SetAside)}
        cut = {self.cut.path: self.cut.offset} if self.cut is not None else {}
        try:
            loaded = stopped.load(Overlay(stopped.files, hidden, cut), any_end=loses)
        except (DirectoryDamaged, DirectoryMismatch):
            return None
        last_known = max(_last_known(found), missed)
        if not loses and loaded.last_index < last_known:
            return None
        lost = None
        if loses:
            steps.append(SetAside(stopped.path / STATE, "it may contain what the log has lost"))
            lost = loaded.last_index + 1, max(last_known, loaded.last_index + 1)
        return Plan(loaded.document.identity.name, tuple(steps), lost, loaded.last_index)


def _attempts(stopped: Stopped, found: Survey, error: DirectoryDamaged) -> Iterator[_Attempt]:
    """What might help, the harmless first."""
    segments = found.segments
    if not segments:
        return
    whole = len(segments)
    covered = max((each.index for each in found.snapshots if each.fault is None), default=0)
    firsts = [0]
    firsts += [
        number
        for number in range(1, whole)
        if segments[number].header is not None and (segments[number].first_index <= covered + 1)
    ]
    for first in firsts:
        yield _Attempt(first, None, whole)
    closed = found.document.closed if found.document is not None else None
    if closed is not None and not any(each.fault for each in segments):
        yield _Attempt(0, Cut(segments[-1].path, segments[-1].end, "the log ends here"), whole)
    for first in firsts:
        number = _first_bad(segments, first, error)
        bad = segments[number]
        if bad.fault is None:
            yield _Attempt(first, Cut(bad.path, *_end(bad)), number + 1)
        if bad.header is not None and bad.end > SECTOR and bad.fault is not None:
            yield _Attempt(first, Cut(bad.path, bad.end, bad.fault.reason), number + 1)
        elif number > first:
            before = segments[number - 1]
            yield _Attempt(first, Cut(before.path, *_end(before)), number)


def _end(segment: SegmentFound) -> tuple[int, str]:
    """Where its entries end, the seal left out."""
    end = segment.last_frame if segment.sealed else segment.end
    return end, "the log does not go on behind this place"


def _first_bad(segments: tuple[SegmentFound, ...], first: int, error: DirectoryDamaged) -> int:
    """The first segment that is not whole, or does not follow the one before it."""
    for number in range(first, len(segments)):
        each, before = segments[number], segments[number - 1] if number > first else None
        if each.fault is not None or error.file == each.path:
            return number
        if before is None or before.header is None or each.header is None:
            continue
        if each.header.sequence != before.header.sequence + 1:
            return number
    return len(segments) - 1


def _last_known(found: Survey) -> int:
    """The last entry that anything in the directory speaks of."""
    closed = found.document.closed if found.document is not None else None
    last = [each.last_index for each in found.segments] + [each.index for each in found.snapshots]
    last += [
        each.fault.last_index or 0
        for each in found.segments
        if isinstance(each.fault, DirectoryDamaged)
    ]
    return max([0 if closed is None else closed.last_index, *last])


def _torn(loaded: Loaded) -> tuple[Cut, ...]:
    if not loaded.recovery.torn:
        return ()
    last = loaded.recovery.segments[-1]
    why = "a crash broke this write off, so it was never acknowledged"
    return (Cut(last.path, last.used, why),)


def carry_out(stopped: Stopped, plan: Plan, aside: Path) -> None:
    """Do what the plan says; what is taken away goes to the new directory `aside`.

    Copies are durable before anything is changed. A crash leaves a directory that is still
    damaged, for which a new plan can be made, or one that is whole. DiskFull, StorageFailed.
    """
    files = stopped.files
    with storage_errors("write", aside, full_passes=True):
        files.mkdir(aside)
        for step in plan.steps:
            if isinstance(step, Cut):
                _copy(stopped, step, aside / f"{step.path.name}.from-byte-{step.offset}")
        files.fsync_dir(aside)
        files.fsync_dir(stopped.path)
    with storage_errors("write", stopped.path):
        document = stopped.directory.load(None)
        assert document is not None
        if plan.lost is not None:
            stopped.directory.store(
                msgspec.structs.replace(document, closed=None, lost=plan.lost, format=2)
            )
        for step in plan.steps:
            if isinstance(step, SetAside) and files.size(step.path) is not None:
                files.rename(step.path, aside / step.path.name)
                files.fsync_dir(step.path.parent)
        files.fsync_dir(aside)
        for step in plan.steps:
            if isinstance(step, Cut):
                _zero(stopped, step)


def _copy(stopped: Stopped, cut: Cut, to: Path) -> None:
    files = stopped.files
    source, target = files.open(cut.path), files.create(to)
    try:
        with naming(to):
            done = 0
            while piece := files.read_all(source, _PIECE, cut.offset + done):
                files.write_all(target, piece, done)
                done += len(piece)
            files.fsync(target)
    finally:
        files.close(source)
        files.close(target)


def _zero(stopped: Stopped, cut: Cut) -> None:
    files = stopped.files
    size = files.size(cut.path) or 0
    handle = files.open(cut.path)
    try:
        with naming(cut.path):
            files.write_zeros(handle, max(0, size - cut.offset), cut.offset)
            files.fsync(handle)
    finally:
        files.close(handle)
