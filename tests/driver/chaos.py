"""Whole clusters of real drivers in trio's virtual time, with everything that may happen to them.

    python -m tests.driver.chaos SEED            one seed, with its story
    python -m tests.driver.chaos --seeds 100     many

tests/simulation has something of its own in place of raftd.driver; here that is what is tested,
where its tasks meet: whatever it has done elsewhere takes any time. Messages are lost, late and
doubled, nodes crash, are cut off, lose their state, and operators do what they do. What leaves
speaks only of what is on disk; at the end nothing may have failed, histories are linearizable, and
all have caught up, with one state.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import msgspec
import trio
from trio.testing import MockClock

from raftd.raft.state import HardState, Role, SnapshotMetadata
from raftd.raft.update import Outgoing
from raftd.storage.disk import Disk
from tests.driver.chaos_clients import Clients
from tests.driver.chaos_nemesis import Nemesis
from tests.driver.chaos_weather import Plan, Storm, plan
from tests.driver.cluster import Cluster, Node, running
from tests.history import Operation
from tests.linearizability import check
from tests.raft.durability_law import check_durable

STORM = 60.0
"""Virtual seconds."""
CALM = 90.0
"""Virtual seconds behind it within which all have caught up."""
CLIENTS = 4


class Result(msgspec.Struct, frozen=True):
    """What came of a seed. `problems` is empty if all was well."""

    seed: int
    problems: tuple[str, ...]
    history: tuple[Operation, ...]
    faults: Counter[str]

    def __str__(self) -> str:
        if not self.problems:
            return f"seed {self.seed}: all is well after {len(self.history)} operations"
        return (
            "\n  ".join((f"seed {self.seed} fails:", *self.problems))
            + f"\n  once more, with its story: python -m tests.driver.chaos {self.seed}"
        )


def run_seed(seed: int) -> Result:
    """The same every time."""
    with _one_order(seed), tempfile.TemporaryDirectory() as directory:
        run = _Run(plan(seed), Path(directory)).run
        try:
            return trio.run(run, clock=MockClock(autojump_threshold=0))
        except Exception as error:
            return Result(seed, tuple(_causes(error)), (), Counter())


@contextmanager
def _one_order(seed: int) -> Iterator[None]:
    """Trio runs tasks in a random order, as Hypothesis has it when it wants the same again."""
    core = vars(trio._core._run)
    dice, known = core["_r"], core["_ALLOW_DETERMINISTIC_SCHEDULING"]
    state = dice.getstate()
    dice.seed(seed)
    core["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    try:
        yield
    finally:
        dice.setstate(state)
        core["_ALLOW_DETERMINISTIC_SCHEDULING"] = known


class _Run:
    def __init__(self, plan: Plan, directory: Path) -> None:
        self._plan = plan
        self._directory = directory
        self._dice = Random(f"run {plan.seed}")
        self._storm = Storm(plan, self._dice)
        self._problems: list[str] = []

    async def run(self) -> Result:
        async with running(
            self._directory,
            self._plan.nodes,
            raft=self._plan.settings,
            segment_bytes=8192,
            snapshot_log_bytes=16_384,
            log_tail_bytes=self._plan.log_tail_bytes,
            weather=self._storm,
            prepare=self._watch,
        ) as cluster:
            clients = Clients(cluster, self._dice)
            async with trio.open_nursery() as nursery:
                nemesis = Nemesis(
                    cluster, nursery, self._dice, changes_members=self._plan.changes_members
                )
                with trio.move_on_after(STORM):
                    await self._blow(clients, nemesis)
                await self._calm_down(cluster, nemesis)
                nursery.cancel_scope.cancel()
            self._judge(cluster, clients, nemesis)
        faults = self._storm.faults + nemesis.faults
        return Result(self._plan.seed, tuple(self._problems), tuple(clients.history), faults)

    async def _blow(self, clients: Clients, nemesis: Nemesis) -> None:
        async with trio.open_nursery() as nursery:
            for process in range(CLIENTS):
                nursery.start_soon(clients.run, process)
            nursery.start_soon(nemesis.run)

    async def _calm_down(self, cluster: Cluster, nemesis: Nemesis) -> None:
        """Everybody is there and hears the others: then they have to come to one state."""
        self._storm.over = True
        cluster.network.heal()
        with trio.move_on_after(CALM):
            while True:
                await trio.sleep(1)
                for node in list(cluster.nodes.values()):
                    self._look(node)
                    await nemesis.start(node)
                if _is_at_one(cluster):
                    return
        self._problems.append("they do not come to one state: " + ", ".join(_views(cluster)))

    def _watch(self, node: Node) -> None:
        """Whatever leaves the node is checked against its disk."""
        exchange, durable = node.driver._exchange, _OnDisk(node.disk)
        send, expect_snapshot = exchange.send, node.driver.applier.expect_snapshot

        def checked(outgoing: Outgoing) -> None:
            campaigns = node.role is Role.CANDIDATE
            check_durable(node.name, outgoing, durable, campaigns=campaigns)
            send(outgoing)

        def counted(index: int) -> None:
            self._storm.faults["snapshot installed"] += 1
            expect_snapshot(index)

        exchange.send = checked  # type: ignore[method-assign]
        node.driver.applier.expect_snapshot = counted  # type: ignore[method-assign]

    def _look(self, node: Node) -> None:
        """What has ended it."""
        if node.error is not None:
            self._problems += [f"{node.name} failed: {each}" for each in _causes(node.error)]
            node.error = None

    def _judge(self, cluster: Cluster, clients: Clients, nemesis: Nemesis) -> None:
        self._problems += nemesis.broken
        if clients.endless:
            self._problems.append(f"{clients.endless} calls never ended")
        illegal = check(clients.history)
        if illegal is not None:
            self._problems.append(f"not linearizable: {illegal.explanation}")
        diverged = [node.driver.applier.diverged for node in cluster.nodes.values()]
        self._problems += [reason for reason in diverged if reason is not None]
        if not self._problems and len({_image(node) for node in _members(cluster)}) > 1:
            self._problems.append("the states differ")


class _OnDisk:
    """What a crash of the process does not take."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    @property
    def hard_state(self) -> HardState:
        return self._disk._hard_state.value

    @property
    def snapshot(self) -> SnapshotMetadata:
        return self._disk.snapshot

    @property
    def last_index(self) -> int:
        return self._disk.last_index


