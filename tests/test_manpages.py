"""Manual pages: complete, because they are made from the code; and pages that man(1) can show."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from raftctl.cli import root as raftctl
from raftctl.exit_codes import MEANINGS
from raftd.admin.protocol import INTERFACES, SERVICE
from raftd.cli import cli as raftd
from raftd.exit_status import ExitStatus
from raftd.journal import MESSAGE_IDS
from raftd.settings import LIMITS, SETTINGS

PACKAGING = Path(__file__).parents[1] / "packaging"
PAGES = ("raftctl.1", "raftd.8", "raftd.toml.5")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("manpages", PACKAGING / "manpages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    directory = tmp_path_factory.mktemp("man")
    module.main(directory)
    return directory


def text(pages: Path, name: str) -> str:
    """Without roff's dashes and quotes."""
    return (pages / name).read_text().replace("\\-", "-").replace("\\(dq", '"')


def test_the_pages_are_there_and_nothing_is_left_to_fill_in(pages: Path) -> None:
    assert sorted(path.name for path in pages.iterdir()) == sorted(PAGES)
    for name in PAGES:
        assert not re.search(r"@[A-Z_]+@", text(pages, name)), name


@pytest.mark.parametrize(("page", "group"), [("raftctl.1", raftctl), ("raftd.8", raftd)])
def test_each_command_and_option_is_there(pages: Path, page: str, group: click.Group) -> None:
    shown = text(pages, page)

    def look(command: click.Command, path: str) -> None:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                look(found, f"{path} {name}")
            return
        assert re.search(rf"^\.SS {path}( |$)", shown, re.MULTILINE), path
        section = shown.split(f".SS {path}")[1].split("\n.SS ")[0]
        for option in command.params:
            if isinstance(option, click.Option) and option.name not in _GLOBAL:
                assert option.opts[0] in section, (path, option.opts)

    look(group, page.partition(".")[0])


_GLOBAL = {"node", "socket", "output", "timeout"}


def test_each_setting_is_there(pages: Path) -> None:
    shown = text(pages, "raftd.toml.5")
    for key in (*SETTINGS, *(f"limits.{key}" for key in LIMITS)):
        assert re.search(rf"^\.B {key} = \S", shown, re.MULTILINE), key


def test_each_exit_status_is_there(pages: Path) -> None:
    for page, statuses in (("raftctl.1", MEANINGS), ("raftd.8", ExitStatus)):
        section = text(pages, page).split(".SH EXIT STATUS")[1].split(".SH ")[0]
        assert re.findall(r"^\.B (\d+)$", section, re.MULTILINE) == [str(int(n)) for n in statuses]


def test_each_variable_of_the_help_is_there(pages: Path) -> None:
    section = text(pages, "raftd.8").split(".SH ENVIRONMENT")[1].split(".SH ")[0]
    variables = re.findall(r"^  (RAFTD_[A-Z_]+) ", raftd.epilog or "", re.MULTILINE)
    assert variables
    assert set(variables) <= set(re.findall(r"^\.B (RAFTD_[A-Z_]+)$", section, re.MULTILINE))


def test_each_interface_of_the_socket_is_there(pages: Path) -> None:
    assert all(name in text(pages, "raftd.8") for name in INTERFACES if name != SERVICE)


def test_each_event_is_there(pages: Path) -> None:
    shown = text(pages, "raftd.8")
    assert all(message_id in shown for message_id in MESSAGE_IDS.values())


@pytest.mark.parametrize("page", PAGES)
def test_roff_finds_nothing_wrong(pages: Path, page: str) -> None:
    groff = shutil.which("groff") or pytest.skip("there is no groff")
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", "-Z", pages / page], capture_output=True, check=True
    )
    assert done.stderr.decode() == ""


def test_text_cannot_be_taken_for_roff(pages: Path) -> None:
    spec = importlib.util.spec_from_file_location("manpages", PACKAGING / "manpages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.escaped(".SH x\n'y \\z -1") == "\\&.SH x\n\\&'y \\ez \\-1"
