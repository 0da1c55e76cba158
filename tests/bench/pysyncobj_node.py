"""One node of PySyncObj, and the load on it.

    python -m tests.bench.pysyncobj_node SOCKET FILE OWN-ADDRESS OTHER-ADDRESS…

PySyncObj is a library: its clients are inside its process, and so is this load. SOCKET takes one
line for each connection: `leader`, or the options of a load generator; it answers with one line.
FILE is its journal, which is written through a memory map and never synced.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

import msgspec
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated

from tests.bench.generator import Sample
from tests.bench.measuring import Measurement, Options, parse

PERIOD_S = 0.002
"""The leader sends what has gathered this often. The default, 0.1 s, is also what a put then takes;
less than this makes the rates lower again."""


class Store(SyncObj):  # type: ignore[misc]
    """A replicated dict."""

    def __init__(self, own: str, others: list[str], journal: str) -> None:
        self.values: dict[str, bytes] = {}
        super().__init__(
            own,
            others,
            SyncObjConf(journalFile=journal, appendEntriesPeriod=PERIOD_S, autoTickPeriod=PERIOD_S),
        )

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: str, value: bytes) -> None:
        self.values[key] = value


def load(store: Store, options: Options) -> Sample:
    """`options.clients` calls in flight: each answer's callback makes the next call."""
    value = os.urandom(options.size)
    measurement = Measurement(options)
    lock = threading.Lock()
    left = threading.Semaphore(0)

    def issue() -> None:
        now = time.perf_counter()
        with lock:
            key = measurement.more(now)
        if key is None:
            left.release()
            return

        def answered(_: object, error: int) -> None:
            with lock:
                failed = "" if error == FAIL_REASON.SUCCESS else f"error {error}"
                measurement.ended(now, time.perf_counter(), failed)
            issue()

        store.put(f"key{key:09}", value, callback=answered)

    for _ in range(options.clients):
        issue()
    for _ in range(options.clients):
        left.acquire()
    return measurement.sample()


def main() -> None:
    path, journal, own, *others = sys.argv[1:]
    store = Store(own, others, journal)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection = listener.accept()[0]
            with connection, connection.makefile("rw") as stream:
                words = stream.readline().split()
                if words == ["leader"]:
                    stream.write(f"{store._getLeader()}\n")
                else:
                    sample = load(store, parse(words))
                    stream.write(msgspec.json.encode(sample).decode() + "\n")


if __name__ == "__main__":
    main()
