"""Put a new data directory in the place of an old one, in the same directory, and keep the old.

`path` stays, because it may be a mount point or in a directory that is not ours. The new content is
made in `path`/recovered, the old one goes to `old`. `node-id` is the first to go and the last to
come: in between a start refuses, because it is missing, and `replace_content` can be done again.
"""

from __future__ import annotations

from pathlib import Path

from raftd.storage.errors import storage_errors
from raftd.storage.files import Files

NEW = "recovered"
_NAMES = ("standing", "peers", "hard-state", "wal", "snapshots")
_VIEW = "state"


def is_unfinished(files: Files, path: Path) -> bool:
    """A replacement was begun in `path`, is whole, and has to be ended."""
    return files.size(path / NEW / "node-id") is not None and not files.size(path / "node-id")


def replace_content(files: Files, path: Path, old: Path) -> None:
    """Durable on return. StorageFailed: do it again with the same `old`."""
    new = path / NEW
    with storage_errors("write", path):
        if files.size(old) is None:
            files.mkdir(old)
            files.fsync_dir(path)
        for name in ("node-id", _VIEW, *_NAMES):
            if files.size(path / name) is not None and files.size(old / name) is None:
                files.rename(path / name, old / name)
                files.fsync_dir(old)
                files.fsync_dir(path)
        for name in (*_NAMES, "node-id"):
            if files.size(new / name) is not None:
                files.rename(new / name, path / name)
                files.fsync_dir(new)
                files.fsync_dir(path)
