"""When replies leave, and how many go together: between two sockets that keep packets apart."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import wait_all_tasks_blocked

from raftd.admin.connection import Connection
from raftd.admin.handlers import Handlers
from raftd.admin.handlers.call import Call
from raftd.admin.intake import Intake
from raftd.admin.limits import Limits, Memory
from raftd.driver.errors import Busy
from raftd.driver.proposal import Applied
from raftd.kv import commands
from raftd.promise import Promise
from tests.admin.clients import VERSION, call_bytes, put
from tests.admin.fake_driver import FakeDriver


class PatientDriver(FakeDriver):
    """What is proposed is done when a test says so; when it is `busy`, it is refused at once."""

    def __init__(self) -> None:
        super().__init__()
        self.promises: list[Promise[Applied]] = []
        self.busy = False

    def propose(self, body: bytes, *, uid: int, timeout: float) -> Promise[Applied]:
        if self.busy:
            return Promise.failed(Busy("why"))
        self.promises.append(Promise())
        return self.promises[-1]

    def finish(self, *numbers: int) -> None:
        result = commands.encode(commands.Changed(7, existed=True))
        for number in numbers:
            self.promises[number].set(Applied(7, 1, result))


@asynccontextmanager
async def connected(driver: FakeDriver) -> AsyncIterator[tuple[Connection, socket.socket]]:
    """A connection that is served, and the client's end, which never blocks."""
    ours, client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    client.setblocking(False)
    handlers = Handlers(driver, reload=lambda: None)
    intake = Intake()
    caller = Call(uid=0, privileged=True)
    connection = Connection(ours, handlers, caller, Limits(), Memory(1 << 20), intake)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(intake.run)
        async with trio.open_nursery() as connections:
            connections.start_soon(connection.run)
            await wait_all_tasks_blocked()
            yield connection, client
            client.close()
        nursery.cancel_scope.cancel()
    intake.close()


def packets(client: socket.socket) -> list[int]:
    """How many replies came in each packet that is there."""
    counts: list[int] = []
    try:
        while packet := client.recv(65536):
            counts.append(packet.count(b"\0"))
    except BlockingIOError:
        pass
    return counts


async def test_a_lone_reply_leaves_at_once() -> None:
    driver = PatientDriver()
    async with connected(driver) as (_, client):
        client.send(put())
        await wait_all_tasks_blocked()
        assert packets(client) == []
        driver.finish(0)
        assert packets(client) == [1]


async def test_replies_that_are_ready_together_leave_together() -> None:
    driver = PatientDriver()
    async with connected(driver) as (_, client):
        client.send(put() * 9 + call_bytes(VERSION))
        await wait_all_tasks_blocked()
        driver.finish(1, 0, 2, 4)
        await wait_all_tasks_blocked()
        assert packets(client) == [3]
        driver.finish(8, 7, 6, 5, 3)
        await wait_all_tasks_blocked()
        assert packets(client) == [7]


async def test_replies_that_need_no_wait_leave_together() -> None:
    driver = PatientDriver()
    driver.busy = True
    async with connected(driver) as (_, client):
        client.send(put() * 50)
        await wait_all_tasks_blocked()
        assert packets(client) == [50]
        client.send(put())
        await wait_all_tasks_blocked()
        assert packets(client) == [1]


async def test_nothing_is_begun_after_the_stop() -> None:
    driver = PatientDriver()
    async with connected(driver) as (connection, client):
        client.send(put())
        await wait_all_tasks_blocked()
        client.send(put())
        connection.stop()
        connection.read()
        await wait_all_tasks_blocked()
        assert len(driver.promises) == 1
        driver.finish(0)
        assert packets(client) == [1]
