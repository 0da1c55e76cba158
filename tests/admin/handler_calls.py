"""Calls methods as a connection does, without one. The IDL checks every reply and every error."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from raftd.admin import idl, message, protocol
from raftd.admin.handlers import Handlers
from raftd.admin.handlers.call import Call, Later
from raftd.admin.protocol import CallError
from tests.admin.fake_driver import FakeDriver

A, B, C = "YQ==", "Yg==", "Yw=="
SOMEBODY = Call(uid=1000, privileged=False)
ROOT = Call(uid=0, privileged=True)
INTERFACES = {name: idl.parse(protocol.interface_text(name)) for name in protocol.INTERFACES}


class Socket:
    """Calls methods as a connection does, JSON included."""

    def __init__(self, driver: FakeDriver) -> None:
        self.reloads = 0
        self.reload_failure: Exception | None = None
        self.handlers = Handlers(driver, reload=self._reload)

    def _reload(self) -> None:
        self.reloads += 1
        if self.reload_failure:
            raise self.reload_failure

    async def call(self, name: str, /, _caller: Call = SOMEBODY, **parameters: Any) -> Any:
        """`name` without io.raftd. The reply as JSON has it."""
        full = f"io.raftd.{name}"
        method = self.handlers.method(full)
        arguments = method.arguments(msgspec.Raw(json.dumps(parameters).encode()))
        try:
            reply: Any
            if method.needs_task:
                reply = await method.handler(_caller, *arguments)
            else:
                reply = method.handler(_caller, *arguments)
            if isinstance(reply, Later):
                reply = reply.to_reply(await reply.promise)
        except Exception as error:
            failure = as_sent(method.failure(error))
            check_error(failure)
            raise failure from error
        data = message.encode({"parameters": reply}).removesuffix(b"\0")
        return checked(full, json.loads(data)["parameters"])


def as_sent(error: CallError) -> CallError:
    """As a client gets it."""
    sent = json.loads(message.encode_error(error).removesuffix(b"\0"))
    return CallError(sent["error"], sent["parameters"])


def checked(full_name: str, reply: Any) -> Any:
    interface, _, name = full_name.rpartition(".")
    msgspec.convert(reply, INTERFACES[interface].methods[name].reply)
    return reply


def check_error(error: CallError) -> None:
    interface, _, name = error.name.rpartition(".")
    msgspec.convert(error.parameters, INTERFACES[interface].errors[name])


async def refused(
    socket: Socket, name: str, _caller: Call = SOMEBODY, /, **parameters: Any
) -> tuple[str, dict[str, Any]]:
    with pytest.raises(CallError) as caught:
        await socket.call(name, _caller, **parameters)
    return caught.value.name.removeprefix("io.raftd."), caught.value.parameters


def invalid(parameter: str) -> tuple[str, dict[str, str]]:
    return "org.varlink.service.InvalidParameter", {"parameter": parameter}
