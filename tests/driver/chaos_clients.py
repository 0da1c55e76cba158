"""Clients of chaos.py: each does one thing after another, at any node, and writes it down."""

from __future__ import annotations

from random import Random

import msgspec
import trio

from raftd.driver import errors
from raftd.driver.driver import Driver
from raftd.kv import commands
from tests.driver.cluster import Cluster, Node
from tests.history import Kind, Operation, Outcome

KEYS = 2
TIMEOUT = 2.0
PATIENCE = 8.0
"""Seconds after which a call of `TIMEOUT` will never end."""
VALUE_BYTES = 300


class Clients:
    """`history` is what they did and saw; every value is written once."""

    def __init__(self, cluster: Cluster, dice: Random) -> None:
        self._cluster = cluster
        self._dice = dice
        self._count = 0
        self._seen: dict[str, str | None] = {}
        self.history: list[Operation] = []
        self.endless = 0
        """Calls that did not end although their node went on."""

    async def run(self, process: int) -> None:
        while True:
            await trio.sleep(self._dice.expovariate(10))
            up = [node for node in self._cluster.nodes.values() if node.is_up]
            if up:
                await self._do(process, self._dice.choice(up))

    async def _do(self, process: int, node: Node) -> None:
        kind: Kind = self._dice.choice(("put", "get", "get", "cas", "delete"))
        key = f"k{self._dice.randrange(KEYS)}"
        self._count += 1
        value = str(self._count) if kind in {"put", "cas"} else None
        expected = self._seen.get(key) if kind == "cas" else None
        operation = Operation(process, _now(), 0, kind, key, value, expected, node=node.name)
        driver = node.driver
        outcome: Outcome = "unknown"
        result = None
        try:
            with trio.fail_after(PATIENCE):
                outcome, result = await _call(driver, operation)
        except trio.TooSlowError:
            self.endless += node.is_up and node.driver is driver
        except errors.OutcomeUnknown:
            pass
        except errors.CallFailed:
            outcome = "failed"
        finally:  # also if the end of all clients comes first: it may be done
            self._note(operation, outcome, result)

    def _note(self, operation: Operation, outcome: Outcome, result: str | None) -> None:
        is_read = operation.operation == "get"
        if is_read and outcome != "ok":
            return
        if is_read or outcome == "mismatch":
            self._seen[operation.key] = result
        self.history.append(
            msgspec.structs.replace(operation, returned=_now(), outcome=outcome, result=result)
        )


async def _call(driver: Driver, operation: Operation) -> tuple[Outcome, str | None]:
    key = operation.key.encode()
    if operation.operation == "get":
        query = commands.encode(commands.Get(key))
        answer = await driver.read(query, stale=False, timeout=TIMEOUT)
        items = commands.decode_items(answer).items
        return "ok", items[0].value.decode().strip() if items else None
    command: commands.Put | commands.Delete | commands.CompareAndSet = commands.Delete(key)
    new = _padded(operation.value)
    if operation.operation == "cas":
        command = commands.CompareAndSet(key, None, _padded(operation.expected), new)
    elif new is not None:
        command = commands.Put(key, new)
    applied = await driver.propose(commands.encode(command), uid=0, timeout=TIMEOUT)
    result = commands.decode_result(applied.result)
    if isinstance(result, commands.CompareFailed):
        return "mismatch", None if result.value is None else result.value.decode().strip()
    assert isinstance(result, commands.Changed), f"{operation} was refused: {result}"
    return "ok", None


def _padded(value: str | None) -> bytes | None:
    """So long that the log grows."""
    return None if value is None else value.ljust(VALUE_BYTES).encode()


def _now() -> int:
    return round(trio.current_time() * 1e9)
