"""Checks of the state in simulated clusters: whatever happens to them, equal logs hash equally."""

from __future__ import annotations

from raftd import features
from raftd.raft.log import EntryType
from raftd.raft.raft import Busy, NotLeader
from raftd.raft.state import Role
from raftd.state_hash import check_payload, context_of
from tests.simulation.plan import plan
from tests.simulation.process import Process
from tests.simulation.world import World

INTERVAL = 0.2
SEEDS = range(3000, 3012)


class Auditor:
    """Whoever leads writes checks, with its own hash: all must have the same. `checks` counts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.checks = 0
        world.events.after(INTERVAL, self._look)

    def _look(self) -> None:
        if not self._world.healed:
            self._world.events.after(INTERVAL, self._look)
        for node in self._world.nodes.values():
            process = node.process
            if process is not None and process.raft.server.role is Role.LEADER:
                process.enter(self._propose, process)

    def _propose(self, process: Process) -> None:
        context = context_of(process.machine)
        kind, payload = EntryType.FEATURES, features.encode(features.CHECKS)
        if context.level:
            kind = EntryType.CHECK
            payload = check_payload(context.check_index, context.check_hash)
        try:
            process.raft.propose(process.now(), [payload], kind)
        except (NotLeader, Busy):
            return
        self.checks += kind is EntryType.CHECK
        process.kick()


def test_all_nodes_hash_the_same() -> None:
    """pitfall 27, 90, 91: over crashes, torn writes, snapshots and everything else."""
    checks = 0
    for seed in SEEDS:
        world = World(plan(seed))
        auditor = Auditor(world)
        result = world.run()
        assert not result.property, f"{result.property}: {result.text}\n{world.trace.text(60)}"
        checks += auditor.checks
    assert checks > 50


def test_another_state_is_found_out() -> None:
    """pitfall 91: by the checks alone; the simulation's own comparisons are switched off."""
    assert any("Diverged" in _spoiled(seed) for seed in SEEDS)


def _spoiled(seed: int) -> str:
    """How a run ends in which one node's state loses everything, half-way."""
    world = World(plan(seed))
    Auditor(world)

    def spoil() -> None:
        machine = next(iter(world.nodes.values())).machine
        if machine is not None:
            machine.items.clear()

    for judge in ("applied", "same_image", "acknowledged"):
        setattr(world.outcomes, judge, lambda *_: None)
    world.events.after(world.plan.duration / 2, spoil)
    return world.run().text
