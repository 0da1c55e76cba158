"""What a seed decides before anything happens: the cluster, its settings, and its faults.

Each seed has only some of the faults, at rates of its own (swarm testing: Groce et al. 2012): a run
with all of them at once never gets far enough into any.
"""

from __future__ import annotations

from random import Random

import msgspec

from raftd.raft.state import Settings

FAULTS = (
    "drop",
    "duplicate",
    "delay",
    "one-way cut",
    "partition",
    "isolation",
    "old leader",
    "pause",
    "kill",
    "power loss",
    "crash in disk operation",
    "clean restart",
    "fsync error",
    "write error",
    "disk full",
    "slow disk",
    "bit rot",
    "clock rate",
    "leadership transfer",
    "reconfiguration",
)
"""Kinds that `_rates` chooses from."""


class Plan(msgspec.Struct, frozen=True):
    """Times in virtual seconds, sizes in bytes. `rates`: mean seconds between two such faults, or,
    for drop, duplicate and delay, the share of messages."""

    seed: int
    theme: str
    nodes: int
    settings: Settings
    segment_bytes: int
    snapshot_log_bytes: int
    duration: float
    """How long faults go on."""
    clients: int
    keys: int
    think_time: float
    value_bytes: int
    latency: float
    """Of a message, at least; it takes up to three times as long, when nothing is wrong."""
    disk_latency: float
    rates: dict[str, float]
    long_delays: float
    """A delayed message takes up to three election timeouts longer; 1: any share of that is as
    likely, 4: mostly a small one."""
    late_answers: bool
    """Answers arrive even when their request was given up, and twice if duplicated."""
    check_incarnation: bool
    """Messages from an earlier life of their sender are refused, as raftd.driver.peers does."""
    short_operations: bool
    group: float
    """Share of inputs after which the node looks at its update a little later, with more."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"n{number + 1}" for number in range(self.nodes))

    @property
    def liveness(self) -> float:
        """Virtual seconds, from the end of all faults, within which everybody has caught up.

        An InstallSnapshot request counts as lost only after ten election timeouts, and a
        transfer, an election or two, and a full disk that is tried again may come on top.
        """
        return 25.0 * self.settings.election_timeout[1] + 10.0


THEMES: dict[str, dict[str, float]] = {
    "": {},
    "snapshots": {"delay": 0.2, "isolation": 4.0, "pause": 4.0, "slow disk": 4.0},
    "elections": {
        "leadership transfer": 0.5,
        "isolation": 4.0,
        "delay": 0.2,
        "duplicate": 0.4,
        "drop": 0.03,
    },
    "disks": {
        "slow disk": 1.5,
        "crash in disk operation": 2.0,
        "power loss": 4.0,
        "fsync error": 5.0,
        "leadership transfer": 1.0,
    },
    "rot": {"bit rot": 2.5, "clean restart": 5.0, "power loss": 8.0},
    "partitions": {"old leader": 4.0, "isolation": 5.0, "one-way cut": 8.0, "partition": 8.0},
}
"""What half of the seeds are about, on top of what else they have: rare things need company."""


def plan(seed: int) -> Plan:
    random = Random(f"plan {seed}")
    theme = random.choice(("", "", "", "", *list(THEMES)[1:]))
    rates = _rates(random) | THEMES[theme] | _membership(seed)
    if "membership" in rates:
        rates.pop("bit rot", None)
    snapshots = theme in {"snapshots", "rot"} or random.random() < 0.7
    segment_bytes = random.choice((4096, 4096, 8192))
    settings = _settings(random, small=snapshots or random.random() < 0.5)
    snapshot_log_bytes = settings.tail_bytes + int(segment_bytes * random.choice((1.2, 2.0, 3.0)))
    return Plan(
        seed=seed,
        theme=theme,
        nodes=random.choice((3, 5)) if theme == "elections" else random.choice((3, 3, 3, 5)),
        settings=settings,
        segment_bytes=segment_bytes,
        snapshot_log_bytes=snapshot_log_bytes if snapshots else 1 << 30,
        duration=random.uniform(10.0, 25.0),
        clients=random.choice((2, 4, 6)),
        keys=random.choice((1, 2, 3, 5)),
        think_time=random.choice((0.02, 0.05, 0.2)),
        value_bytes=random.choice((1, 20, 200)),
        latency=random.choice((0.0005, 0.002, 0.01)),
        disk_latency=random.choice((0.0005, 0.003, 0.02)),
        rates=rates,
        long_delays=random.choice((1.0, 2.0, 4.0)) if not theme else 1.0,
        late_answers=random.random() < 0.5,
        check_incarnation=random.random() < 0.6,
        short_operations=random.random() < 0.3,
        group=random.choice((0.0, 0.2, 0.7)),
    )


def _settings(random: Random, *, small: bool) -> Settings:
    shortest = random.choice((0.4, 0.6, 0.8, 1.0))
    return Settings(
        election_timeout=(shortest, 2 * shortest),
        heartbeat_interval=shortest / random.choice((4, 5, 8)),
        max_append_bytes=random.choice((200, 500, 2000, 1 << 20)),
        max_in_flight=random.choice((1, 2, 2, 4)),
        max_uncommitted_bytes=random.choice((2000, 8000, 1 << 20)),
        tail_bytes=random.choice((0, 300, 1000, 5000)) if small else 1 << 20,
        snapshot_chunk_bytes=random.choice((100, 300, 1000, 1 << 16)),
    )


def _membership(seed: int) -> dict[str, float]:
    """Every fourth seed changes members, often or more often; nobody is lost for good in it."""
    return {} if seed % 4 != 3 else {"membership": (0.7, 1.5, 3.0)[seed // 4 % 3]}


def _rates(random: Random) -> dict[str, float]:
    """Some of the faults: of a typical seed about half."""
    share = random.choice((0.2, 0.4, 0.6))
    rates: dict[str, float] = {}
    for fault in FAULTS:
        if random.random() >= share:
            continue
        if fault == "drop":
            rates[fault] = random.choice((0.01, 0.05, 0.15))
        elif fault == "duplicate":
            rates[fault] = random.choice((0.02, 0.1, 0.4))
        elif fault == "delay":
            rates[fault] = random.choice((0.02, 0.1, 0.3))
        elif fault == "leadership transfer":
            rates[fault] = random.choice((0.3, 1.0, 5.0))
        elif fault in {"bit rot", "write error"}:
            rates[fault] = random.uniform(8.0, 20.0)
        else:
            rates[fault] = random.uniform(1.0, 10.0)
    return rates
