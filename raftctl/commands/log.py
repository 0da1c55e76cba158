"""`raftctl log`: the entries of this node's log, and the files they are in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import click

from raftctl import encoding, log_view
from raftctl.exit_codes import ExitCode
from raftctl.failure import Failure
from raftctl.live_log import LiveLog
from raftctl.log_view import EntryLines
from raftctl.options import Group, pass_session
from raftctl.printer import Printer
from raftctl.session import Session
from raftd.admin.protocol import NODE

if TYPE_CHECKING:
    from raftctl.answers import Entry, LogInfo

_PAGE = 500
_DEFAULT_COUNT = 10
_SHOWN_BYTES = 4096
_EXAMPLES = """
raftctl log tail -n 20
raftctl log tail -f
raftctl log show 42
raftctl log info
"""


@click.group(cls=Group, examples=_EXAMPLES)
def log() -> None:
    """Look into this node's log."""


@log.command(
    examples="""
    raftctl log tail -n 100 | less
    raftctl log tail -f --from 1
    raftctl log tail -f -o json | jq -c 'select(.kind == "configuration")'
    """
)
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="N", help="Show N entries (10).")
@click.option("-f", "--follow", is_flag=True, help="Go on as the log does, until Ctrl-C.")
@click.option(
    "--from",
    "first",
    type=click.IntRange(min=1),
    metavar="INDEX",
    help="Start at INDEX; shows all from there without -n.",
)
@pass_session
def tail(session: Session, lines: int | None, follow: bool, first: int | None) -> int:
    """Show the newest entries, oldest first.

    STATE is uncommitted (in this log), committed (a majority has it), applied (the state
    machine has it, too) or truncated (struck out: a new leader has replaced it). With -f on
    a terminal it changes where it stands; elsewhere each change is a line of its own, and an
    entry comes again. WHO is the user who asked and the node that was asked. -o json prints one
    object a line.
    """
    if follow and first is not None and lines is not None:
        raise click.UsageError("-f goes on from INDEX for ever: leave out -n or --from.")
    sink = _sink(session, redraw=follow)
    if not follow:
        for entries in _pages(session, lines, first):
            sink.show(entries)
        return ExitCode.OK
    with suppress(KeyboardInterrupt):  # how it is meant to end
        _follow(session, sink, lines, first)
    return ExitCode.OK


@log.command(examples="raftctl log show 42")
@click.argument("index", type=click.IntRange(min=1))
@click.option("--full", is_flag=True, help=f"Show more than {_SHOWN_BYTES} bytes of payload.")
@pass_session
def show(session: Session, index: int, full: bool) -> None:
    """Show one entry at length.

    All its fields, and its payload as text or as a hex dump. Ends with 5 if this node's log has
    no such entry (any more).
    """
    answer = session.call(f"{NODE}.GetLogEntry", {"index": index})
    printer = session.printer
    if session.json:
        printer.json(answer["entry"] | {"payload_base64": answer["payload"]})
        return
    payload = encoding.from_wire(answer["payload"])
    entry: Entry = answer["entry"]
    printer.lines(log_view.entry_at_length(entry, payload, printer.columns, printer.paint))
    shown = payload if full else payload[:_SHOWN_BYTES]
    if shown:
        printer.text("\n")
        printer.lines(log_view.dump(shown))
    if len(shown) < len(payload):
        printer.lines([f"... and {len(payload) - len(shown)} bytes more: --full shows them"])


@log.command()
@pass_session
def info(session: Session) -> None:
    """Show what this node's log holds, and in which files.

    ENTRIES and TERMS of a file are those that count: what has been replaced is left out.
    """
    answer: LogInfo = session.call(f"{NODE}.GetLogInfo")["info"]
    printer = session.printer
    if session.json:
        printer.json(answer)
    else:
        printer.lines(log_view.information(answer, printer.columns, printer.paint))


class _Sink(Protocol):
    def show(self, entries: Sequence[Entry]) -> None:
        """Print entries, or new states of entries."""


class _JsonLines:
    def __init__(self, printer: Printer) -> None:
        self._printer = printer

    def show(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._printer.json(entry)


class _Lines:
    def __init__(self, printer: Printer, lines: EntryLines) -> None:
        self._printer = printer
        self._lines = lines

    def show(self, entries: Sequence[Entry]) -> None:
        self._lines.prepare(entries)
        for entry in entries:
            self._printer.lines([*self._lines.date(entry), self._lines.line(entry)])


class _UnderHead:
    """Prints the titles before the first entries, when it is known how wide those are."""

    def __init__(self, printer: Printer, lines: EntryLines, below: _Sink) -> None:
        self._printer = printer
        self._lines = lines
        self._below = below
        self._done = False

    def show(self, entries: Sequence[Entry]) -> None:
        if not self._done:
            self._lines.prepare(entries)
            self._printer.lines(self._lines.head())
            self._done = True
        self._below.show(entries)


def _sink(session: Session, *, redraw: bool) -> _Sink:
    printer = session.printer
    if session.json:
        return _JsonLines(printer)
    lines = EntryLines(printer)
    live = redraw and printer.can_redraw
    below = LiveLog(printer, lines) if live else _Lines(printer, lines)
    return _UnderHead(printer, lines, below)


def _follow(session: Session, sink: _Sink, lines: int | None, first: int | None) -> None:
    parameters: dict[str, int | bool] = {"follow": True}
    if first is not None:
        _demand_held(_held(session), first, None)
        parameters["first"] = first
    else:
        parameters["count"] = _DEFAULT_COUNT if lines is None else lines
    session.printer.end_with_reader()
    newest = first or 0
    try:
        for answer in session.stream(f"{NODE}.ReadLog", parameters):
            entries: list[Entry] = answer["entries"]
            sink.show(entries)
            session.printer.flush()
            newest = max([newest, *(entry["index"] for entry in entries)])
    except Failure as failure:
        if failure.code is not ExitCode.NO_DAEMON or not newest:
            raise
        again = f"raftctl log tail -f --from {newest} goes on when it is back"
        raise Failure(f"{failure}; {again}", failure.code) from failure


def _held(session: Session) -> LogInfo:
    found: LogInfo = session.call(f"{NODE}.GetLogInfo")["info"]
    return found


def _demand_held(info: LogInfo, index: int, last: int | None) -> None:
    """What a snapshot has replaced is not skipped in silence; nor is what is not there yet, if
    there is a `last`. Raises Failure."""
    if index < info["first_index"] or (last is not None and index > last):
        sentence = f"no entry {index}: this node's log {log_view.held(info)}"
        raise Failure(sentence, ExitCode.NOT_FOUND)


def _pages(session: Session, lines: int | None, first: int | None) -> Iterator[list[Entry]]:
    """The entries asked for, at most _PAGE at a time."""
    count = _DEFAULT_COUNT if lines is None else lines
    if first is None and count <= _PAGE:
        yield session.call(f"{NODE}.ReadLog", {"count": count})["entries"]
        return
    held = _held(session)
    start = first or max(held["first_index"], held["last_index"] - count + 1)
    end = held["last_index"]
    if first is not None:
        _demand_held(held, first, end)
        end = end if lines is None else min(end, first + lines - 1)
    while start <= end:
        parameters = {"first": start, "count": min(_PAGE, end - start + 1)}
        entries: list[Entry] = session.call(f"{NODE}.ReadLog", parameters)["entries"]
        if not entries:
            return  # what was there has been truncated meanwhile
        yield entries
        start = max(entries[-1]["index"], start) + 1
