"""Part of io.raftd.Node: changing the members, and keeping one away from leadership."""

from __future__ import annotations

import msgspec

from raftd import join
from raftd.address import Address, all_encrypted
from raftd.address import parse as parse_address
from raftd.admin.handlers.call import Call, Reply, invalid, timeout_seconds
from raftd.admin.handlers.driver_api import Driver
from raftd.admin.protocol import NODE, PERMISSION_DENIED, CallError
from raftd.driver.errors import NoSuchMember, Refused
from raftd.driver.members import checked
from raftd.driver.reports import ChangeReport
from raftd.raft.changes import (
    AddMember,
    Change,
    DemoteMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
    SetAddress,
    no_member,
)

CHANGE_TIMEOUT_MS = 5000
STATUS_TIMEOUT_MS = 1000


class Members:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def change_members(
        self,
        call: Call,
        action: str,
        name: str,
        new_name: str | None,
        address: str | None,
        learner: bool | None,
        dry_run: bool | None,
        force: bool | None,
        timeout_ms: int | None,
    ) -> Reply:
        demand_privilege(call)
        change = _checked(_change(action, name, new_name, address, learner=learner is True))
        report = await self._driver.change_members(
            change,
            dry_run=dry_run is True,
            force=force is True,
            timeout=timeout_seconds(timeout_ms, CHANGE_TIMEOUT_MS),
        )
        if report.refused == no_member(change.name):
            raise CallError(f"{NODE}.NoSuchMember", {"name": change.name})
        file = None
        if report.join:
            file = join.configuration_file(
                change.by if isinstance(change, ReplaceMember) else change.name,
                join.parse(report.join),
                report.addresses,
                self._driver.shared_settings(),
            )
        members = {
            key: value
            for key, value in msgspec.structs.asdict(report).items()
            if key not in {"join", "addresses"}
        }
        warnings = (*report.warnings, *await self._plaintext(change, report))
        return {"report": {**members, "warnings": warnings, "configuration_file": file}}

    async def _plaintext(self, change: Change, report: ChangeReport) -> list[str]:
        """A warning, if who is changed would be the only one that does not encrypt."""
        own = _new_address(change)
        if own is None or own.is_encrypted:
            return []
        addresses = report.addresses
        if not addresses:  # nothing was done
            status = await self._driver.status(timeout=STATUS_TIMEOUT_MS / 1000)
            addresses = {member.name: member.address for member in status.members}
        changed = {change.name, change.by if isinstance(change, ReplaceMember) else ""}
        others = [url for name, url in addresses.items() if url and name not in changed]
        if not all_encrypted(others):
            return []
        return [f"the other members encrypt what they say; at {own} nothing is encrypted (tls+tcp)"]

    async def drain(
        self, call: Call, name: str | None, force: bool | None, timeout_ms: int | None
    ) -> Reply:
        return await self._drain(call, name, timeout_ms, drained=True, force=force is True)

    async def undrain(self, call: Call, name: str | None, timeout_ms: int | None) -> Reply:
        return await self._drain(call, name, timeout_ms, drained=False, force=False)

    async def _drain(
        self, call: Call, name: str | None, timeout_ms: int | None, *, drained: bool, force: bool
    ) -> Reply:
        demand_privilege(call)
        timeout = timeout_seconds(timeout_ms, CHANGE_TIMEOUT_MS)
        try:
            who = await self._driver.drain(name, drained=drained, force=force, timeout=timeout)
        except NoSuchMember:
            raise CallError(f"{NODE}.NoSuchMember", {"name": name or ""}) from None
        return {"name": who}


def _change(
    action: str, name: str, new_name: str | None, address: str | None, *, learner: bool
) -> Change:
    """Raises CallError (InvalidParameter)."""
    if address is None and action in {"add", "replace", "set_address"}:
        raise invalid("address")
    if new_name is None and action == "replace":
        raise invalid("new_name")
    changes: dict[str, Change] = {
        "add": AddMember(name, address or "", voter=not learner),
        "promote": PromoteMember(name),
        "demote": DemoteMember(name),
        "remove": RemoveMember(name),
        "replace": ReplaceMember(name, new_name or "", address or ""),
        "set_address": SetAddress(name, address or ""),
    }
    return changes[action]


def _checked(change: Change) -> Change:
    """With addresses in their one spelling. Raises CallError (Invalid)."""
    try:
        return checked(change)
    except Refused as error:
        raise CallError(f"{NODE}.Invalid", {"reason": str(error)}) from None


def _new_address(change: Change) -> Address | None:
    """One that the change gives to somebody."""
    match change:
        case AddMember() | ReplaceMember() | SetAddress():
            return parse_address(change.address)
    return None


def demand_privilege(call: Call) -> None:
    if not call.privileged:
        raise CallError(PERMISSION_DENIED)
