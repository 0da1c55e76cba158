"""The way in and the way out of raftctl: `main(argv) -> exit code`, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from raftctl import exit_codes
from raftctl.exit_codes import ExitCode
from raftctl.failure import Failure, ReaderGone
from raftctl.options import Group
from raftctl.session import Session
from raftctl.text import clean
from raftd import __version__

_COMMANDS = {
    "status": "raftctl.commands.status:status",
    "members": "raftctl.commands.members:members",
    "leader": "raftctl.commands.leader:leader",
    "drain": "raftctl.commands.drain:drain",
    "undrain": "raftctl.commands.drain:undrain",
    "kv": "raftctl.commands.kv:kv",
    "log": "raftctl.commands.log:log",
    "snapshot": "raftctl.commands.snapshot:snapshot",
    "state": "raftctl.commands.state:state",
    "reseed": "raftctl.commands.reseed:reseed",
    "init": "raftctl.commands.init:init",
    "reload": "raftctl.commands.reload:reload",
    "version": "raftctl.commands.version:version",
}
_EXAMPLES = """
raftctl status                    can the cluster write, and who may fail?
raftctl kv put app/mode blue      set a key, through whatever node is here
raftctl log tail -f               watch entries being committed and applied
raftctl --node node2 -o json status | jq .writable
"""
_COMPLETION = "_RAFTCTL_COMPLETE"
_NOTES = f"""Exit codes:
{exit_codes.as_help()}

Completion for bash: eval "$({_COMPLETION}=bash_source raftctl)"; zsh and
fish likewise, with zsh_source and fish_source. RAFTCTL_DEBUG=1 shows where
an unexpected error came from. Colours: only on a terminal, not with NO_COLOR."""


@click.group(
    cls=Group,
    lazy=_COMMANDS,
    examples=_EXAMPLES,
    notes=_NOTES,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.version_option(__version__, prog_name="raftctl", message="%(prog)s %(version)s")
@click.pass_context
def root(ctx: click.Context) -> None:
    """Look into a raftd cluster, and use it, through this host's daemon.

    The daemon is found by --node or --socket, by RAFTD_SOCKET, or because it is the only one
    that is there. Any node takes any command.
    """
    ctx.ensure_object(Session)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Messages for people go to standard error."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (ReaderGone, BrokenPipeError):
        _discard_output()
        return ExitCode.OK
    except OSError as error:
        _discard_output()
        return _say(f"cannot write to standard output: {error.strerror}", ExitCode.FAILED)
    return code


def _run(argv: Sequence[str] | None) -> int:
    session = Session()
    try:
        result = root.main(argv, prog_name="raftctl", standalone_mode=False, obj=session)
    except (ReaderGone, BrokenPipeError):
        raise
    except SystemExit:
        if _COMPLETION in os.environ:
            raise
        raise ReaderGone from None  # click's answer to a pipe that broke while it printed help
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:
        return _told(error)
    finally:
        session.close()
    return result if isinstance(result, int) else ExitCode.OK


def _told(error: Exception) -> int:
    """Say in one sentence what is wrong; the exit code for it."""
    match error:
        case Failure():
            return _fail(str(error), error.code)
        case click.UsageError():
            return _usage(error)
        case click.Abort():
            return ExitCode.INTERRUPTED
        case OSError():  # from click, which prints help, or for want of files or memory
            _discard_output()
            return _say(f"cannot go on: {error.strerror or error}", ExitCode.FAILED)
    if os.environ.get("RAFTCTL_DEBUG"):
        raise error
    sentence = f"unexpected: {type(error).__name__}: {error}; RAFTCTL_DEBUG=1 shows where"
    return _fail(sentence, ExitCode.FAILED)


def _usage(error: click.UsageError) -> int:
    code = _fail(error.format_message(), ExitCode.USAGE)
    if error.ctx is not None:
        print(f"Try '{error.ctx.command_path} --help'.", file=sys.stderr)
    return code


def _fail(sentence: str, code: ExitCode) -> int:
    """Say it, behind whatever standard output has to say first."""
    if sys.stdout is not None:
        sys.stdout.flush()
    return _say(sentence, code)


def _say(sentence: str, code: ExitCode) -> int:
    try:
        print(f"raftctl: {clean(sentence)}", file=sys.stderr)
    except OSError:
        _discard(sys.stderr)
    return code


def _discard_output() -> None:
    _discard(sys.stdout)


def _discard(stream: object) -> None:
    """What is still in a stream's buffer has nowhere to go: let Python not try it at exit."""
    fileno = getattr(stream, "fileno", None)
    if fileno is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, fileno())
    os.close(nowhere)
