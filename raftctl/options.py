"""How raftctl's commands look on the command line: the global options, on every command, and help.

`Command` and `Group` take the global options before and after the command's name; the last one
given holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from raftctl import discovery
from raftctl.exit_codes import ExitCode
from raftctl.session import DEFAULT_TIMEOUT, Session

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 80}
pass_session = click.make_pass_decorator(Session, ensure=True)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.001 <= seconds <= 86400:  # so that NaN is refused, too
        raise click.BadParameter(f"{text!r} is no number of seconds from 0.001 to 86400.")
    return seconds


def _keep(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None and option.name is not None:
        setattr(ctx.ensure_object(Session), option.name, value)


def _complete_nodes(
    _ctx: click.Context, _option: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(name) for name in discovery.nodes() if name.startswith(incomplete)]


def _global_options() -> list[click.Option]:
    return [
        click.Option(
            ["--node"],
            metavar="NAME",
            help="Talk to this host's node NAME.",
            shell_complete=_complete_nodes,
            callback=_keep,
            expose_value=False,
        ),
        click.Option(
            ["--socket"],
            metavar="PATH",
            help=f"Talk to the daemon behind this socket. [env: {discovery.VARIABLE}]",
            type=click.Path(),
            callback=_keep,
            expose_value=False,
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(["table", "json"]),
            help="A table for people (default), or JSON in lines.",
            callback=_keep,
            expose_value=False,
        ),
        click.Option(
            ["--timeout"],
            type=_seconds,
            metavar="SECONDS",
            help=f"Give up after this long ({DEFAULT_TIMEOUT:g}).",
            callback=_keep,
            expose_value=False,
        ),
    ]


class _WithGlobalOptions(click.Command):
    """`examples`: lines for the end of the help, as they are to be typed."""

    def __init__(self, *args: Any, examples: str = "", notes: str = "", **kwargs: Any) -> None:
        kwargs["context_settings"] = SETTINGS | kwargs.get("context_settings", {})
        super().__init__(*args, **kwargs)
        self._examples = examples
        self._notes = notes
        self._global = _global_options()
        self.params.extend(self._global)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shared = {id(option) for option in self._global}
        own = [
            param
            for param in self.get_params(ctx)
            if isinstance(param, click.Option) and id(param) not in shared
        ]
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        for title, params in (("Options", own), ("Global options", self._global)):
            records = [record for param in params if (record := param.get_help_record(ctx))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self._examples:
            with formatter.section("Examples"):
                for line in self._examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")
        if self._notes:
            formatter.write(f"\n{self._notes}\n")


class Command(_WithGlobalOptions):
    """A command that does something."""


class Group(_WithGlobalOptions, click.Group):
    """A group of commands; `lazy` names modules and objects that are imported when needed.

    Decorated commands are `Command`s.
    """

    command_class = Command
    _lazy: Mapping[str, str]

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("no_args_is_help", False)
        super().__init__(*args, **kwargs)
        self._lazy = lazy or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not self.invoke_without_command and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(ExitCode.USAGE)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)  # click would print an empty line

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, name = self._lazy[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            from difflib import get_close_matches  # noqa: PLC0415 - only after a slip

            close = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"There is no command {name!r}.{hint}")
        return super().resolve_command(ctx, args)


def exactly_one(**given: object) -> str:
    """The name of the one argument that is not None or False. Raises click.UsageError."""
    names = [name for name, value in given.items() if value is not None and value is not False]
    if len(names) != 1:
        ways = " or ".join(_spelled(name) for name in given)
        raise click.UsageError(f"Say exactly one of: {ways}.")
    return names[0]


def _spelled(name: str) -> str:
    return name if name.isupper() else "--" + name.replace("_", "-")
