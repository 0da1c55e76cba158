"""Calls and their answers over real sockets, while nothing is wrong with the network."""

from __future__ import annotations

import socket
from pathlib import Path

import pynng
import pytest
import trio
import trio.testing

from raftd.promise import Promise
from raftd.transport.contexts import Context
from raftd.transport.transport import AddressInUse, CannotListen, Transport, Unreachable
from tests.transport.wire import MAX_BYTES, caller, eventually, port_of, transport

pytestmark = pytest.mark.system


async def echo(request: bytes) -> bytes:
    return b"answer to " + request


def unanswered(request: bytes, certified: str | None) -> Promise[bytes | None]:
    del request, certified
    return Promise.done(None)


async def test_there_and_back() -> None:
    async with transport(echo) as server, caller() as client:
        client.set_peer("a", server.address)
        assert await eventually(lambda: client.call("a", b"x", 5)) == b"answer to x"
        assert await client.call("a", b"", 5) == b"answer to "
        assert await client.call("a", bytes(range(256)), 5) == b"answer to " + bytes(range(256))


async def test_both_ways_between_two_transports() -> None:
    async with transport(echo) as one, transport(echo) as two:
        one.set_peer("two", two.address)
        two.set_peer("one", one.address)
        assert await eventually(lambda: one.call("two", b"x", 5)) == b"answer to x"
        assert await eventually(lambda: two.call("one", b"y", 5)) == b"answer to y"


async def test_the_largest_message_and_one_byte_more(caplog: pytest.LogCaptureFixture) -> None:
    """pitfall 73"""
    wanted = MAX_BYTES
    handled = 0

    async def answer(request: bytes) -> bytes:
        nonlocal handled
        handled += 1
        return bytes(wanted)

    async with transport(answer) as server, caller() as client:
        client.set_peer("a", server.address)
        await eventually(lambda: client.call("a", b"x", 5))
        assert len(await client.call("a", bytes(MAX_BYTES), 5)) == MAX_BYTES
        before = handled
        with pytest.raises(Unreachable, match="too large") as caught:
            await client.call("a", bytes(MAX_BYTES + 1), 5)
        assert not caught.value.sent
        assert handled == before
        wanted = MAX_BYTES + 1
        with pytest.raises(Unreachable, match="did not answer"):
            await client.call("a", b"x", 0.05)
        assert "is not sent" in caplog.text
        wanted = 1
        assert await client.call("a", b"x", 5) == b"\0"


async def test_many_calls_at_a_time_each_get_their_own_answer() -> None:
    """Answers come in another order than requests."""

    async def handler(request: bytes) -> bytes:
        await trio.sleep((int(request) * 7 % 5) / 1000)
        return request * 2

    async with transport(handler) as server, caller() as client:
        client.set_peer("a", server.address)
        await eventually(lambda: client.call("a", b"0", 5))

        async def one(number: int) -> None:
            assert await client.call("a", b"%d" % number, 10) == b"%d" % number * 2

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one, number)


async def test_a_slow_request_does_not_hold_up_another() -> None:
    release = trio.Event()

    async def handler(request: bytes) -> bytes:
        if request == b"slow":
            await release.wait()
        return request

    async with transport(handler) as server, caller() as client, trio.open_nursery() as nursery:
        client.set_peer("a", server.address)
        await eventually(lambda: client.call("a", b"x", 5))

        async def slow() -> None:
            assert await client.call("a", b"slow", 20) == b"slow"

        nursery.start_soon(slow)
        for _ in range(20):
            assert await client.call("a", b"quick", 5) == b"quick"
        release.set()


async def test_no_answer_is_a_timeout_and_a_broken_handler_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(request: bytes) -> bytes | None:
        if request == b"broken":
            raise ZeroDivisionError
        return request if request == b"good" else None

    async with transport(handler, receivers=1) as server, caller() as client:
        client.set_peer("a", server.address)
        await eventually(lambda: client.call("a", b"good", 5))
        for request in (b"silent", b"broken", b"silent", b"broken"):
            with pytest.raises(
                Unreachable, match=r"a \(tcp://.*\) did not answer within"
            ) as caught:
                await client.call("a", request, 0.05)
            assert caught.value.sent
            assert await client.call("a", b"good", 5) == b"good"
    assert caplog.text.count("could not be handled") == 2
    assert "ZeroDivisionError" in caplog.text


async def test_a_late_answer_is_never_taken_for_another() -> None:
    release = trio.Event()

    async def handler(request: bytes) -> bytes:
        if request.startswith(b"late"):
            await release.wait()
        return request

    async with transport(handler) as server, caller() as client:
        client.set_peer("a", server.address)
        await eventually(lambda: client.call("a", b"x", 5))
        for number in range(5):
            with pytest.raises(Unreachable):
                await client.call("a", b"late%d" % number, 0.02)
        release.set()
        for number in range(50):
            assert await client.call("a", b"%d" % number, 5) == b"%d" % number


async def test_a_cancelled_call_ends_at_once_and_leaves_the_peer_usable() -> None:
    async def handler(request: bytes) -> bytes:
        if request == b"slow":
            await trio.sleep_forever()
        return request

    async with transport(handler) as server, caller() as client:
        client.set_peer("a", server.address)
        await eventually(lambda: client.call("a", b"x", 5))
        with trio.fail_after(10):
            with trio.move_on_after(0.02) as scope:
                await client.call("a", b"slow", 1000)
            assert scope.cancelled_caught
            assert await client.call("a", b"x", 5) == b"x"


