"""The socket's file: who may reach it, what happens to one that is there already, what is left."""

from __future__ import annotations

import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftd.admin.socket_file import SocketError, SocketFile, SocketInUse


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raftd.sock"


@pytest.fixture
def stale(path: Path) -> Iterator[Path]:
    """What a daemon leaves that is killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    yield path


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_made_with_its_directories_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "node1" / "raftd.sock"
    file = SocketFile(path, None)
    assert connects(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o700 == 0o700
    file.close()
    assert not path.exists()
    file.close()


def test_the_umask_does_not_matter(path: Path) -> None:
    before = os.umask(0)
    try:
        file = SocketFile(path, None)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        file.close()
    finally:
        os.umask(before)


def test_group(path: Path) -> None:
    group = grp.getgrgid(os.getegid())
    file = SocketFile(path, group.gr_name)
    assert path.stat().st_gid == group.gr_gid
    file.close()


def test_a_group_that_does_not_exist(path: Path) -> None:
    with pytest.raises(SocketError, match="there is no group 'nobodys-group'"):
        SocketFile(path, "nobodys-group")
    assert not path.exists()


def test_a_group_that_may_not_be_given(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "chown", refuse)
    group = grp.getgrgid(os.getegid()).gr_name
    with pytest.raises(SocketError, match=f"may not give it to group '{group}'"):
        SocketFile(path, group)
    assert not path.exists()


def test_a_stale_socket_is_replaced(stale: Path) -> None:
    file = SocketFile(stale, None)
    assert connects(stale)
    file.close()


def test_a_socket_somebody_serves_stays(path: Path) -> None:
    first = SocketFile(path, None)
    with pytest.raises(SocketInUse, match="another process serves it"):
        SocketFile(path, None)
    assert connects(path)
    first.close()


def test_a_socket_whose_daemon_is_too_busy_stays(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(SocketInUse):
            SocketFile(path, None)
    assert path.exists()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("x")])
def test_something_else_stays(path: Path, make: object) -> None:
    assert callable(make)
    make(path)
    before = path.lstat().st_ino
    with pytest.raises(SocketError, match="a file that is no socket; move it away"):
        SocketFile(path, None)
    assert path.lstat().st_ino == before


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 60)
    with pytest.raises(SocketError, match="a socket's has at most 107; configure a shorter one"):
        SocketFile(path, None)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SocketError, match=r"\(.*/file\)"):
        SocketFile(tmp_path / "file" / "raftd.sock", None)
    with pytest.raises(SocketError, match="null byte"):
        SocketFile(tmp_path / "a\0b", None)


def test_the_socket_of_a_successor_stays(path: Path) -> None:
    first = SocketFile(path, None)
    path.rename(path.with_suffix(".old"))
    second = SocketFile(path, None)
    first.close()
    assert connects(path)
    second.close()
