"""How a new host finds into a cluster: what its configuration file has to say.

`join = "CLUSTER:INDEX"`: the cluster's id in hex, and the index of the log entry that admitted the
node. It makes the data directory of a node that belongs to that cluster, under that membership,
knows nobody yet, and waits for the leader to find it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import msgspec

from raftd import address

_FORM = re.compile(r"([0-9a-f]{32}):([1-9][0-9]{0,18})")


class Join(msgspec.Struct, frozen=True):
    cluster_id: bytes
    index: int

    def __str__(self) -> str:
        return f"{self.cluster_id.hex()}:{self.index}"


def parse(text: str) -> Join:
    """Raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None or int(found[2]) >= 2**63:
        raise ValueError(f"{text[:60]!r} is not what `raftctl members add` has printed")
    return Join(bytes.fromhex(found[1]), int(found[2]))


def configuration_file(
    name: str, join: Join, members: Mapping[str, str], settings: Mapping[str, object]
) -> str:
    """The file for the host of `name`, one of `members`. `settings`: what has to be as on the other
    hosts and is not the default; integers and lists of them."""
    lines = [
        f"# /etc/raftd/{name}.toml on the host of {name}. For this node only, and only once: if",
        "# its data is lost, remove the member and add it again.",
        f'name = "{name}"',
        f'join = "{join}"',
        *(f"{key} = {json.dumps(value)}" for key, value in settings.items()),
    ]
    own = address.parse(members[name])
    if not (own.is_loopback or own.is_encrypted):
        lines += _plaintext([url for member, url in members.items() if member != name])
    if own.is_encrypted:
        lines.append(
            f"# With ca.pem, {name}.pem and {name}.key in tls/ beside it: raftd certificates."
        )
    lines += ["", "[members]"]
    lines += [f"{_key(member)} = {json.dumps(url)}" for member, url in sorted(members.items())]
    return "\n".join(lines) + "\n"


def _plaintext(others: list[str]) -> list[str]:
    """What the others do is what was decided about the network; else somebody has to decide."""
    if not address.all_encrypted(others):
        return ["allow_plaintext = true  # the network between the hosts is trusted"]
    return [
        "# The other members encrypt what they say, this one would not: give it a tls+tcp://",
        "# address (raftctl members set-address), or say that the network is trusted:",
        "#allow_plaintext = true",
    ]


def _key(name: str) -> str:
    return f'"{name}"' if "." in name else name
