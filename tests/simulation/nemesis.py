"""Breaks things, at the rates of the plan, and mends them again after a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raftd.raft.state import Role
from raftd.storage.disk import DiskFull, StorageFailed
from tests.simulation.files import Crashed
from tests.simulation.node import Node

if TYPE_CHECKING:
    from tests.simulation.world import World


class Nemesis:
    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self._timeout = world.plan.settings.election_timeout[1]
        self._kinds: dict[str, Callable[[], None]] = {
            "one-way cut": self._one_way_cut,
            "partition": self._partition,
            "isolation": self._isolation,
            "old leader": self._old_leader,
            "pause": self._pause,
            "kill": self._kill,
            "power loss": self._power_loss,
            "crash in disk operation": self._crash_in_disk_operation,
            "clean restart": self._clean_restart,
            "fsync error": self._fsync_error,
            "write error": self._write_error,
            "disk full": self._disk_full,
            "slow disk": self._slow_disk,
            "bit rot": self._bit_rot,
            "clock rate": self._clock_rate,
            "leadership transfer": self._transfer,
            "reconfiguration": world.members.move,
            "membership": world.members.change,
        }

    def start(self) -> None:
        for kind, action in self._kinds.items():
            rate = self._world.plan.rates.get(kind)
            if rate is not None:
                self._world.events.after(
                    self._random.expovariate(1.0 / rate), self._act, action, rate
                )

    def _act(self, action: Callable[[], None], rate: float) -> None:
        if self._world.healed:
            return
        action()
        self._world.events.after(self._random.expovariate(1.0 / rate), self._act, action, rate)

    def _a_while(self) -> float:
        """From a fraction of an election timeout to several."""
        return self._timeout * self._random.choice((0.1, 0.5, 1.5, 4.0)) * self._random.random()

    def _leader(self) -> Node | None:
        """The one of the newest term."""
        leading = [
            (node.process.raft.server.current_term, node.name)
            for node in self._world.nodes.values()
            if node.process is not None and node.process.raft.server.role is Role.LEADER
        ]
        return self._world.nodes[max(leading)[1]] if leading else None

    def _victim(self) -> Node:
        """Often the leader: that is where it hurts."""
        leader = self._leader()
        if leader is not None and self._random.random() < 0.5:
            return leader
        return self._random.choice(list(self._world.nodes.values()))

    def _later(self, action: Callable[[], None], seconds: float | None = None) -> None:
        delay = self._a_while() if seconds is None else seconds
        self._world.events.after(delay, self._mend, action)

    def _mend(self, action: Callable[[], None]) -> None:
        if not self._world.healed:
            action()

    # ---- the network

    def _cut(self, kind: str, pairs: list[tuple[str, str]], seconds: float | None = None) -> None:
        """Mostly it takes the place of the cut before: with several a cluster does nothing."""
        world = self._world
        world.count(kind)
        world.say(f"{kind}: {', '.join(f'{one} to {other}' for one, other in pairs)}")
        if self._random.random() < 0.8:
            world.network.cut.clear()
        world.network.cut.update(pairs)

        def heal() -> None:
            world.network.cut.difference_update(pairs)
            world.say(f"{kind} of {pairs[0][0]} to {pairs[0][1]} ends")

        self._later(heal, seconds)

    def _one_way_cut(self) -> None:
        victim = self._victim().name
        others = [name for name in self._world.nodes if name != victim]
        some = others if self._random.random() < 0.5 else [self._random.choice(others)]
        if self._random.random() < 0.5:
            self._cut("one-way cut", [(victim, other) for other in some])
        else:
            self._cut("one-way cut", [(other, victim) for other in some])

    def _partition(self) -> None:
        names = list(self._world.nodes)
        self._random.shuffle(names)
        middle = self._random.randrange(1, len(names))
        self._split(names[:middle], names[middle:], "partition")

    def _isolation(self) -> None:
        victim = self._victim().name
        others = [name for name in self._world.nodes if name != victim]
        self._split([victim], others, "isolation")

    def _old_leader(self) -> None:
        """Nobody hears the leader any more, and its clock is so slow that it leads on for long,
        while its clients still ask it, and others elect another one."""
        leader = self._leader()
        if leader is None:
            return
        others = [name for name in self._world.nodes if name != leader.name]
        pairs = [(other, leader.name) for other in others]
        if self._random.random() < 0.7:
            pairs += [(one, other) for other, one in pairs]
        self._run_clock(leader, 0.5)
        seconds = self._timeout * self._random.uniform(1.5, 3.0)
        self._cut("old leader", pairs, seconds)
        self._later(lambda: self._run_clock(leader, 1.0), seconds)

    def _split(self, one: list[str], other: list[str], kind: str) -> None:
        pairs = [(a, b) for a in one for b in other]
        self._cut(kind, pairs + [(b, a) for a, b in pairs])

    # ---- processes

    def _pause(self) -> None:
        process = self._victim().process
        if process is None or process.paused:
            return
        self._world.count("pause")
        self._world.say(f"{process.name} is stopped")
        process.paused = True

        def resume() -> None:
            self._world.say(f"{process.name} continues")
            process.resume()

        self._later(resume)

    def _kill(self) -> None:
        for node in self._victims():
            self._world.count("kill")
            self._world.lives.kill(node, power=False, what="is killed")

    def _power_loss(self) -> None:
        for node in self._victims():
            self._world.count("power loss")
            self._world.lives.kill(node, power=True, what="loses power")

    def _victims(self) -> list[Node]:
        """Mostly one; at times everything stands in the same rack."""
        nodes = list(self._world.nodes.values()) if self._random.random() < 0.15 else []
        return [node for node in nodes or [self._victim()] if node.process is not None]

    def _clean_restart(self) -> None:
        node = self._victim()
        process = node.process
        if process is None or process.paused:
            return
        self._world.count("clean restart")
        try:
            process.disk.close(clean=True)
        except (DiskFull, StorageFailed) as error:
            self._world.say(f"{node.name} cannot say that it ends: {error}")
        except Crashed as crash:
            self._world.lives.crashed(process, crash)
            return
        self._world.lives.kill(node, power=False, what="ends cleanly")

    def _clock_rate(self) -> None:
        self._run_clock(self._victim(), self._random.choice((0.5, 0.9, 0.99, 1.01, 1.1, 2.0)))

    def _run_clock(self, node: Node, rate: float) -> None:
        self._world.count("clock rate")
        self._world.say(f"the clock of {node.name} runs {rate} times as fast")
        node.clock.set_rate(self._world.events.now, rate)
        if node.process is not None:
            node.process.enter(node.process.clock_changed)

    # ---- disks

    def _crash_in_disk_operation(self) -> None:
        """Soon, or in the next start."""
        node = self._victim()
        if node.disk_faults.crash_in is None:
            node.disk_faults.crash_in = self._random.choice((1, 2, 3, 5, 8, 15, 30))

    def _fsync_error(self) -> None:
        self._victim().disk_faults.failing_syncs += 1

    def _write_error(self) -> None:
        self._victim().disk_faults.failing_writes += 1

    def _disk_full(self) -> None:
        node = self._victim()
        faults = node.disk_faults
        if faults.full:
            return
        faults.full = True
        faults.full_for_overwrites = self._random.random() < 0.3
        self._world.say(f"the disk of {node.name} is full")

        def free() -> None:
            faults.full = faults.full_for_overwrites = False
            self._world.say(f"the disk of {node.name} has space again")

        self._later(free)

    def _slow_disk(self) -> None:
        node = self._victim()
        node.slow_disk = self._timeout * self._random.choice((0.2, 1.0, 3.0))
        self._world.count("slow disk")
        self._world.say(f"the disk of {node.name} is slow")

        def mend() -> None:
            node.slow_disk = 0.0

        self._later(mend)

    def _bit_rot(self) -> None:
        """Of a minority at most; found when the node starts, or never."""
        world = self._world
        node = self._victim()
        broken = [each.name for each in world.nodes.values() if each.rotten]
        if node.rotten or len(broken) >= (len(world.nodes) - 1) // 2 or not node.lives:
            return
        world.count("bit rot")
        world.lives.kill(node, power=True, what="loses power")
        node.rotten = True
        world.say(f"a bit flips in {node.drive.rot()}")

    # ---- operators

    def _transfer(self) -> None:
        world = self._world
        process = self._victim().process
        target = self._random.choice((None, *world.nodes))
        if process is not None:
            process.enter(process.serving.transfer, target)
