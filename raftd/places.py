"""Where a node's files are when nobody says otherwise: the system's places, or the user's own.

A node is the system's when root runs it or its configuration is in /etc/raftd. The directories
that a systemd unit asked for come first (systemd.exec(5): StateDirectory=, RuntimeDirectory=).
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import platformdirs

SYSTEM_CONFIGURATION = Path("/etc/raftd")


def is_system(configuration: Path) -> bool:
    """Whether the node that has this configuration file uses the system's places."""
    return os.geteuid() == 0 or configuration.is_relative_to(SYSTEM_CONFIGURATION)


def configuration_directory() -> Path:
    """The directory of NODE.toml for whoever runs this."""
    return SYSTEM_CONFIGURATION if os.geteuid() == 0 else platformdirs.user_config_path("raftd")


def data_directory(node: str, *, system: bool) -> Path:
    own = Path("/var/lib/raftd") if system else platformdirs.user_data_path("raftd")
    return _given_by_systemd("STATE_DIRECTORY", node) or own / node


def socket(node: str, *, system: bool) -> Path:
    """Raises OSError if a user has no runtime directory that is safe."""
    given = _given_by_systemd("RUNTIME_DIRECTORY", node)
    return (given or _runtime_directory(system) / node) / "raftd.sock"


def _runtime_directory(system: bool) -> Path:
    if system:
        return Path("/run/raftd")
    with warnings.catch_warnings():  # that XDG_RUNTIME_DIR is not set: raftctl looks there as well
        warnings.simplefilter("ignore")
        return platformdirs.user_runtime_path("raftd")


def _given_by_systemd(variable: str, node: str) -> Path | None:
    """The first absolute path in a list such as /var/lib/raftd/node1:/var/lib/other.

    One that does not end in the node's name may be shared: the node gets a directory in it.
    """
    for text in os.environ.get(variable, "").split(":"):
        path = Path(text)
        if path.is_absolute():
            return path if path.name == node else path / node
    return None
