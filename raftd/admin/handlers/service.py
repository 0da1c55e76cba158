"""org.varlink.service: what this socket offers."""

from __future__ import annotations

from raftd import __version__
from raftd.admin.handlers.call import Call, Reply
from raftd.admin.protocol import INTERFACE_NOT_FOUND, INTERFACES, CallError, interface_text

VENDOR = "raftd"
PRODUCT = "raftd"
URL = ""


class Service:
    def __init__(self) -> None:
        self._texts = {name: interface_text(name) for name in INTERFACES}

    def get_info(self, _: Call) -> Reply:
        return {
            "vendor": VENDOR,
            "product": PRODUCT,
            "version": __version__,
            "url": URL,
            "interfaces": INTERFACES,
        }

    def get_interface_description(self, _: Call, interface: str) -> Reply:
        text = self._texts.get(interface)
        if text is None:
            raise CallError(INTERFACE_NOT_FOUND, {"interface": interface})
        return {"description": text}
