"""`raftd recover DIR`: when a majority is gone for ever, go on with what one stopped node has."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import click
import msgspec

import raftd
from raftd import record
from raftd.cli import founding, offline
from raftd.cli.inspect import DIRECTORY
from raftd.raft.configuration import Configuration
from raftd.raft.state import SnapshotMetadata
from raftd.replay import replay
from raftd.storage import replacing
from raftd.storage.disk import DirectoryMismatch, RealFiles
from raftd.storage.repair import digest as digest_of
from raftd.storage.stopped import Loaded, Stopped, seed


class Plan(msgspec.Struct, frozen=True):
    """All that decides what a recovery comes to."""

    node: str
    node_id: bytes
    cluster_id: bytes
    incarnation: int
    members: tuple[str, ...]
    last_index: int
    last_term: int
    last_time_ms: int | None
    snapshot_index: int


@click.command("recover", short_help="Go on without the majority, with one node's data.")
@DIRECTORY
@click.option(
    "--yes",
    "digest",
    metavar="HASH",
    help="The hash of the plan that was shown, for scripts; else it has to be typed.",
)
@click.option(
    "--to",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Change nothing in DIR; write its state to a backup FILE, from which `raftd restore` "
    "makes a cluster of any size.",
)
def recover(directory: Path, digest: str | None, file: Path | None) -> None:
    """Make the stopped node in DIR a cluster of its own, because the old one has lost its majority.

    What the others acknowledged and this node does not have is lost. Look at all nodes that are
    left with `raftd inspect`, and take the one whose last entry has the highest term, and of
    those the highest index. The new cluster has a new id: old members cannot come back into it,
    they join anew with empty directories.
    """
    with offline.exit_statuses():
        files = RealFiles()
        if replacing.is_unfinished(files, directory):
            _finish(directory)
            return
        with offline.open_stopped(directory) as stopped:
            loaded = stopped.load()
            if not loaded.last_index:
                raise DirectoryMismatch(directory, "its log is empty: nothing can be recovered")
            plan = _plan(stopped, loaded)
            _show(plan, directory)
            if file is not None:
                _write_backup(stopped, loaded, plan, file)
                return
            offline.demand(digest_of(plan), digest, f"raftd recover {directory}")
            _recover(stopped, loaded, plan)
        _finish(directory)


def _plan(stopped: Stopped, loaded: Loaded) -> Plan:
    last_time_ms = None
    if loaded.first_index <= loaded.last_index:
        with stopped.log(loaded) as log:
            last_time_ms = record.time_ms(log.read(loaded.last_index, loaded.last_index, 1)[0])
    identity = loaded.document.identity
    return Plan(
        identity.name,
        identity.node_id,
        identity.cluster_id,
        identity.incarnation,
        _members(loaded).members,
        loaded.last_index,
        loaded.last_term,
        last_time_ms,
        loaded.snapshot.last_included_index,
    )


def _members(loaded: Loaded) -> Configuration:
    found = loaded.recovery.log.configurations
    if found and loaded.recovery.restart_at is None:
        return found[-1][1]
    return loaded.snapshot.configuration


def _show(plan: Plan, directory: Path) -> None:
    written = ""
    if plan.last_time_ms is not None:
        written = f", written {offline.moment(plan.last_time_ms)}"
    others = [name for name in plan.members if name != plan.node]
    offline.rows(
        [
            ("Directory", str(directory)),
            ("Node", f"{plan.node}, of cluster {plan.cluster_id.hex()}"),
            ("Kept", f"all entries up to {plan.last_index} of term {plan.last_term}{written};"),
            ("", "also the last ones, of which nobody may have heard that they were done"),
            ("Lost", f"whatever was acknowledged behind entry {plan.last_index} without this node"),
            ("Shut out", ", ".join(others) or "nobody: it was alone"),
            ("Afterwards", f"{plan.node} alone is a cluster, with a new id; its history of single"),
            ("", f"entries begins at {plan.last_index + 1}; the old directory is kept beside it"),
        ]
    )


def _recover(stopped: Stopped, loaded: Loaded, plan: Plan) -> None:
    """Make the new directory in DIR/recovered; nothing of the old one is touched."""
    new = stopped.path / replacing.NEW
    shutil.rmtree(new, ignore_errors=True)
    address = _members(loaded).addresses.get(plan.node, "")
    begin = SnapshotMetadata(
        plan.last_index, plan.last_term, Configuration((plan.node,), addresses={plan.node: address})
    )
    with offline.scratch(stopped.path) as place:
        snapshot = place / "snapshot"
        _materialize(stopped, loaded, place, snapshot)
        seed(stopped.files, new, plan.node, os.urandom(16), snapshot, begin)
    offline.give_to_owner_of(stopped.path, new)


def _finish(directory: Path) -> None:
    """Put what was made in the place of the old."""
    olds = sorted(directory.glob("before-recover-*"))
    begun = replacing.is_unfinished(RealFiles(), directory)
    old = olds[-1] if begun and olds else directory / f"before-recover-{offline.stamp()}"
    replacing.replace_content(RealFiles(), directory, old)
    shutil.rmtree(directory / replacing.NEW, ignore_errors=True)
    offline.give_to_owner_of(directory, old)
    with offline.open_stopped(directory) as stopped:
        loaded = stopped.load()
    identity = loaded.document.identity
    click.echo(
        f"Done: {identity.name} is the only member of cluster {identity.cluster_id.hex()}, with"
        f" all up to entry {loaded.last_index}.\nThe old directory is in {old}.\n"
        "Start the node, then add members anew, each with an empty data directory."
    )


def _materialize(stopped: Stopped, loaded: Loaded, place: Path, snapshot: Path) -> None:
    """Write the state at the log's end to the new file `snapshot`."""
    progress = offline.Progress("replaying the log", loaded.last_index)
    with (
        offline.state_machine(place, loaded.snapshot_file) as machine,
        stopped.log(loaded) as log,
    ):
        replay(machine, log.read, loaded.last_index, progress)
        machine.snapshot(snapshot)


def _write_backup(stopped: Stopped, loaded: Loaded, plan: Plan, file: Path) -> None:
    if file.exists():
        raise FileExistsError(errno.EEXIST, "there is a file already; take another name", str(file))
    with offline.scratch(stopped.path) as place:
        snapshot = place / "snapshot"
        _materialize(stopped, loaded, place, snapshot)
        founding.write_backup(
            file,
            snapshot,
            cluster_id=plan.cluster_id.hex(),
            index=plan.last_index,
            term=plan.last_term,
            members=dict(_members(loaded).addresses),
            node=plan.node,
            version=raftd.__version__,
        )
    click.echo(f"\nWrote {file}; nothing was changed in {stopped.path}.")
