"""Standard output: what kind of place it is, and the one way to write to it."""

from __future__ import annotations

import json
import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from raftctl.exit_codes import ExitCode
from raftctl.failure import Failure, ReaderGone

_LOOKS = {"good": "32", "bad": "1;31", "strong": "1", "faint": "2", "struck": "2;9"}
_COLUMNS_ELSEWHERE = 80


class Symbols(NamedTuple):
    """Marks, in characters that the place can show. Each state has a shape of its own."""

    ellipsis: str
    uncommitted: str
    committed: str
    applied: str
    truncated: str


_UNICODE = Symbols("…", "○", "◐", "●", "✗")
_ASCII = Symbols("...", "?", "+", "*", "x")


class Printer:
    """Writes text, JSON or bytes to standard output. Raises ReaderGone, Failure.

    `terminal`: a person looks at it as it comes. `can_redraw`: lines already written can be
    changed. Colours need a terminal that is not dumb, and no NO_COLOR (https://no-color.org).
    """

    def __init__(self) -> None:
        environment = os.environ
        dumb = environment.get("TERM", "dumb") in {"", "dumb"}
        self.terminal = sys.stdout is not None and sys.stdout.isatty()
        self.can_redraw = self.terminal and not dumb
        self.colours = self.can_redraw and not environment.get("NO_COLOR")
        self.symbols = _UNICODE if self._is_unicode() else _ASCII

    def _is_unicode(self) -> bool:
        if sys.stdout is None or os.environ.get("TERM") == "linux":  # its font has few marks
            return False
        return sys.stdout.encoding.lower().replace("-", "") == "utf8"

    @property
    def columns(self) -> int:
        return self.size()[0]

    def size(self) -> tuple[int, int]:
        """Columns and rows, as they are now."""
        if self.terminal:
            try:
                columns, rows = os.get_terminal_size(sys.stdout.fileno())
            except OSError:
                columns = rows = 0
            if columns > 0:
                return columns, rows
        given = os.environ.get("COLUMNS", "")
        return (int(given) if given.isdecimal() and int(given) else _COLUMNS_ELSEWHERE), 24

    def paint(self, text: str, look: str) -> str:
        """`text` in one of the looks, if there are colours: good, bad, strong, faint, struck."""
        return f"\x1b[{_LOOKS[look]}m{text}\x1b[0m" if self.colours and look else text

    def lines(self, lines: Iterable[str]) -> None:
        self.text("".join(f"{line}\n" for line in lines))

    def text(self, text: str) -> None:
        def write() -> None:
            sys.stdout.write(text)
            if self.terminal:
                sys.stdout.flush()

        _guarded(write)

    def json(self, value: Mapping[str, Any]) -> None:
        """One object in one line, in ASCII, so that nothing in it can act on a terminal."""
        self.text(json.dumps(value, separators=(",", ":")) + "\n")

    def raw(self, data: bytes) -> None:
        def write() -> None:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)

        _guarded(write)

    def end_with_reader(self) -> None:
        """From now on the process ends with 0 when the reader of standard output, a pipe, is gone.

        Who waits for something to print would otherwise never notice; tail(1) does likewise.
        """
        try:
            number = sys.stdout.fileno()
            is_pipe = stat.S_ISFIFO(os.fstat(number).st_mode)
        except (AttributeError, OSError):
            return
        if is_pipe:
            threading.Thread(target=_end_with_reader, args=(number,), daemon=True).start()

    def flush(self) -> None:
        def flush() -> None:
            sys.stdout.flush()  # looked up in there, where it may be None

        _guarded(flush)


def _end_with_reader(number: int) -> None:
    poll = select.poll()
    poll.register(number, 0)  # POLLERR comes unasked
    poll.poll()
    os._exit(ExitCode.OK)  # nobody is left to say anything to


def _guarded(write: Callable[[], object]) -> None:
    if sys.stdout is None:
        raise Failure("standard output is closed")
    try:
        write()
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise Failure(f"cannot write to standard output: {error.strerror}") from None
