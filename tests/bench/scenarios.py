"""What is measured, under which name, and what we want of it."""

from __future__ import annotations

import msgspec

SMALL = 128
LARGE = 16 << 10
WINDOW = 1000
KEYS = {SMALL: 10_000, LARGE: 1_000}


class Scenario(msgspec.Struct, frozen=True):
    """`pipelined`: one connection with WINDOW calls in flight, instead of clients with one each."""

    name: str
    operation: str = "put"
    clients: int = 1
    size: int = SMALL
    pipelined: bool = False
    forwarded: bool = False
    headline: bool = False


def _scenarios() -> list[Scenario]:
    found = []
    for operation in ("put", "get"):
        for clients in (1, 16, 100, 400):
            headline = operation == "put" or clients == 100
            name = f"{operation}-{clients}"
            found.append(Scenario(name, operation, clients, headline=headline))
        name = f"{operation}-pipelined"
        found.append(Scenario(name, operation, pipelined=True, headline=operation == "put"))
    found.append(Scenario("put-100-forwarded", clients=100, forwarded=True, headline=True))
    found.append(Scenario("put-1-forwarded", forwarded=True))
    found.append(Scenario("get-100-follower", "get", 100, forwarded=True))
    for operation in ("put", "get"):
        for clients in (1, 16, 100):
            found.append(Scenario(f"{operation}-{clients}-16k", operation, clients, LARGE))
        found.append(Scenario(f"{operation}-pipelined-16k", operation, 1, LARGE, pipelined=True))
    return found


SCENARIOS = _scenarios()
