"""Manual pages, from the commands, the settings and the texts in packaging/man.

    python3 packaging/manpages.py DIRECTORY

writes raftd.8, raftctl.1 and raftd.toml.5. In a text, a line @NAME@ stands for what NAME makes of
the code: options, commands, exit statuses and settings are written down once, there.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from raftctl import cli as raftctl_cli
from raftctl import exit_codes
from raftd import __version__, journal
from raftd import cli as raftd_cli

HERE = Path(__file__).parent
SETTINGS = HERE.parent / "etc" / "raftd.toml"
_GLOBAL = {"node", "socket", "output", "timeout"}
_PART = re.compile(r"^@([A-Z_]+)@\n", re.MULTILINE)


def main(directory: Path) -> None:
    for source in sorted((HERE / "man").glob("*.in")):
        (directory / source.stem).write_text(page(source.read_text()), encoding="utf-8")


def page(text: str) -> str:
    """`text` with its @NAME@s filled in."""
    for name, value in (("VERSION", __version__), ("DATE", date())):
        text = text.replace(f"@{name}@", value)
    return _PART.sub(lambda match: "".join(_PARTS[match[1]]()), text)


def date() -> str:
    """Of the release (SOURCE_DATE_EPOCH), so that the same source gives the same page."""
    moment = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    return time.strftime("%Y-%m-%d", moment)


def escaped(text: str) -> str:
    """As roff prints it: letter by letter, and dashes that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


# ---- commands


def raftctl_commands() -> Iterator[str]:
    yield from _commands(raftctl_cli.root, "raftctl")


def raftd_commands() -> Iterator[str]:
    yield from _commands(raftd_cli.cli, "raftd")


def raftctl_options() -> Iterator[str]:
    yield from _options(raftctl_cli.root, "raftctl", everything=True)


def _commands(group: click.Group, path: str) -> Iterator[str]:
    context = click.Context(group, info_name=path)
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        assert command is not None
        own = f"{path} {name}"
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield from _command(command, own)
        if isinstance(command, click.Group):
            yield from _commands(command, own)


def _command(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context)).replace("[OPTIONS]", "")
    yield f".SS {escaped(f'{path} {usage}'.strip())}\n"
    yield from _prose(command.help or "")
    yield from _options(command, path, everything=False)
    examples = inspect.cleandoc(getattr(command, "_examples", ""))
    if examples.strip():
        yield f".PP\nExamples:\n.PP\n.RS 4\n.nf\n{escaped(examples.strip())}\n.fi\n.RE\n"
    notes = getattr(command, "_notes", "")
    if notes:
        yield from _prose(notes)


def _prose(text: str) -> Iterator[str]:
    """click's help: paragraphs; one that begins with \\b is left as it is."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith("\b"):
            lines = paragraph.removeprefix("\b").strip("\n")
            yield f".PP\n.nf\n{escaped(lines)}\n.fi\n"
        else:
            yield f".PP\n{escaped(paragraph)}\n"


def _options(command: click.Command, path: str, *, everything: bool) -> Iterator[str]:
    context = click.Context(command, info_name=path, **command.context_settings)
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or isinstance(parameter, click.Argument):
            continue
        if not everything and (parameter.name in _GLOBAL or record[0].endswith("--help")):
            continue
        yield f".TP\n.B {escaped(record[0])}\n{escaped(record[1])}\n"


# ---- exit statuses


def raftctl_statuses() -> Iterator[str]:
    for code, meaning in exit_codes.MEANINGS.items():
        yield f".TP\n.B {int(code)}\n{escaped(meaning)}\n"


def raftd_statuses() -> Iterator[str]:
    for line in raftd_cli.EXIT_STATUSES.splitlines():
        code, _, meaning = line.strip().partition("  ")
        yield f".TP\n.B {code}\n{escaped(meaning)}\n"


# ---- events


def events() -> Iterator[str]:
    for event, message_id in journal.MESSAGE_IDS.items():
        yield f".RS\n.TP\n.B {message_id}\n{escaped(event.replace('-', ' '))}\n.RE\n"


# ---- settings


def settings() -> Iterator[str]:
    """Each setting of etc/raftd.toml: its comment, its line, and the table it is in."""
    prefix, comment = "", list[str]()
    for line in SETTINGS.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"#\[([a-z]+)\]", line):
            prefix = f"{match[1]}."
            yield f".SS [{match[1]}]\n{escaped(' '.join(comment))}\n"
            if match[1] == "members":
                yield from _members_example()
            comment = []
        elif (match := re.fullmatch(r"#([a-z_]+) = (.*)", line)) and comment:
            name, value = match.groups()
            yield f".TP\n.B {escaped(f'{prefix}{name} = {value}')}\n"
            yield escaped(" ".join(comment)).replace(" Default: ", "\n.br\nDefault: ") + "\n"
            comment = []
        elif line.startswith("# "):
            comment.append(line.removeprefix("# "))
        elif not line:
            comment = []


def _members_example() -> Iterator[str]:
    text = SETTINGS.read_text(encoding="utf-8")
    lines = re.findall(r'^#(\[members\]|node\d = ".*")$', text, re.MULTILINE)
    lines = lines[lines.index("[members]") :]
    yield ".PP\n.RS 4\n.nf\n" + "".join(f"{escaped(line)}\n" for line in lines) + ".fi\n.RE\n"


_PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "RAFTCTL_COMMANDS": raftctl_commands,
    "RAFTCTL_OPTIONS": raftctl_options,
    "RAFTCTL_STATUSES": raftctl_statuses,
    "RAFTD_COMMANDS": raftd_commands,
    "RAFTD_STATUSES": raftd_statuses,
    "EVENTS": events,
    "SETTINGS": settings,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
