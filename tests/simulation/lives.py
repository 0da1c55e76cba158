"""How nodes start, end, die and come back, and what the operator does about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from raftd.storage.disk import (
    DirectoryDamaged,
    DirectoryMismatch,
    Disk,
    DiskFull,
    StorageFailed,
)
from tests.simulation.files import Crashed, SimulatedFiles
from tests.simulation.machine import Machine
from tests.simulation.node import Node
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

CLUSTER_ID = b"simulated 123456"


class Lives:
    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, node: Node) -> None:
        """The operator, or systemd, starts the node."""
        if self._world.nodes[node.name] is not node or node.process is not None or node.is_left_out:
            return
        node.lives += 1
        files = SimulatedFiles(node.drive, node.disk_faults, node.random)
        try:
            disk = Disk.open(
                Path("/data") / node.name,
                name=node.name,
                cluster_id=CLUSTER_ID,
                initial=node.initial,
                membership_index=node.membership_index,
                segment_bytes=self._world.plan.segment_bytes,
                tail_bytes=self._world.plan.settings.tail_bytes,
                files=files,
            )
            machine = self._machine(node, disk, files)
        except Crashed as crash:
            self._after_crash(node, crash)
            return
        except (DiskFull, StorageFailed) as error:
            self._world.say(f"{node.name} does not start: {error}")
            self._down(node)
            return
        except (DirectoryDamaged, DirectoryMismatch) as error:
            self.damaged(node, str(error))
            return
        self._world.say(f"{node.name} begins life {disk.identity.life}; {' '.join(disk.notes)}")
        recovered = disk.recovered
        self._world.checker.recovers(node, recovered)
        node.durable.accept(recovered, list(recovered.configurations))
        process = self._world.make_process(node, disk, files, machine)
        node.process = process
        self._world.checker.begins(process)
        process.enter(process.begin)

    def _machine(self, node: Node, disk: Disk, files: SimulatedFiles) -> Machine:
        """As raftd.server: the state machine's files count only if they must be whole."""
        machine = node.machine
        if machine is None or not (disk.was_clean or disk.same_boot):
            machine = Machine(files)
        machine.files = files
        node.machine = machine
        file = disk.snapshot_file
        if file is not None and machine.last_applied < disk.snapshot.last_included_index:
            machine.restore(file)
            self._world.outcomes.same_image(node.name, machine)
        if machine.last_applied > disk.last_index:
            raise Violation(
                "durable state",
                f"{node.name} had applied {machine.last_applied}, its log ends at"
                f" {disk.last_index}",
            )
        return machine

    def kill(self, node: Node, *, power: bool, what: str) -> None:
        """The process ends here and now; with `power`, what was not synced is in doubt."""
        if node.process is not None:
            self._world.checker.ends(node.process)
            node.process.dead = True
            node.process.files.die()
            node.process.end()
            node.process = None
        if power:
            node.drive.lose_power()
            node.machine = None
        self._world.say(f"{node.name}: {what}")
        self._down(node)

    def crashed(self, process: Process, crash: Crashed) -> None:
        """It died inside a disk operation."""
        self._world.checker.ends(process)
        process.dead = True
        process.end()
        process.node.process = None
        self._after_crash(process.node, crash)

    def _after_crash(self, node: Node, crash: Crashed) -> None:
        self._world.count("crash in disk operation")
        power = self._world.random.random() < 0.6
        what = f"{'loses power' if power else 'is killed'} in a disk operation: {crash}"
        self.kill(node, power=power, what=what)

    def exited(self, process: Process, why: str) -> None:
        """It says that its disk failed."""
        faults = process.node.disk_faults
        if faults.full and faults.full_for_overwrites:
            self._world.count("exit because of a full disk")
        elif not {"fsync error", "write error"} & set(faults.happened):
            raise Violation("no exit without a fault", f"{process.name}: {why}")
        self.kill(process.node, power=self._world.random.random() < 0.2, what=f"exits: {why}")

    def damaged(self, node: Node, why: str) -> None:
        """It refuses its directory. The operator leaves it out, or wipes it in vain."""
        if not node.rotten:
            raise Violation("damage is no false alarm", f"{node.name}: {why}")
        self._world.count("bit rot detected")
        self.kill(node, power=False, what=f"is damaged: {why}")
        if self._world.random.random() < 0.5 or not self._everybody_met(node):
            node.excluded, node.is_left_out = "damaged", True
            return
        # Another node under the old name. What the old one had promised still counts as kept:
        # others may rely on it.
        wiped = Node(node.name, f"{self._world.plan.seed} wiped", self._world.initial)
        wiped.excluded = node.excluded = "wiped"
        wiped.rotten = True
        self._world.nodes[node.name] = wiped
        self._world.events.after(self._world.plan.settings.election_timeout[1], self.start, wiped)
        self._world.say(f"{node.name} is wiped")
        self._world.count("wiped")

    def _everybody_met(self, node: Node) -> bool:
        """Only who has met a node refuses one that comes back with an empty disk."""
        return all(node.name in each.met for each in self._world.nodes.values() if each is not node)

    def _down(self, node: Node) -> None:
        for happened in node.disk_faults.happened:
            self._world.count(happened)
        node.disk_faults.happened.clear()
        delay = self._world.random.expovariate(1.0 / self._world.plan.settings.election_timeout[1])
        self._world.events.after(0.2 if self._world.healed else delay, self.start, node)
