"""From the name of a method to the handler that does it: `Handlers`, built from the IDL files.

They decide which methods there are and what their parameters must look like. A handler gets
parameters that have been checked, absent optional ones as None. Failures of the driver turn into
the errors of the interface here.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import msgspec

from raftd.admin import idl, protocol
from raftd.admin.handlers.call import Handler, from_base64, invalid
from raftd.admin.handlers.driver_api import Driver
from raftd.admin.handlers.kv import KV
from raftd.admin.handlers.node import Node
from raftd.admin.handlers.service import Service
from raftd.admin.handlers.snapshots import Snapshots
from raftd.admin.message import MALFORMED, Malformed
from raftd.admin.protocol import CallError
from raftd.driver import errors

logger = logging.getLogger("raftd.admin")

_ECHO = 200
"""characters of a caller's own words that an error repeats"""

_INSTEAD = {"Busy": "Refused", "TooLarge": "Refused", "OutcomeUnknown": "NoQuorum"}
"""Where an interface lacks an error, the one that asks the same of the caller."""


class Method:
    """One method: `arguments` checks and decodes what `handler` then gets behind the caller.

    What a handler raises becomes a CallError by `failure`."""

    def __init__(self, interface: idl.Interface, method: idl.Method, handler: Handler) -> None:
        self.name = f"{interface.name}.{method.name}"
        self.handler = handler
        self.needs_task = inspect.iscoroutinefunction(handler)
        self._interface = interface
        self._types = method.parameter_types
        fields = msgspec.structs.fields(method.parameters)
        self._required = [field.name for field in fields if field.required]
        _, *names = inspect.signature(handler).parameters
        assert names == list(self._types), f"the handler of {self.name} takes other parameters"
        taken = get_type_hints(handler)
        self._in_base64 = [name for name in names if taken[name] in {bytes, bytes | None}]
        types = {
            name: taken[name] if name in self._in_base64 else self._types[name] for name in names
        }
        self._decode = msgspec.json.Decoder(
            msgspec.defstruct(
                method.name,
                [
                    (f.name, types[f.name]) if f.required else (f.name, types[f.name], None)
                    for f in fields
                ],
                kw_only=True,
                forbid_unknown_fields=True,
            )
        ).decode

    def arguments(self, parameters: msgspec.Raw) -> tuple[Any, ...]:
        """In the order of the interface. Raises CallError (InvalidParameter), Malformed."""
        try:
            return msgspec.structs.astuple(self._decode(parameters))
        except MALFORMED:
            return self._arguments_one_by_one(parameters)

    def _arguments_one_by_one(self, parameters: msgspec.Raw) -> tuple[Any, ...]:
        """Slower, and knows which parameter is wrong."""
        try:
            given = msgspec.json.decode(parameters, type=dict[str, msgspec.Raw] | None) or {}
        except MALFORMED as error:
            raise Malformed(f"parameters: {error}") from None
        arguments: dict[str, Any] = dict.fromkeys(self._types)
        for name, value in given.items():
            if name not in self._types:
                raise invalid(name[:_ECHO])
            try:
                arguments[name] = msgspec.json.decode(value, type=self._types[name])
            except (msgspec.ValidationError, RecursionError):
                raise invalid(name) from None
            except MALFORMED as error:
                raise Malformed(f"parameter {name}: {error}") from None
        for name in self._required:
            if name not in given:
                raise invalid(name)
        for name in self._in_base64:
            if arguments[name] is not None:
                arguments[name] = from_base64(name, arguments[name])
        return tuple(arguments.values())

    def failure(self, error: Exception) -> CallError:
        """The Varlink error for what a handler raised."""
        match error:
            case CallError():
                return error
            case AssertionError():
                raise error  # a bug of the daemon's: what it holds may be wrong, so it must stop
            case errors.TooLarge(size=size, limit=limit) if "TooLarge" in self._interface.errors:
                return self._error("TooLarge", {"size": size, "limit": limit})
            case errors.NoSuchEntry(index=index, first_index=first, last_index=last):
                details = {"index": index, "first_index": first, "last_index": last}
                return self._error("NoSuchEntry", details)
            case errors.NoSuchState(index=index, first_index=first, last_index=last):
                details = {"index": index, "first_index": first, "last_index": last}
                return self._error("NoSuchState", details)
            case errors.CallFailed():
                name = type(error).__name__
                if name not in self._interface.errors:
                    name = _INSTEAD.get(name, "Refused")
                return self._error(name, {"reason": str(error)})
        logger.error("%s failed unexpectedly", self.name, exc_info=error)
        name = "OutcomeUnknown" if "OutcomeUnknown" in self._interface.errors else "Refused"
        reason = f"unexpected failure ({type(error).__name__}); the daemon's log has more"
        return self._error(name, {"reason": reason})

    def _error(self, name: str, parameters: Mapping[str, Any]) -> CallError:
        return CallError(f"{self._interface.name}.{name}", parameters)


class Handlers:
    """All methods of the socket. `reload` is called for io.raftd.Node.Reload."""

    def __init__(self, driver: Driver, *, reload: Callable[[], None]) -> None:
        parts = {
            protocol.SERVICE: Service(),
            protocol.NODE: Node(driver, reload),
            protocol.KV: KV(driver),
            protocol.SNAPSHOTS: Snapshots(driver),
        }
        self._interfaces = frozenset(parts)
        self._methods: dict[str, Method] = {}
        for name, part in parts.items():
            interface = idl.parse(protocol.interface_text(name))
            assert interface.name == name
            for method in interface.methods.values():
                handler = getattr(part, _snake_case(method.name))
                self._methods[f"{name}.{method.name}"] = Method(interface, method, handler)

    def method(self, name: str, *, upgrade: bool | None = False) -> Method:
        """No method turns the connection into something else: there is none to `upgrade`.

        Raises CallError (InterfaceNotFound, MethodNotFound, MethodNotImplemented).
        """
        method = self._methods.get(name)
        if method is not None and upgrade:
            raise CallError(protocol.METHOD_NOT_IMPLEMENTED, {"method": name})
        if method is not None:
            return method
        interface = name.rpartition(".")[0] or name
        if interface in self._interfaces:
            raise CallError(protocol.METHOD_NOT_FOUND, {"method": name[:_ECHO]})
        raise CallError(protocol.INTERFACE_NOT_FOUND, {"interface": interface[:_ECHO]})


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