def _members(cluster: Cluster) -> list[Node]:
    """Those that the leader counts, and that have a host."""
    (leader,) = cluster.leaders()
    members = leader.driver.raft.server.configuration.members
    return [cluster[name] for name in members if name in cluster.nodes]


def _is_at_one(cluster: Cluster) -> bool:
    leaders = cluster.leaders()
    if len(leaders) != 1:
        return False
    last = leaders[0].driver.raft.server.log.last_index
    return all(node.driver.applier.applied_index == last for node in _members(cluster))


def _views(cluster: Cluster) -> Iterator[str]:
    for node in cluster.nodes.values():
        role = node.role.value if node.is_up else "down"
        log, applied = node.driver.raft.server.log, node.driver.applier.applied_index
        yield f"{node.name}, {role}, has applied {applied} of {log.last_index}"


def _image(node: Node) -> str:
    query = "SELECT key, value, revision FROM items ORDER BY key"
    return repr([tuple(row) for row in node.store._writer.execute(query)])


def _causes(error: BaseException) -> Iterator[str]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    else:
        place = traceback.extract_tb(error.__traceback__)[-1]
        yield f"{error!r} in {Path(place.filename).name}:{place.lineno}"


# ---- the command line


class _Story(logging.Handler):
    """What was logged, with virtual times."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{trio.current_time():8.3f}  {record.getMessage()}")


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0 if all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.driver.chaos")
    parser.add_argument("seed", type=int, nargs="?", help="replay this seed and tell its story")
    parser.add_argument("--seeds", type=int, help="run so many seeds")
    parser.add_argument("--first", type=int, default=0, help="with --seeds: from this one on")
    options = parser.parse_args(arguments)
    if options.seeds is not None:
        logging.disable()
        failed = 0
        for seed in range(options.first, options.first + options.seeds):
            result = run_seed(seed)
            failed += bool(result.problems)
            print(result, flush=True)
        return 1 if failed else 0
    if options.seed is None:
        parser.error("which seed? Or --seeds N for many")
    story = _Story()
    logging.basicConfig(level=logging.INFO, handlers=[story])
    try:
        result = run_seed(options.seed)
    finally:
        print(*story.lines, sep="\n")
    print(result)
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
