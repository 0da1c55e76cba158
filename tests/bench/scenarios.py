"""What is measured, and under which name."""

from __future__ import annotations

import msgspec

SMALL = 128
LARGE = 16 << 10
SIZES = {SMALL: "128 B", LARGE: "16 KiB"}
KEYS = {SMALL: 10_000, LARGE: 1_000}
"""So many different keys; all of them have a value before anything is measured."""
WINDOW = 1000
"""Calls in flight on the one connection of a pipelined scenario."""


class Scenario(msgspec.Struct, frozen=True):
    """Clients with one call in flight each, or one connection that is `pipelined`.

    `forwarded`: through a follower. `apart`: each client is a program of its own; for raftd that is
    always so, as each has a connection to the socket. Otherwise etcd's clients share one gRPC
    connection, as the goroutines of one program do, which is what etcd is fastest with.
    `headline`: goals speak of it.
    """

    name: str
    operation: str = "put"
    clients: int = 1
    size: int = SMALL
    pipelined: bool = False
    forwarded: bool = False
    apart: bool = False
    headline: bool = False


def _small(operation: str) -> list[Scenario]:
    found = [
        Scenario(
            f"{operation}-{clients}",
            operation,
            clients,
            headline=operation == "put" or clients == 100,
        )
        for clients in (1, 16, 100, 400)
    ]
    pipelined = Scenario(
        f"{operation}-pipelined", operation, pipelined=True, headline=operation == "put"
    )
    return [*found, pipelined]


def _large(operation: str) -> list[Scenario]:
    found = [
        Scenario(f"{operation}-{clients}-16k", operation, clients, LARGE)
        for clients in (1, 16, 100)
    ]
    return [*found, Scenario(f"{operation}-pipelined-16k", operation, size=LARGE, pipelined=True)]


SCENARIOS = (
    *_small("put"),
    *_small("get"),
    Scenario("put-100-forwarded", clients=100, forwarded=True, headline=True),
    Scenario("put-1-forwarded", forwarded=True),
    Scenario("get-100-follower", "get", 100, forwarded=True),
    Scenario("put-100-apart", clients=100, apart=True),
    Scenario("get-100-apart", "get", 100, apart=True),
    *_large("put"),
    *_large("get"),
)
