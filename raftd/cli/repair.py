"""`raftd repair DIR`: take out of a damaged data directory what may be taken out."""

from __future__ import annotations

from pathlib import Path

import click

from raftd.cli import offline
from raftd.cli.inspect import DIRECTORY
from raftd.storage.repair import Cut, Plan, carry_out, make_plan


@click.command("repair", short_help="Take damage out of a stopped node's data directory.")
@DIRECTORY
@click.option(
    "--yes",
    "digest",
    metavar="HASH",
    help="The hash of the plan that was shown, for scripts; else it has to be typed.",
)
def repair(directory: Path, digest: str | None) -> None:
    """Show what can be done about a damaged data directory DIR of a stopped node, and do it.

    What can never have been acknowledged, or is in the directory twice, is taken out at once.
    Where entries would be missing that may have been acknowledged, the plan is shown and its hash
    has to be typed back. What is taken out is kept in DIR/set-aside-TIME.
    """
    with offline.exit_statuses(), offline.open_stopped(directory) as stopped:
        plan = make_plan(stopped)
        if not plan.steps:
            click.echo(f"{directory} is whole: nothing to repair.")
            return
        aside = directory / f"set-aside-{offline.stamp()}"
        _show(plan, directory, aside)
        if plan.lost is not None:
            offline.demand(plan.digest, digest, f"raftd repair {directory}")
        carry_out(stopped, plan, aside)
        offline.give_to_owner_of(directory, directory)
        loaded = stopped.load()
        click.echo(
            f"Done: the log ends at entry {loaded.last_index}; what was taken out is in {aside}."
        )


def _show(plan: Plan, directory: Path, aside: Path) -> None:
    click.echo(f"Of {plan.node} in {directory}, to be kept in {aside.name}:")
    for step in plan.steps:
        name = step.path.relative_to(directory)
        what = f"cut {name} at byte {step.offset}" if isinstance(step, Cut) else f"move {name}"
        click.echo(offline.clean(f"  {what}: {step.why}"))
    if plan.lost is None:
        click.echo("Nothing that was ever acknowledged is lost by this.")
        return
    first, last = plan.lost
    click.echo(
        f"\nENTRIES {first} TO {last} OR BEYOND WOULD BE MISSING, and this node may have"
        " acknowledged them.\nSo it cannot go on as a member of its cluster. While a majority of"
        " the others works,\nleave this directory alone and replace the node by a fresh one. If it"
        " is the best that is\nleft, repair it and go on with `raftd recover`."
    )
