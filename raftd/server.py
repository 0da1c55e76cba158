"""The daemon: builds the parts of one node, runs them, and stops them in order.

One way in, `run`; it returns the exit status of the process.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import trio

import raftd
from raftd import config as configuration
from raftd import credentials, journal, logs, process
from raftd.admin.handlers import Handlers
from raftd.admin.server import Limits, serve
from raftd.config import Config, ConfigError
from raftd.credentials import Credentials
from raftd.doorbell import Worker
from raftd.driver import restoring
from raftd.driver.driver import Driver, DriverSettings
from raftd.driver.errors import Refused
from raftd.exit_status import ExitStatus, explain
from raftd.kv.store import KeyValueStore
from raftd.raft.configuration import Configuration
from raftd.raft.state import Settings
from raftd.state_trace.file import VARIABLE, TraceFile
from raftd.storage.disk import (
    Disk,
    DiskFull,
)
from raftd.systemd import ServiceManager, status_line
from raftd.transport.transport import Transport

log = logging.getLogger("raftd.server")

RECEIVERS_PER_PEER = 16
USUAL_MEMBERS = 5
"""Members may come at any time: there are receivers for so many in any case."""
PAUSE_WITHOUT_SPACE = 1.0
"""Seconds."""
SNAPSHOT_CHUNK_BYTES = 256 << 10
MESSAGE_OVERHEAD_BYTES = 64 << 10
"""More than anything in a message besides its entries, commands or chunk."""


def run(config: Config) -> int:
    """Run the node until SIGTERM or SIGINT."""
    clean = False
    try:
        process.refuse_to_take_over(config)
        config = process.within_files(config)
        own = _credentials(config)
        disk, store = _open(config)
        try:
            with closing(store):
                process.settle_memory()
                trio.run(_run, config, disk, store, own)
                # Before the directory is said to be in order: that lets the next start believe it.
                clean = _close_state(store)
        finally:
            _close_disk(disk, clean=clean)
    except KeyboardInterrupt:
        log.info("stopped while starting")
    except Exception as error:
        status = explain(error)
        if status == ExitStatus.NO_SPACE:
            # Who starts it again at once shall not do so too often to be let.
            time.sleep(PAUSE_WITHOUT_SPACE)
        return status
    return ExitStatus.OK


def _open(config: Config) -> tuple[Disk, KeyValueStore]:
    """Disk and state machine; the latter has what the snapshot has, and no more than the log."""
    stores: list[KeyValueStore] = []

    def last_applied(trusted: bool) -> int:
        stores.append(KeyValueStore(config.data_dir / "state", fresh=not trusted))
        return stores[0].last_applied

    try:
        disk = Disk.open(
            config.data_dir,
            name=config.name,
            cluster_id=configuration.cluster_id(config),
            initial=_initial(config),
            membership_index=config.join.index if config.join is not None else 0,
            segment_bytes=config.limits.segment_bytes,
            tail_bytes=config.limits.log_memory_bytes,
            last_applied=last_applied,
        )
    except BaseException:
        for store in stores:
            store.close()
        raise
    level = logging.INFO if disk.identity.life == 1 else logging.WARNING
    for note in disk.notes:
        logging.getLogger("raftd.storage").log(level, "%s", note)
    store = stores[0]
    if disk.snapshot_file and store.last_applied < disk.snapshot.last_included_index:
        try:
            restoring.restore(store, disk.snapshot_file, disk.snapshot.last_included_index)
        except BaseException:
            store.close()
            _close_disk(disk, clean=False)
            raise
    return disk, store


def _initial(config: Config) -> Configuration:
    """The members the cluster began with; who joins it later learns of them all from the leader."""
    if config.join is not None:
        return Configuration(())
    return Configuration(tuple(sorted(config.members)), addresses=config.members)


def _close_state(store: KeyValueStore) -> bool:
    """Is the state durable?"""
    try:
        store.close_durably()
    except OSError as error:
        log.warning(
            "stopped, but the state is not durable (%s): it will be made again from snapshot and"
            " log if need be",
            error,
        )
        return False
    return True


def _close_disk(disk: Disk, *, clean: bool) -> None:
    try:
        disk.close(clean=clean)
    except DiskFull as error:
        log.warning("stopped, but no space to note that it was in order: %s", error)


def _credentials(config: Config) -> Credentials | None:
    """Raises CredentialsError."""
    if config.tls is None:
        return None
    own = credentials.load(config.tls, config.name)
    if own.warning is not None:
        log.warning("%s", own.warning)
    return own


async def _run(config: Config, disk: Disk, store: KeyValueStore, own: Credentials | None) -> None:
    limits = config.limits
    transport = Transport(
        config.listen,
        max_message_bytes=max(limits.append_bytes, limits.entry_bytes) + MESSAGE_OVERHEAD_BYTES,
        receivers=RECEIVERS_PER_PEER * max(USUAL_MEMBERS, len(config.members)),
        credentials=own,
    )
    trace = _state_trace(config)
    saving = Worker("raftd-save")
    driver = Driver(
        disk=disk,
        state_machine=store,
        network=transport,
        settings=_settings(config),
        dice=random.SystemRandom(),
        addresses=config.members,
        offload_saves=saving.do,
        state_trace=trace,
    )
    manager = ServiceManager()
    reload = _Reload(config, manager)
    _warn_of_other_members(config, driver)
    try:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            await _live(config, driver, manager, reload, signals)
    finally:
        manager.close()
        with trio.CancelScope(shield=True):
            await transport.aclose()
        saving.close()


def _state_trace(config: Config) -> TraceFile | None:
    """Raises CannotTrace."""
    directory = os.environ.get(VARIABLE) or config.state_trace
    return TraceFile(Path(directory), config.name) if directory else None


async def _live(
    config: Config,
    driver: Driver,
    manager: ServiceManager,
    reload: _Reload,
    signals: AsyncIterator[int],
) -> None:
    """From the first task to the last."""
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        await nursery.start(_serve_socket, config, driver, reload)
        nursery.start_soon(manager.tell_status, lambda: status_line(driver.report()))
        nursery.start_soon(manager.feed_watchdog, lambda: driver.makes_progress)
        log.info(
            "%s runs raftd %s on %s, data in %s, socket %s",
            config.name,
            raftd.__version__,
            config.listen,
            config.data_dir,
            config.socket,
            extra=journal.fields("node-started", index=driver.raft.server.log.last_index),
        )
        manager.ready()
        await _until_stopped(reload, signals)
        patience = config.election_timeout_ms[1] / 1000
        manager.stopping(patience)
        log.info("%s stops", config.name, extra=journal.fields("node-stopped"))
        await driver.hand_over(timeout=patience)
        nursery.cancel_scope.cancel()


def _settings(config: Config) -> DriverSettings:
    limits = config.limits
    shortest, longest = config.election_timeout_ms
    algorithm = Settings(
        election_timeout=(shortest / 1000, longest / 1000),
        heartbeat_interval=config.heartbeat_interval_ms / 1000,
        max_append_bytes=limits.append_bytes,
        max_in_flight=limits.in_flight,
        snapshot_chunk_bytes=min(SNAPSHOT_CHUNK_BYTES, limits.append_bytes),
        max_uncommitted_bytes=limits.uncommitted_bytes,
        tail_bytes=limits.log_memory_bytes,
    )
    return DriverSettings(
        algorithm,
        limits.entry_bytes,
        limits.snapshot_log_bytes,
        limits.log_tail_bytes,
        config.check_interval_ms / 1000,
        priority=config.priority,
    )


async def _serve_socket(
    config: Config,
    driver: Driver,
    reload: _Reload,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    await serve(
        config.socket,
        Handlers(driver, reload=reload.now),
        group=config.socket_group,
        limits=Limits.for_entries(config.limits.entry_bytes, config.limits.connections),
        task_status=task_status,
    )


class _Reload:
    """SIGHUP, or `raftctl reload`: read the log levels of the configuration file again."""

    def __init__(self, config: Config, manager: ServiceManager) -> None:
        self._config = config
        self._manager = manager

    def now(self) -> None:
        """Raises Refused, with the reason, if the file cannot be used; then nothing changes."""
        self._manager.reloading()
        try:
            levels = configuration.load(self._config.source).log
            logs.configure(levels)
        except (ConfigError, logs.LogSpecError) as error:
            raise Refused(f"kept the log levels: {error}") from error
        finally:
            self._manager.ready()
        log.info("log levels are %s now", levels)


async def _until_stopped(reload: _Reload, signals: AsyncIterator[int]) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            return
        try:
            reload.now()
        except Refused as error:
            log.error("%s", error)  # noqa: TRY400 - a sentence for the operator


def _warn_of_other_members(config: Config, driver: Driver) -> None:
    index, configuration = driver.raft.server.configurations[0]
    members = configuration.members
    if index == 0 and members and set(members) != set(config.members):
        log.warning(
            "%s names other [members] (%s) than the cluster has (%s); the cluster's own count",
            config.source,
            ", ".join(sorted(config.members)),
            ", ".join(members),
        )