async def test_closing_and_removing_end_calls_that_are_under_way() -> None:
    """pitfall 97"""
    asked = trio.Event()

    async def handler(request: bytes) -> bytes:
        if request == b"x":
            return request
        asked.set()
        await trio.sleep_forever()
        raise AssertionError

    async with transport(handler) as server:
        for end in ("remove", "close", "set"):
            async with caller() as client, trio.open_nursery() as nursery:
                client.set_peer("a", server.address)
                await eventually(lambda: client.call("a", b"x", 5))
                asked = trio.Event()
                failures: list[Unreachable] = []
                failed = trio.Event()

                async def call() -> None:
                    try:
                        await client.call("a", b"long", 1000)
                    except Unreachable as error:
                        failures.append(error)  # noqa: B023
                        failed.set()  # noqa: B023

                nursery.start_soon(call)
                await asked.wait()
                if end == "remove":
                    client.remove_peer("a")
                elif end == "set":
                    client.set_peer("a", "tcp://127.0.0.1:1")
                else:
                    await client.aclose()
                with trio.fail_after(10):
                    await failed.wait()
                assert failures[0].sent
                with pytest.raises(Unreachable):
                    await client.call("a", b"x", 0.05)


async def test_closing_the_answering_end_returns_from_serve() -> None:
    """pitfall 97"""
    server = Transport("tcp://127.0.0.1:0", max_message_bytes=100)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, echo)
            await server.aclose()
    await server.aclose()


async def test_a_peer_that_moves() -> None:
    async with transport(echo) as one, transport(echo) as two, caller() as client:
        client.set_peer("a", one.address)
        client.set_peer("a", one.address)
        await eventually(lambda: client.call("a", b"x", 5))
        client.set_peer("a", two.address)
        await eventually(lambda: client.call("a", b"x", 5))
    client.remove_peer("never heard of")


async def test_an_unknown_peer_is_unreachable() -> None:
    async with caller() as client:
        with pytest.raises(Unreachable, match="no address of b is known") as caught:
            await client.call("b", b"x", 1000)
        assert not caught.value.sent


@pytest.mark.parametrize(
    "address", ["", "nonsense", "tcp://", "tcp://127.0.0.1", "ipc:", "tcp://[::1:5", "http://a:1"]
)
async def test_an_address_that_makes_no_sense_is_unreachable(address: str) -> None:
    async with caller() as client:
        client.set_peer("b", address)
        with pytest.raises(Unreachable, match="makes no sense") as caught:
            await client.call("b", b"x", 1000)
        assert not caught.value.sent


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tcp://no-such-host.invalid:7001"])
async def test_nobody_there_is_said_at_once(address: str) -> None:
    async with caller() as client:
        client.set_peer("b", address)
        with trio.fail_after(10), pytest.raises(Unreachable, match="not connected") as caught:
            await client.call("b", b"x", 1000)
        assert not caught.value.sent
        assert address in str(caught.value)


async def test_an_address_in_use_is_said_to_be() -> None:
    async with transport(echo) as server:
        second = Transport(server.address, max_message_bytes=100)
        with pytest.raises(AddressInUse, match="is in use"):
            await second.serve(unanswered)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(AddressInUse, match=address):
            await Transport(address, max_message_bytes=100).serve(unanswered)


@pytest.mark.parametrize(
    "address",
    ["tcp://192.0.2.1:7001", "tcp://no-such-host.invalid:7001", "nonsense", "tcp://[::1:5", ""],
)
async def test_what_cannot_be_listened_on_is_said(address: str) -> None:
    with pytest.raises(CannotListen, match="cannot listen on"):
        await Transport(address, max_message_bytes=100).serve(unanswered)


async def test_the_same_address_again_right_after_a_restart() -> None:
    async with transport(echo) as server, caller() as client:
        client.set_peer("a", server.address)
        await eventually(lambda: client.call("a", b"x", 5))
        address = server.address
    async with transport(echo, address) as server, caller() as client:
        client.set_peer("a", server.address)
        await eventually(lambda: client.call("a", b"x", 5))


async def test_ipv6_in_brackets() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this host has no IPv6")
    async with transport(echo, "tcp://[::1]:0") as server, caller() as client:
        assert server.address == f"tcp://[::1]:{port_of(server)}"
        client.set_peer("a", server.address)
        assert await eventually(lambda: client.call("a", b"x", 5)) == b"answer to x"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def unused(*what: object) -> None:
    raise AssertionError(what)


async def test_what_is_not_sent_does_not_stay_in_memory() -> None:
    message = bytes(range(256)) * 4096
    with pynng.Req0(resend_time=-1) as lonely:

        def fail_to_send() -> None:
            context = Context(lonely, unused, unused)
            assert not context.send(message)
            assert not context.has_sent()
            assert not context.stop_sending()
            context.close()

        for _ in range(5):
            fail_to_send()
        before = resident_bytes()
        for _ in range(100):
            fail_to_send()
        assert resident_bytes() - before < 30 * len(message)


async def test_a_context_closed_while_sending_gives_the_message_back() -> None:
    with pynng.Req0(resend_time=-1) as lonely:
        context = Context(lonely, unused, unused)
        assert not context.send(b"x")
        context.close()
        assert not context.stop_sending()
        with pytest.raises(pynng.Closed):
            context.send(b"x")


async def test_a_context_closed_while_receiving_calls_nobody_back() -> None:
    with pynng.Rep0() as lonely:
        context = Context(lonely, unused, unused)
        context.receive()
        context.close()
        with trio.fail_after(20):
            while context._is_receiving:  # noqa: ASYNC110 - nng's own threads
                await trio.sleep(0.001)
