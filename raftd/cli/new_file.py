"""A configuration file that was not there before: its text, and writing it only if it is good."""

from __future__ import annotations

import json
import tempfile
import tomllib
from pathlib import Path

from raftd import address, places
from raftd.config import ConfigError, load

AS_SHIPPED = {"members": {"node1": "tcp://127.0.0.1:7001"}}
"""What etc/node1.toml says: a node to try things out, which nobody misses."""


class Kept(Exception):
    """Nothing was written; the message says why, and what to do."""


def text_of(members: dict[str, str], cluster: str, trusted: bool) -> str:
    """The same for all nodes: the name of a node is that of its file."""
    lines = [
        "# Written by `raftd init`. All settings: raftd.toml(5). The members count when this node",
        "# starts for the first time; afterwards they are a matter of the cluster.",
        "",
    ]
    if cluster:
        lines.append(f"cluster = {json.dumps(cluster, ensure_ascii=False)}")
    if trusted:
        lines += [
            "# The network between the hosts is trusted: nodes do not encrypt what they say.",
            "allow_plaintext = true",
        ]
    if any(address.parse(url).is_encrypted for url in members.values()):
        lines.append(
            "# tls+tcp: encrypted, with the files in tls/ beside this one (raftd.toml(5))."
        )
    lines += ["", "[members]", *(f'"{name}" = "{url}"' for name, url in members.items()), ""]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def write(file: Path, text: str, *, force: bool, check_data: bool) -> str:
    """Write `text` to `file` if it makes a good configuration; what was done. Raises Kept.

    `check_data`: also look whether that node has been started before.
    """
    old = _old(file)
    if old == text:
        return "is as it should be"
    if old is not None and not force and not _is_as_shipped(old):
        raise Kept(f"{file} is there and says something else; --force replaces it")
    if check_data and not force:
        _demand_no_data(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".init-") as directory:
            new = Path(directory) / file.name
            new.write_text(text, encoding="utf-8")
            new.chmod(0o644)
            try:
                load(new)
            except ConfigError as error:
                raise Kept(str(error).replace(f"{new}: ", "")) from None
            if old is not None:
                file.replace(file.with_suffix(".toml.old"))
            new.replace(file)
    except OSError as error:
        raise Kept(f"cannot write {file}: {error.strerror}") from error
    return "written" if old is None else f"written; the one before is {file.name}.old"


def _old(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Kept(f"cannot read {file}: {error.strerror}") from error


def _is_as_shipped(text: str) -> bool:
    try:
        return tomllib.loads(text) == AS_SHIPPED
    except ValueError:
        return False


def _demand_no_data(file: Path) -> None:
    data = places.data_directory(file.stem, system=places.is_system(file))
    try:
        used = any(data.iterdir())
    except OSError:
        return  # it is not there, or not ours to see
    if used:
        raise Kept(
            f"{file.stem} has been started before and has its members in {data}. If that was "
            f"only to try things out, `systemctl stop raftd@{file.stem}` and `rm -r {data}`; if "
            "not, the members of a living cluster are changed with `raftctl members`"
        )
