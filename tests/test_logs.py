"""Log levels and log lines."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Iterator

import pytest

from raftd import logs
from raftd.logs import LogSpecError, configure, parse


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """As it was before, for the sake of the other tests."""
    loggers = [logging.getLogger(name) for name in ("raftd", *(f"raftd.{m}" for m in logs.MODULES))]
    before = [(logger, logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    yield
    for logger, level, handlers, propagate in before:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def levels(spec: str) -> dict[str, str]:
    """What differs from info."""
    named = {module: logging.getLevelName(level).lower() for module, level in parse(spec).items()}
    assert named.keys() == {"", *logs.MODULES}
    return {module: level for module, level in named.items() if level != "info"}


def test_a_spec_has_a_level_or_modules_or_both() -> None:
    assert levels("info") == {}
    assert levels("raft=debug,storage=info") == {"raft": "debug"}
    assert levels(" raft = debug , storage=WARNING ") == {"raft": "debug", "storage": "warning"}
    others = dict.fromkeys(["", "storage", "transport", "admin", "driver", "server"], "error")
    assert levels("raft=info,error,kv=debug") == {**others, "kv": "debug"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", "'' is no log level; write one of debug, info, warning, error"),
        ("loud", "'loud' is no log level; write one of debug, info, warning, error"),
        ("info,", "has two general levels; write one, and module=level"),
        ("info,debug", "has two general levels"),
        ("raft=", "'' is no log level"),
        ("=debug", "'' is no module; write one of raft, storage, transport, admin, kv"),
        ("rafd=debug", "'rafd' is no module; did you mean raft?"),
        ("raft=debug,raft=info", "names raft twice; write it once"),
        ("raft=debug=info", "'raft=debug' is no module"),
    ],
)
def test_a_spec_that_makes_no_sense(spec: str, expected: str) -> None:
    with pytest.raises(LogSpecError, match=re.escape(expected)):
        parse(spec)


def test_configure_sets_all_levels_again_each_time() -> None:
    configure("raft=debug", {})
    assert logging.getLogger("raftd.raft").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("raftd.kv").isEnabledFor(logging.DEBUG)
    configure("warning,kv=debug", {})
    assert not logging.getLogger("raftd.raft").isEnabledFor(logging.INFO)
    assert logging.getLogger("raftd.kv").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("raftd.elsewhere").isEnabledFor(logging.INFO)


def test_the_variable_stands_in_for_the_file() -> None:
    configure("info", {"RAFTD_LOG": "error"})
    assert logging.getLogger("raftd.raft").getEffectiveLevel() == logging.ERROR
    configure("info", {"RAFTD_LOG": ""})
    assert logging.getLogger("raftd.raft").getEffectiveLevel() == logging.INFO
    with pytest.raises(LogSpecError, match="RAFTD_LOG: 'loud' is no log level"):
        configure("info", {"RAFTD_LOG": "loud"})


def test_a_bad_spec_changes_nothing() -> None:
    configure("warning", {})
    with pytest.raises(LogSpecError):
        configure("loud", {})
    assert logging.getLogger("raftd.raft").getEffectiveLevel() == logging.WARNING


def test_a_line_has_time_level_module_and_sentence_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", {})
    configure("info", {})
    logging.getLogger("raftd.raft").info("node%d leads in term %d", 1, 7)
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
    said = capsys.readouterr().err
    assert re.fullmatch(rf"{time} info    raft: node1 leads in term 7\n", said)


def test_the_journal_gets_a_priority_and_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    status = os.fstat(2)
    logging.getLogger("raftd").handlers.clear()
    configure("debug", {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    log = logging.getLogger("raftd.storage")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    log.critical("e")
    said = capsys.readouterr().err
    assert said == ("<7>storage: a\n<6>storage: b\n<4>storage: c\n<3>storage: d\n<2>storage: e\n")


def test_another_stream_is_not_the_journal(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", {"JOURNAL_STREAM": "0:0"})
    logging.getLogger("raftd.kv").warning("x")
    said = capsys.readouterr().err
    assert "warning kv: x" in said


def test_no_text_makes_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", {})
    logging.getLogger("raftd.admin").info("peer %s", "x\n<0>kernel: \x1b[2J\u2028\x85é")
    said = capsys.readouterr().err
    assert said.endswith(r"peer x\n<0>kernel: \x1b[2J\u2028\x85é" + "\n")
    assert len(said.splitlines()) == 1


def test_each_line_of_a_traceback_has_the_head(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", {})
    try:
        int("odd")
    except ValueError:
        logging.getLogger("raftd.server").exception("unexpected failure")
    said = capsys.readouterr().err
    lines = said.splitlines()
    assert lines[0].endswith("error   server: unexpected failure")
    assert lines[-1].endswith(
        "error   server: ValueError: invalid literal for int() with base 10: 'odd'"
    )
    assert all(" error   server: " in line for line in lines)


def test_a_stream_that_fails_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    configure("info", {})
    log = logging.getLogger("raftd.raft")
    for stream in (Broken(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        log.warning("nobody reads this")


def test_what_others_do_with_the_root_logger_changes_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("info", {})
    root, foreign = logging.getLogger(), logging.StreamHandler(io.StringIO())
    root.addHandler(foreign)
    try:
        logging.getLogger("raftd.kv").warning("once")
    finally:
        root.removeHandler(foreign)
    assert foreign.stream.getvalue() == ""
    assert capsys.readouterr().err.endswith("warning kv: once\n")
