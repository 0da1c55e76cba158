"""The measuring part of a load generator in Python, as load/main.go has it in Go."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import msgspec

from tests.bench.generator import Sample
from tests.bench.processes import cpu_seconds, machine_cpu_seconds


class Options(msgspec.Struct, frozen=True):
    """What load/main.go's options of the same names mean. Times in seconds."""

    target: str
    operation: str = "put"
    clients: int = 1
    pipeline: int = 0
    size: int = 128
    keys: int = 10_000
    warm: float = 0.3
    duration: float = 2.0
    operations: int = 0
    pids: Sequence[int] = ()


def parse(arguments: Sequence[str]) -> Options:
    """Exits with 2 if they make no sense."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("target", "operation", "warm", "duration", "pids"):
        parser.add_argument(f"-{name}")
    for name in ("clients", "pipeline", "size", "keys", "operations", "connections"):
        parser.add_argument(f"-{name}", type=int)
    given = {key: value for key, value in vars(parser.parse_args(arguments)).items() if value}
    given.pop("connections", None)
    for name in {"warm", "duration"} & given.keys():
        given[name] = float(given[name].removesuffix("s"))
    if "pids" in given:
        given["pids"] = [int(pid) for pid in given["pids"].split(",")]
    return Options(**given)


class Measurement:
    """Call `more` before each call, `ended` after it, `sample` when all have ended."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._issued = 0
        self._milliseconds: list[float] = []
        self._errors = 0
        self._first_error = ""
        self.begin = time.perf_counter() + (0 if options.operations else options.warm)
        self.end = self.begin + options.duration
        self._before: tuple[float, ...] = ()
        self._after: tuple[float, ...] = ()
        if options.operations:
            self._before = self._usage()

    def more(self, now: float) -> int | None:
        """The number of the next call's key; None if there is no next."""
        number = self._issued
        if self._options.operations:
            if number >= self._options.operations or now >= self.end:
                return None
        else:
            if not self._before and now >= self.begin:
                self._before = self._usage()
            if now >= self.end:
                if not self._after:
                    self._after = self._usage()
                return None
            number *= 7919  # a prime: any order will do, as long as it is not that of the keys
        self._issued += 1
        return number % self._options.keys

    def ended(self, start: float, now: float, error: str = "") -> None:
        if error:
            self._errors += 1
            self._first_error = self._first_error or error
        elif self._options.operations or self.begin <= now <= self.end:
            self._milliseconds.append((now - start) * 1e3)

    def sample(self) -> Sample:
        after = self._after or self._usage()
        used = [now - was for now, was in zip(after, self._before or after, strict=True)]
        seconds = self._options.duration
        if self._options.operations:
            seconds = time.perf_counter() - self.begin
        times = sorted(self._milliseconds) or [0.0]
        return Sample(
            operations=len(self._milliseconds),
            seconds=seconds,
            p50_ms=times[(len(times) - 1) // 2],
            p99_ms=times[int((len(times) - 1) * 0.99)],
            max_ms=times[-1],
            errors=self._errors,
            first_error=self._first_error,
            server_cpu_s=used[2:],
            generator_cpu_s=used[1],
            machine_cpu_s=used[0],
        )

    def _usage(self) -> tuple[float, ...]:
        servers = (cpu_seconds(pid) for pid in self._options.pids)
        return (machine_cpu_seconds(), time.process_time(), *servers)


def print_sample(sample: Sample) -> None:
    """As the generators in Go do."""
    print(msgspec.json.encode(sample).decode(), flush=True)
