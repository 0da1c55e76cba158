"""Which socket? --socket, --node, RAFTD_SOCKET, or the one that is there, in this order.

Sockets are /run/raftd/NODE/raftd.sock for the system's nodes, and raftd/NODE/raftd.sock in the
user's runtime directory for a user's own. (No pathlib: it takes 5 ms to import.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from raftctl.exit_codes import ExitCode
from raftctl.failure import Failure

VARIABLE = "RAFTD_SOCKET"
SYSTEM_DIRECTORY = "/run/raftd"
_SOCKET = "raftd.sock"
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,63}\Z")


def find(node: str | None, socket: str | None) -> str:
    """The path of the daemon's socket. Raises Failure if there is none, or more than one."""
    if socket == "":
        raise Failure("--socket '': name the daemon's socket, or leave it out", ExitCode.USAGE)
    if socket is not None:
        return socket
    if node is not None:
        return _of_node(node)
    return os.environ.get(VARIABLE) or _the_one_that_is_there()


def nodes() -> list[str]:
    """The names of the nodes that have a socket in the usual places."""
    return sorted({name for name, _ in _sockets()})


def _of_node(node: str) -> str:
    if not _NAME.match(node):
        sentence = f"--node {node!r}: a node's name has 1 to 63 letters, digits, '.', '_' and '-'"
        raise Failure(sentence, ExitCode.USAGE)
    found = [path for name, path in _sockets() if name == node]
    if len(found) > 1:
        raise Failure(_say_which(f"{node} is there twice", found), ExitCode.USAGE)
    if not found:
        tried = " or ".join(f"{directory}/{node}/{_SOCKET}" for directory in _directories())
        raise Failure(f"no daemon for {node}: there is no {tried}", ExitCode.NO_DAEMON)
    return found[0]


def _the_one_that_is_there() -> str:
    found = [path for _, path in _sockets()]
    # A user who may not use the system's nodes has only his own to mean.
    usable = [path for path in found if os.access(path, os.W_OK, effective_ids=True)] or found
    if len(usable) > 1:
        raise Failure(_say_which("several daemons are there", usable), ExitCode.USAGE)
    if not usable:
        _demand_permission()
        places = " and ".join(_directories())
        sentence = f"no daemon: no socket below {places}; --socket or {VARIABLE} name another one"
        raise Failure(sentence, ExitCode.NO_DAEMON)
    return usable[0]


def _demand_permission() -> None:
    """There may be daemons where we may not look. Raises Failure."""
    for directory in _directories():
        try:
            os.listdir(directory)  # noqa: PTH208
        except PermissionError:
            sentence = f"not permitted to look into {directory}: ask root"
            raise Failure(sentence, ExitCode.NOT_PERMITTED) from None
        except OSError:
            continue


def _say_which(what: str, paths: list[str]) -> str:
    names = [path.split("/")[-2] for path in paths]
    if len(set(names)) == len(names):
        ways = " or ".join(f"--node {name}" for name in names)
    else:
        ways = " or ".join(f"--socket {path}" for path in paths)
    return f"{what}; say which: {ways}"


def _sockets() -> Iterator[tuple[str, str]]:
    """(node, socket), the system's first. A directory we may not look into counts: asking its
    socket then says that it is not permitted, which is the truth."""
    for directory in _directories():
        try:
            names = sorted(os.listdir(directory))  # noqa: PTH208 - names are all we want
        except OSError:
            continue
        for name in names:
            path = f"{directory}/{name}/{_SOCKET}"
            try:
                os.stat(path)  # noqa: PTH116
            except PermissionError:
                yield name, path
            except OSError:
                continue
            else:
                yield name, path


def _directories() -> list[str]:
    import warnings  # noqa: PLC0415 - only needed to search

    import platformdirs  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no XDG_RUNTIME_DIR: nothing a user of raftctl minds
        try:
            own = platformdirs.user_runtime_dir("raftd")
        except OSError:
            return [SYSTEM_DIRECTORY]
    return [SYSTEM_DIRECTORY, own]
