"""`raftd inspect DIR`: what is in a stopped node's data directory, checked to the last byte."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import click
import msgspec

from raftd import record, state_hash
from raftd.cli import offline
from raftd.kv import describe
from raftd.raft.log import Entry, EntryType
from raftd.state_machine import decode_command
from raftd.storage.disk import DirectoryDamaged, DirectoryMismatch
from raftd.storage.stopped import Loaded, Stopped
from raftd.storage.survey import SegmentFound, Survey, entries_in, survey

DIRECTORY = click.argument(
    "directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False)
)


@click.command("inspect", short_help="Check a stopped node's data directory.")
@DIRECTORY
@click.option(
    "--entries",
    "wanted",
    metavar="FIRST[-LAST]",
    help="Show these entries of the log, decoded; also from a damaged directory.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def inspect(directory: Path, wanted: str | None, as_json: bool) -> None:
    """Read all of a stopped node's data directory DIR and check every checksum.

    Nothing is changed. Exit status 0: the node starts with it; 4: it is damaged, and how, or no
    data directory; 3: a daemon uses it; 2: there is no such directory, or no such entry.
    """
    asked = _range(wanted) if wanted is not None else None
    with offline.exit_statuses(), offline.open_stopped(directory) as stopped:
        found = survey(stopped.files, stopped.directory)
        loaded, fault = None, None
        try:
            loaded = stopped.load()
        except (DirectoryDamaged, DirectoryMismatch) as error:
            fault = error
        if as_json:
            click.echo(_json(found, loaded, fault))
        elif asked is not None:
            _show_entries(stopped, found, loaded, *asked)
        else:
            _show(stopped, found, loaded)
        if fault is not None:
            offline.fail(str(fault), offline.DAMAGED)


def _show(stopped: Stopped, found: Survey, loaded: Loaded | None) -> None:
    pairs = [("Directory", str(stopped.path)), *_identity_rows(found)]
    if loaded is not None:
        pairs += _log_rows(stopped, loaded)
    for each in found.snapshots:
        size = f"{each.metadata.size} bytes" if each.metadata is not None else "damaged"
        pairs.append(("Snapshot", f"up to entry {each.index} of term {each.term}, {size}"))
    pairs += [("Left over", str(path)) for path in found.leftovers]
    offline.rows(pairs)
    if found.segments:
        click.echo()
        offline.table(
            ("SEGMENT", " ENTRIES", " TERM", " USED", " SIZE", "STATE"),
            [_segment_row(each) for each in found.segments],
        )
    for fault in found.faults:
        click.echo(f"\ndamaged: {offline.clean(str(fault))}")
    if loaded is not None:
        click.echo()
        for note in loaded.recovery.notes:
            click.echo(f"The next start: {offline.clean(note)}.")
        click.echo("Whole: every checksum agrees, and the node can start with it.")


def _identity_rows(found: Survey) -> list[tuple[str, str]]:
    pairs = []
    if found.document is not None:
        identity = found.document.identity
        closed = found.document.closed
        end = "not closed in order"
        if closed is not None:
            end = f"closed in order at entry {closed.last_index}"
        pairs += [
            ("Node", f"{identity.name}, life {identity.life}, {end}"),
            ("Cluster", identity.cluster_id.hex()),
        ]
    if found.hard_state is not None:
        vote = found.hard_state.voted_for
        text = f"{found.hard_state.current_term}, {f'voted for {vote}' if vote else 'no vote'}"
        if found.one_slot_only:
            text += " (one of its two copies is not valid)"
        pairs.append(("Term", text))
    return pairs


def _log_rows(stopped: Stopped, loaded: Loaded) -> list[tuple[str, str]]:
    members = loaded.snapshot.configuration
    if loaded.recovery.log.configurations and loaded.recovery.restart_at is None:
        members = loaded.recovery.log.configurations[-1][1]
    pairs = [("Members", ", ".join(f"{n} at {members.addresses.get(n)}" for n in members.members))]
    if loaded.first_index > loaded.last_index:
        return [*pairs, ("Log", f"empty, goes on at entry {loaded.first_index}")]
    with stopped.log(loaded) as log:
        last = log.read(loaded.last_index, loaded.last_index, 1)[0]
    return [
        *pairs,
        ("Log", f"entries {loaded.first_index} to {loaded.last_index}"),
        ("Last entry", f"of term {last.term}, {offline.moment(record.time_ms(last))}"),
    ]


def _segment_row(each: SegmentFound) -> list[str]:
    some = each.first_index <= each.last_index
    return [
        each.path.name,
        f"{each.first_index}-{each.last_index}" if some else "-",
        str(each.last_term) if some else "-",
        str(each.end),
        str(each.size),
        each.state if not each.torn else f"a torn write of {each.torn} bytes at its end",
    ]


def _show_entries(
    stopped: Stopped, found: Survey, loaded: Loaded | None, first: int, last: int
) -> None:
    """In the order of the files: an entry that was superseded stands before what replaced it.
    Ends the process if there is none, and the directory is whole."""
    lines = [
        entry_row(entry)
        for segment in found.segments
        for entry in entries_in(stopped.files, segment)
        if first <= entry.index <= last
    ]
    if not lines and loaded is not None:
        which = f"entry {first}" if first == last else f"entries {first} to {last}"
        has = f"has entries {loaded.first_index} to {loaded.last_index}"
        if loaded.first_index > loaded.last_index:
            has = "is empty"
        offline.fail(f"no {which}: the log {has}", offline.USAGE)
    offline.table((" INDEX", " TERM", "TIME", "KIND", "WHO", "WHAT"), lines)


def entry_row(entry: Entry) -> list[str]:
    """One entry for people: index, term, time, kind, who, what."""
    who, what = "-", "a new leader begins its term"
    if entry.type is EntryType.COMMAND:
        try:
            command = decode_command(record.payload(entry))
        except (msgspec.DecodeError, RecursionError):
            what = "(not a command this version knows)"
        else:
            who, what = f"{_user(command.uid)}@{command.node}", describe.describe(command.body)
    elif entry.configuration is not None:
        what = "members " + ", ".join(entry.configuration.members)
    elif entry.type is not EntryType.NO_OP:
        what = state_hash.describe(entry)
    kind = entry.type.name.lower().replace("_", "-")
    time = offline.moment(record.time_ms(entry)).partition(",")[0]
    return [str(entry.index), str(entry.term), time, kind, who, what]


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last.isdecimal() or "-" not in text) or len(text) > 40:
        raise click.BadParameter(f"{text!r} is not like 7 or 7-12.", param_hint="--entries")
    if int(last or first) < int(first):
        raise click.BadParameter(f"{text!r} ends before it begins.", param_hint="--entries")
    return int(first), int(last or first)


def _user(uid: int) -> str:
    """By name where this host knows it, as raftctl has it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _json(found: Survey, loaded: Loaded | None, fault: Exception | None) -> str:
    document = found.document
    value: dict[str, Any] = {
        "whole": loaded is not None,
        "fault": None if fault is None else str(fault),
        "node": document.identity.name if document else None,
        "cluster_id": document.identity.cluster_id.hex() if document else None,
        "term": found.hard_state.current_term if found.hard_state else None,
        "voted_for": found.hard_state.voted_for if found.hard_state else None,
        "first_index": loaded.first_index if loaded else None,
        "last_index": loaded.last_index if loaded else None,
        "last_term": loaded.last_term if loaded else None,
        "notes": loaded.recovery.notes if loaded else [],
        "faults": [str(each) for each in found.faults],
        "segments": [
            {
                "file": each.path.name,
                "first_index": each.first_index,
                "last_index": each.last_index,
                "used_bytes": each.end,
                "size_bytes": each.size,
                "state": each.state,
            }
            for each in found.segments
        ],
        "snapshots": [
            {"index": each.index, "term": each.term, "whole": each.fault is None}
            for each in found.snapshots
        ],
    }
    return msgspec.json.encode(value).decode()
