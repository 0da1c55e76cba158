"""Why a peer cannot be reached: nng tells nothing, and the address is what is mostly wrong."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import trio

from raftd.address import parse
from raftd.transport import transport as calling_end
from raftd.transport import trial
from raftd.transport.transport import Unreachable
from raftd.transport.trial import trouble_with
from tests.transport.test_calls import echo
from tests.transport.wire import caller, eventually, transport


async def test_a_peer_that_is_not_there_and_comes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling_end, "LOOK_INTERVAL", 0.02)
    caplog.set_level("INFO")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        async with caller() as client:
            client.set_peer("a", address)
            await _until(lambda: client.trouble_with("a") is not None)
            assert client.trouble_with("a") == f"{address}: connection refused"
            with pytest.raises(Unreachable, match="not connected: connection refused"):
                await client.call("a", b"x", 5)
            await trio.sleep(0.1)
            said = [each for each in caplog.messages if "cannot connect" in each]
            assert said == [f"cannot connect to a ({address}): connection refused"]
            taken.close()
            async with transport(echo, address):
                await eventually(lambda: client.call("a", b"x", 5))
                await _until(lambda: f"connected to a ({address}) again" in caplog.messages)
                assert client.trouble_with("a") is None


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await trio.sleep(0.01)


async def test_a_name_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object) -> trio.SocketStream:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(trio, "open_tcp_stream", unknown)
    assert await trouble_with(parse("tcp://typo:7001"), None, "a") == (
        "the name typo is not known here (Name or service not known)"
    )


async def test_a_host_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: object) -> trio.SocketStream:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(trio, "open_tcp_stream", silent)
    monkeypatch.setattr(trial, "PATIENCE", 0.01)
    why = await trouble_with(parse("tcp://192.0.2.1:7001"), None, "a")
    assert why is not None
    assert why.startswith("no answer")
