"""`raftd restore FILE --config CONFIG`: begin a new cluster with what a backup has."""

from __future__ import annotations

from pathlib import Path

import click

from raftd import backup
from raftd.cli import founding, offline
from raftd.cli.check_config import CONFIGURATION_FILE, load_or_exit
from raftd.cli.run import only_configuration
from raftd.raft.configuration import Configuration
from raftd.raft.state import SnapshotMetadata
from raftd.storage.disk import DirectoryMismatch, RealFiles
from raftd.storage.stopped import seed


@click.command("restore", short_help="Begin a new cluster from a backup.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--config",
    "configuration",
    metavar="CONFIG",
    type=CONFIGURATION_FILE,
    help="The configuration of this node; its [members] are those of the new cluster. Default: "
    "as `raftd run`.",
)
def restore(file: Path, configuration: Path | None) -> None:
    """Make this node's data directory from the backup FILE, for a new cluster.

    Do it on every host, with the same FILE and the same [members], then start the nodes: they are
    one cluster, with a new id, and begin with what the backup has. The data directory must not
    exist yet, or be empty.
    """
    config = load_or_exit(configuration or only_configuration())
    with offline.exit_statuses():
        with offline.reading(file):
            about = backup.read(file)
        target = config.data_dir
        if target.exists() and any(target.iterdir()):
            raise DirectoryMismatch(
                target, "there is something already; a new cluster begins with empty directories"
            )
        existed = target
        while not existed.exists():
            existed = existed.parent
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        with offline.scratch(target) as place:
            snapshot = place / "snapshot"
            backup.extract(file, snapshot, offline.Progress("checking", about.size))
            with offline.state_machine(place, snapshot) as machine:
                index = machine.last_applied
            if index != about.last_included_index:
                raise backup.NoBackup(
                    f"{file}: its state stands at {index}, not {about.last_included_index}"
                )
            members = Configuration(tuple(sorted(config.members)), addresses=dict(config.members))
            begin = SnapshotMetadata(about.last_included_index, about.last_included_term, members)
            cluster_id = founding.new_cluster_id(config, about)
            seed(RealFiles(), target, config.name, cluster_id, snapshot, begin)
        offline.give_to_owner_of(existed, target)
    _tell(config.name, target, about.last_included_index, cluster_id, sorted(config.members))


def _tell(name: str, target: Path, index: int, cluster_id: bytes, members: list[str]) -> None:
    click.echo(f"{name} begins in {target} with all up to entry {index},")
    if len(members) == 1:
        click.echo(f"alone in the new cluster {cluster_id.hex()}. Start it.")
        return
    click.echo(
        f"as a member of the new cluster {cluster_id.hex()}: {', '.join(members)}.\n"
        "Do the same on the other hosts, then start them all."
    )
