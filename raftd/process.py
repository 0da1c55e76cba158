"""What the process may use, and whose it is: before the node begins."""

from __future__ import annotations

import gc
import logging
import os
import pwd
import resource

import msgspec

from raftd import places
from raftd.config import Config

log = logging.getLogger("raftd.server")

RESERVED_FILES = 1024
"""For everything but clients of the socket: peers, the log, the state machine."""
GC_THRESHOLDS = (10_000, 5, 5)
"""Often enough that connections which have gone do not pile up: they are cycles."""


class WrongUser(Exception):
    """Root would run the node of somebody else; the message says how to run it instead."""


def refuse_to_take_over(config: Config) -> None:
    """Raises WrongUser. What root makes in another user's directory, in many places and all the
    time, keeps that user's node from starting again."""
    try:
        owner = config.data_dir.stat().st_uid
    except OSError:
        return  # it is made now, or cannot be used: opening it tells why
    if os.geteuid() != 0 or owner == 0:
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"user {owner}"
    how = f"runuser -u {name} -- raftd run --config {config.source}"
    if config.source.is_relative_to(places.SYSTEM_CONFIGURATION):
        how = f"systemctl start raftd@{config.source.stem}"
    raise WrongUser(
        f"{config.data_dir} belongs to {name}, who could not use what root would leave in it; run"
        f" this node as {name}: `{how}`"
    )


def settle_memory() -> None:
    """What is there now stays: the collector need not look at it again. What comes and goes with
    each call has no cycles, so it need not look often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def within_files(config: Config) -> Config:
    """With no more clients than there may be open files for: the log must find one at any time."""
    wanted = config.limits.connections
    allowed = _allow_files(wanted + RESERVED_FILES)
    connections = min(wanted, max(allowed - RESERVED_FILES, allowed // 2))
    if connections == wanted:
        return config
    log.warning(
        "%d clients may be connected, not %d: the system allows %d open files (ulimit -Hn)",
        connections,
        wanted,
        allowed,
    )
    limits = msgspec.structs.replace(config.limits, connections=connections)
    return msgspec.structs.replace(config, limits=limits)


def _allow_files(count: int) -> int:
    """Raise the soft limit on open files to `count`, as far as the hard one allows (getrlimit(2)):
    many systems start with 1024, which is less than the socket may have connections. How many there
    may be of those `count`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
