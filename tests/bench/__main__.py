"""`python -m tests.bench`: raftd and etcd in turns, on the same machine and disk."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import generator
from tests.bench.processes import MIB, memory
from tests.bench.scenarios import KEYS, LARGE, SCENARIOS, SMALL, WINDOW, Scenario
from tests.bench.systems import Etcd, Raftd

BUILD = Path("build/bench")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--without-etcd", action="store_true")
    parser.add_argument("--source", type=Path, help="the tree whose raftd is run")
    parser.add_argument("--against", type=Path, help="another tree whose raftd is run, too")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 0.7
    wanted = [s for s in SCENARIOS if (s.headline if options.quick else True)]
    if options.only:
        names = options.only.split(",")
        wanted = [s for s in SCENARIOS if s.name in names]
    directory = Path(tempfile.mkdtemp(prefix="raftd-bench-", dir="/var/tmp"))
    systems = [Raftd(directory / "raftd", source=options.source)]
    if options.against:
        systems.append(Raftd(directory / "other", source=options.against, name="other"))
    if not options.without_etcd:
        systems.append(Etcd(directory / "etcd"))
    commands = {
        s.name: [str(generator.build("etcd" if s.name == "etcd" else "raftd", BUILD).absolute())]
        for s in systems
    }
    samples = {}
    try:
        for system in systems:
            system.start()
        for size in (SMALL, LARGE):
            chosen = [s for s in wanted if s.size == size]
            if not chosen:
                continue
            for system in systems:
                fill(commands[system.name], system, size)
            for number in range(options.rounds):
                for scenario in chosen:
                    for system in systems:
                        sample = measure(commands[system.name], system, scenario, options.seconds)
                        samples.setdefault((scenario.name, system.name), []).append(sample)
                print(f"round {number + 1}", flush=True)
            print(f"{'':20} {'raftd':>40}   {'etcd':>40}")
            for scenario in chosen:
                show(scenario, systems, samples)
            for system in systems:
                peaks = [
                    f"{memory(pid).peak / MIB:.0f} ({memory(pid).anonymous / MIB:.0f})"
                    for pid in system.pids()
                ]
                print(
                    f"{system.name}: leader {system.leader()}, peak MiB (anonymous now): {' '.join(peaks)}"
                )
    finally:
        for system in systems:
            system.close()
        directory.rmdir()
    return 0


def fill(command, system, size) -> None:
    generator.run(
        command,
        system.target(system.leader()),
        operation="put",
        pipeline=WINDOW,
        size=size,
        keys=KEYS[size],
        operations=KEYS[size],
        warm="0s",
    )


def measure(command, system, scenario: Scenario, seconds: float):
    leader = system.leader()
    node = (leader + 1) % 3 if scenario.forwarded else leader
    sharing = {"connections": 1} if system.name == "etcd" else {}
    shape = {"pipeline": WINDOW} if scenario.pipelined else {"clients": scenario.clients}
    return generator.run(
        command,
        system.target(node),
        operation=scenario.operation,
        size=scenario.size,
        keys=KEYS[scenario.size],
        duration=f"{seconds}s",
        pids=",".join(map(str, system.pids())),
        **shape,
        **sharing,
    )


def show(scenario, systems, samples) -> None:
    line = f"{scenario.name:20}"
    for system in systems:
        own = samples[scenario.name, system.name]
        rate = statistics.median(s.rate for s in own)
        p50 = statistics.median(s.p50_ms for s in own)
        p99 = statistics.median(s.p99_ms for s in own)
        cpu = statistics.median(s.cpu_s_per_10k for s in own)
        gen = statistics.median(s.generator_cpu_s / s.seconds for s in own)
        other = statistics.median(
            (s.machine_cpu_s - s.generator_cpu_s - sum(s.server_cpu_s)) / s.seconds for s in own
        )
        errors = sum(s.errors for s in own)
        line += f" | {rate:7.0f}/s p50 {p50:6.2f} p99 {p99:6.1f} cpu {cpu:5.2f} gen {gen:4.2f} oth {other:4.2f}{f' {errors} ERRORS' if errors else ''}"
    for other in systems[1:]:
        a, b = (samples[scenario.name, s.name] for s in (systems[0], other))
        ratio = statistics.median(x.rate / y.rate for x, y in zip(a, b))
        p50 = statistics.median(x.p50_ms / y.p50_ms for x, y in zip(a, b))
        p99 = statistics.median(x.p99_ms / y.p99_ms for x, y in zip(a, b))
        line += f" | /{other.name}: x{ratio:.2f} p50 x{p50:.2f} p99 x{p99:.2f}"
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
