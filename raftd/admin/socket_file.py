"""The Unix socket in the file system: made so that the right people reach it, and removed again.

A socket file outlives its daemon when that one is killed. It is taken away only when nobody
answers on it; whoever serves it keeps it.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from raftd.admin.protocol import MAX_PATH_BYTES

MODE = 0o660
_BACKLOG = 4096
_PROBE_TIMEOUT = 1.0
_ONLY_FOR_THE_SERVICE = (
    "; if it is so for the service only, allow it that place with ReadWritePaths=: see socket in"
    " raftd.toml(5)"
)


class SocketError(Exception):
    """The socket cannot be served; says which, why, and what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot listen on {path}: {reason}")
        self.path = path
        self.reason = reason


class SocketInUse(SocketError):
    """Somebody else serves it."""


class SocketFile:
    """A listening, non-blocking socket at `path`, with mode 0660 and, if given, the group's."""

    def __init__(self, path: Path, group: str | None) -> None:
        """Raises SocketError, SocketInUse; nothing is left behind then."""
        self.path = path
        size = len(os.fsencode(path))
        if size > MAX_PATH_BYTES:
            reason = f"its path has {size} bytes, a socket's has at most {MAX_PATH_BYTES}"
            raise SocketError(path, f"{reason}; configure a shorter one (socket = ...)")
        group_id = None if group is None else _group_id(path, group)
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _remove_stale(path)
        except (OSError, ValueError) as error:
            raise SocketError(path, _reason(error)) from error
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._inode = 0
        try:
            self._bind(group, group_id)
        except BaseException:
            self.close()
            raise

    def _bind(self, group: str | None, group_id: int | None) -> None:
        try:
            self.socket.setblocking(False)
            self.socket.bind(os.fspath(self.path))
            self._inode = self.path.lstat().st_ino
            if group_id is not None:
                os.chown(self.path, -1, group_id)
            self.path.chmod(MODE)
            # Nobody can connect before this line, so the modes above are there in time.
            self.socket.listen(_BACKLOG)
        except PermissionError as error:
            if group_id is None or not self._inode:
                raise SocketError(self.path, _reason(error)) from error
            reason = f"this user may not give it to group {group!r} (socket_group): be a member"
            raise SocketError(self.path, reason) from error
        except OSError as error:
            raise SocketError(self.path, _reason(error)) from error

    def close(self) -> None:
        """Stop listening; the file goes, unless another daemon has put its own there meanwhile."""
        self.socket.close()
        with suppress(OSError):  # gone already, or its directory is
            if self._inode and self.path.lstat().st_ino == self._inode:
                self.path.unlink()


def _group_id(path: Path, group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        reason = f"there is no group {group!r} (socket_group); make it, or configure another"
        raise SocketError(path, reason) from None


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketError(path, "there is a file that is no socket; move it away")
    if _somebody_answers(path):
        raise SocketInUse(path, "another process serves it; stop that, or configure another path")
    path.unlink(missing_ok=True)


def _somebody_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (BlockingIOError, TimeoutError):
            return True  # its queue of new connections is full
    return True


def _reason(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    text = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return text + _ONLY_FOR_THE_SERVICE if error.errno == errno.EROFS else text
