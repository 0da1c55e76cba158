"""Backups and new data directories: from one to the other."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

from raftd import backup
from raftd.backup import Backup
from raftd.config import Config

_PIECE = 1 << 20


def write_backup(
    file: Path,
    snapshot: Path,
    *,
    cluster_id: str,
    index: int,
    term: int,
    members: Mapping[str, str],
    node: str,
    version: str,
) -> Backup:
    """A backup of the snapshot in the file `snapshot`. OSError; then there is none."""
    digest, size = hashlib.sha256(), 0
    writer = backup.Writer(file)
    try:
        with snapshot.open("rb") as source:
            while piece := source.read(_PIECE):
                writer.write(piece)
                digest.update(piece)
                size += len(piece)
        about = Backup(
            cluster_id,
            index,
            term,
            dict(members),
            node,
            version,
            time.time_ns() // 1_000_000,
            size,
            digest.hexdigest(),
        )
        writer.finish(about)
    finally:
        writer.abandon()
    return about


def new_cluster_id(config: Config, about: Backup) -> bytes:
    """16 bytes that every host comes to by itself, and no other cluster has: from label and members
    of the new one and from the backup."""
    members = sorted(f"{name}={url}" for name, url in config.members.items())
    parts = [
        "restored",
        config.cluster,
        about.cluster_id,
        str(about.last_included_index),
        about.sha256,
        *members,
    ]
    return hashlib.sha256("\n".join(parts).encode()).digest()[:16]
