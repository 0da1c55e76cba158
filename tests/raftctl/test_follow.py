"""`raftctl log tail -f`: states as they change, on a terminal and in a pipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from raftctl.live_log import LiveLog
from raftctl.log_view import EntryLines
from raftctl.printer import Printer
from tests.raftctl import canned
from tests.raftctl.canned import entry
from tests.raftctl.conftest import Raftctl
from tests.raftctl.fake_daemon import FakeDaemon, Stream
from tests.raftctl.screen import Screen

Show = Callable[..., None]


class Terminal(Printer):
    """A printer to a screen."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self.screen = screen
        self.terminal = self.can_redraw = self.colours = True

    def size(self) -> tuple[int, int]:
        return self.screen.columns, self.screen.rows

    def text(self, text: str) -> None:
        self.screen.feed(text)


@pytest.fixture
def screen() -> Screen:
    return Screen(80, 8)


@pytest.fixture
def live(screen: Screen) -> LiveLog:
    printer = Terminal(screen)
    return LiveLog(printer, EntryLines(printer))


def _marks(screen: Screen) -> list[str]:
    """Mark, index and term of each line with an entry."""
    found = []
    for line in screen.lines:
        words = line.strip("~").split()
        if len(words) > 3:
            struck = "~" if line.startswith("~") else ""
            found.append(f"{struck}{words[0]}{words[1]}/{words[2]}")
    return found


def _entries(*states: str, first: int = 1, term: int = 7) -> list[Any]:
    names = {"○": "uncommitted", "◐": "committed", "●": "applied", "✗": "truncated"}
    return [
        entry(number, state=names[state], term=term) for number, state in enumerate(states, first)
    ]


def test_each_entry_keeps_its_line(screen: Screen, live: LiveLog) -> None:
    live.show(_entries("●", "○", "○"))
    assert _marks(screen) == ["●1/7", "○2/7", "○3/7"]
    live.show(_entries("◐", "◐", "○", first=2))
    assert _marks(screen) == ["●1/7", "◐2/7", "◐3/7", "○4/7"]
    live.show(_entries("●", "●", "●", first=2))
    assert _marks(screen) == ["●1/7", "●2/7", "●3/7", "●4/7"]
    assert screen.lines[0] == "2025-11-23"
    assert screen.lines[-1] == "", "the cursor stands below"


def test_truncated_entries_are_struck_out_and_their_index_comes_again(
    screen: Screen, live: LiveLog
) -> None:
    live.show(_entries("●", "○", "○"))
    live.show(_entries("✗", "✗", first=2))
    live.show(_entries("○", first=2, term=8))
    live.show(_entries("●", first=2, term=8))
    assert _marks(screen) == ["●1/7", "~✗2/7", "~✗3/7", "●2/8"]


def test_nothing_is_drawn_twice(screen: Screen, live: LiveLog) -> None:
    live.show(_entries("●"))
    before = list(screen.lines)
    live.show(_entries("●"))
    assert screen.lines == before


def test_what_has_scrolled_away_comes_again_when_it_is_final(screen: Screen, live: LiveLog) -> None:
    live.show(_entries(*"○" * 20))
    assert _marks(screen) == [f"○{index}/7" for index in range(14, 21)]
    live.show(_entries("◐"))
    assert _marks(screen) == [f"○{index}/7" for index in range(14, 21)]
    live.show(_entries("●"))
    assert _marks(screen)[-2:] == ["○20/7", "●1/7"]
    live.show(_entries("✗", first=2))
    assert _marks(screen)[-2:] == ["●1/7", "~✗2/7"]


def test_the_uppermost_line_can_still_be_redrawn(screen: Screen, live: LiveLog) -> None:
    live.show(_entries(*"○" * 20))
    live.show(_entries("●", first=14))
    assert _marks(screen)[0] == "●14/7"
    assert len(_marks(screen)) == 7
    live.show(_entries("●", first=13))
    assert _marks(screen)[-1] == "●13/7"


def test_another_size_makes_everything_above_fixed(screen: Screen, live: LiveLog) -> None:
    live.show(_entries("○", "○"))
    screen.columns, screen.rows = 60, 5
    live.show(_entries("●", "○"))
    assert _marks(screen) == ["○1/7", "○2/7", "●1/7"]
    live.show(_entries("○", first=3))
    live.show(_entries("●", first=3))
    assert _marks(screen)[-1] == "●3/7"


def test_lines_never_wrap(screen: Screen, live: LiveLog) -> None:
    live.show([entry(1, what="世界" * 80), entry(10**12, what="x" * 200, node="n" * 63)])
    assert all(len(line) < 80 for line in screen.lines)


def test_a_new_day_has_its_date(screen: Screen, live: LiveLog) -> None:
    live.show([entry(1), entry(2, time_ms=canned.LEADER_SINCE_MS + 86_400_000)])
    live.show([entry(1, state="committed")])
    assert [line[:10].strip() for line in screen.lines] == [
        "2025-11-23",
        "◐     1",
        "2025-11-24",
        "●     2",
        "",
    ]


def test_in_a_pipe_each_change_is_a_line(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    daemon.answers["ReadLog"] = Stream(
        [
            {"entries": _entries("●", "○")},
            {"entries": _entries("◐", first=2)},
            {"entries": _entries("✗", first=2)},
        ],
        ends=True,
    )
    result = raftctl("log", "tail", "-f", "-n", "2")
    rows = [line.split() for line in result.text.splitlines()]
    assert [(row[0], row[3]) for row in rows] == [
        ("INDEX", "STATE"),
        ("1", "applied"),
        ("2", "uncommitted"),
        ("2", "committed"),
        ("2", "truncated"),
    ]
    assert daemon.asked("ReadLog") == [{"follow": True, "count": 2}]


def test_when_the_daemon_goes_away_it_says_how_to_go_on(
    daemon: FakeDaemon, raftctl: Raftctl
) -> None:
    daemon.answers["ReadLog"] = Stream([{"entries": _entries("●", "●")}], ends=True)
    result = raftctl("log", "tail", "-f", "-o", "json")
    assert [json.loads(line)["index"] for line in result.text.splitlines()] == [1, 2]
    assert result.code == 3
    assert result.err == (
        f"raftctl: no raftd at {daemon.path}: it ended the connection before it had answered; "
        "raftctl log tail -f --from 2 goes on when it is back\n"
    )


def test_from_an_index(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    daemon.answers["ReadLog"] = Stream([], ends=True)
    daemon.answers["GetLogInfo"] = {"info": canned.log_info(first_index=4)}
    assert raftctl("log", "tail", "-f", "--from", "3").code == 5
    assert raftctl("log", "tail", "-f", "--from", "9").code == 3, "it waits for entry 9"
    assert daemon.asked("ReadLog") == [{"follow": True, "first": 9}]
    assert raftctl("log", "tail", "-f", "--from", "4", "-n", "2").code == 2


def test_only_what_is_new(daemon: FakeDaemon, raftctl: Raftctl) -> None:
    daemon.answers["ReadLog"] = Stream([], ends=True)
    raftctl("log", "tail", "-f", "-n", "0")
    assert daemon.asked("ReadLog") == [{"follow": True, "count": 0}]
