"""What raftctl's exit codes mean: the one list, for scripts, for --help, and for the code."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    NO_DAEMON = 3
    NO_QUORUM = 4
    NOT_FOUND = 5
    REFUSED = 6
    NOT_PERMITTED = 7
    COMPARE_FAILED = 8
    INTERRUPTED = 130
    """128 + SIGINT, as shells count. `log tail -f` ends with 0: that is how it is meant to end."""


MEANINGS = {
    ExitCode.OK: "done; also when the reader of a pipe has had enough (| head)",
    ExitCode.FAILED: "failed, for a reason that has no code of its own",
    ExitCode.USAGE: "the command line makes no sense, or several daemons are there",
    ExitCode.NO_DAEMON: "no daemon there",
    ExitCode.NO_QUORUM: "no quorum, no leader, busy, timed out, or outcome unknown",
    ExitCode.NOT_FOUND: "no such key, log entry or member",
    ExitCode.REFUSED: "refused: unsafe, or makes no sense as things are",
    ExitCode.NOT_PERMITTED: "not permitted",
    ExitCode.COMPARE_FAILED: "compare failed: the key was something else (kv cas)",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C (log tail -f: 0)",
}


def as_help() -> str:
    return "\n".join(f"  {code:3d}  {meaning}" for code, meaning in MEANINGS.items())
