"""A new state for a node whose own is not to be believed: the leader's, in pieces.

Term, vote and log stay: they are right, and others rely on them. Only the view is replaced.
"""

from __future__ import annotations

import logging
from pathlib import Path

import trio

from raftd.client_messages import FetchRequest, FetchResponse
from raftd.driver.applier import Applier
from raftd.driver.errors import Refused
from raftd.driver.history import History
from raftd.driver.offload import Offload
from raftd.driver.peers import PeerRefused, Peers
from raftd.driver.reports import SnapshotInfo
from raftd.driver.snapshots import SnapshotFailed, Snapshots
from raftd.raft.log import EntryType
from raftd.raft.raft import Busy, NotLeader, Raft
from raftd.raft.state import Role, SnapshotMetadata
from raftd.storage.disk import Disk, SnapshotReader, StorageError
from raftd.transport.transport import Unreachable

log = logging.getLogger("raftd.driver")

_PIECE_TIMEOUT = 10.0
_TAKE_TIMEOUT = 600.0


class Reseeding:
    """Both ends: `reseed` here, `handle_fetch` on the leader, for one node at a time."""

    def __init__(
        self,
        raft: Raft,
        disk: Disk,
        applier: Applier,
        snapshots: Snapshots,
        history: History,
        peers: Peers,
        offload: Offload,
    ) -> None:
        self._raft = raft
        self._disk = disk
        self._applier = applier
        self._snapshots = snapshots
        self._history = history
        self._peers = peers
        self._offload = offload
        self._reader: SnapshotReader | None = None

    async def reseed(self) -> SnapshotInfo:
        """Raises Refused; then nothing has changed."""
        server = self._raft.server
        if server.role is Role.LEADER:
            raise Refused(
                f"{server.name} leads; hand leadership over first: raftctl leader transfer"
            )
        if server.contradiction is not None:
            raise Refused(f"{server.contradiction}; not the state alone, the log differs")
        if server.leader is None:
            raise Refused("there is no leader whose state could be taken over")
        async with self._snapshots.taking:
            path = self._disk.snapshot_path()
            try:
                metadata = await self._fetch(server.leader, path)
                await self._wait_for_commit(metadata.last_included_index)
                await self._adopt(path, metadata)
            except (OSError, SnapshotFailed) as error:
                raise Refused(f"the leader's state could not be stored: {error}") from error
            finally:
                with trio.CancelScope(shield=True):
                    await self._offload(lambda: path.unlink(missing_ok=True))
            await self._restore(metadata)
        log.warning(
            "threw the state away and took over %s's, up to entry %d",
            server.leader,
            metadata.last_included_index,
        )
        return self._history.snapshots()[0]

    async def _adopt(self, path: Path, metadata: SnapshotMetadata) -> None:
        """Make the leader's snapshot this node's own. Raises Refused, SnapshotFailed."""
        adopted = await self._snapshots.adopt(path, metadata)
        if adopted.checksum != metadata.checksum:
            raise Refused(
                f"this node has a snapshot up to entry {adopted.last_included_index} already, and"
                f" the leader's ends at {metadata.last_included_index}; try again when more has"
                " been written"
            )

    async def _restore(self, metadata: SnapshotMetadata) -> None:
        """The snapshot that was adopted becomes the state. Raises Refused."""
        server = self._raft.server
        self._raft.snapshot_taken(trio.current_time(), metadata, server.log.base_index)
        file = self._disk.snapshot_file
        assert file is not None
        try:
            await self._applier.restore(file, metadata.last_included_index)
        except StorageError as error:
            raise Refused(f"the leader's state could not take this one's place: {error}") from error

    async def _fetch(self, leader: str, path: Path) -> SnapshotMetadata:
        size = self._raft.server.settings.snapshot_chunk_bytes
        first = await self._ask(leader, FetchRequest("", 0, size), _TAKE_TIMEOUT)
        assert first.last_included_index is not None
        assert first.configuration is not None
        done = 0
        piece = first
        while True:
            await self._offload(_append, path, piece.data)
            done += len(piece.data)
            if done >= first.size or not piece.data:
                break
            request = FetchRequest(first.checksum, done, size)
            piece = await self._ask(leader, request, _PIECE_TIMEOUT)
        return SnapshotMetadata(
            first.last_included_index,
            first.last_included_term,
            first.configuration,
            first.size,
            first.checksum,
        )

    async def _ask(self, leader: str, request: FetchRequest, timeout: float) -> FetchResponse:
        """A piece, after some tries. Raises Refused."""
        reason = ""
        for _ in range(5):
            try:
                answer = await self._peers.call(leader, request, timeout)
            except (Unreachable, PeerRefused) as error:
                reason = str(error)
                await trio.sleep(0.5)
                continue
            if not isinstance(answer, FetchResponse):
                reason = "no fitting answer"
            elif answer.last_included_index is None or answer.configuration is None:
                reason = answer.reason
            else:
                return answer
            break
        raise Refused(f"{leader}, the leader, does not give its state: {reason}")

    async def _wait_for_commit(self, index: int) -> None:
        with trio.move_on_after(_PIECE_TIMEOUT):
            while self._raft.server.commit_index < index:  # noqa: ASYNC110 - from any update
                await trio.sleep(0.01)
        if self._raft.server.commit_index < index:
            raise Refused(f"this node has not heard in time that entry {index} is committed")

    async def handle_fetch(self, request: FetchRequest) -> FetchResponse:
        """A member asks for a piece of our state."""
        try:
            if not request.checksum:
                await self._begin()
            return await self._give(request)
        except (Refused, OSError, StorageError) as error:
            return FetchResponse(None, reason=str(error))

    async def _begin(self) -> None:
        """A new snapshot is what is given from now on. Raises Refused, StorageError."""
        if self._raft.server.role is not Role.LEADER:
            raise Refused("not the leader any more")
        try:
            await self._take_newer()
        except SnapshotFailed as error:
            raise Refused(f"no snapshot was taken: {error}") from error
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._reader = self._disk.open_snapshot()
        log.info("gives a member its state, which was asked for")

    async def _give(self, request: FetchRequest) -> FetchResponse:
        """Raises Refused, OSError."""
        reader = self._reader
        if reader is None or request.checksum not in {"", reader.metadata.checksum}:
            raise Refused("another node is being given a state; try again")
        found = reader.metadata
        if request.offset > found.size:
            raise Refused(f"its snapshot has {found.size} bytes")
        limit = self._raft.server.settings.snapshot_chunk_bytes
        data = await self._offload(reader.read, request.offset, min(request.size, limit))
        if request.offset + len(data) >= found.size and reader is self._reader:
            self._reader = None
            reader.close()
        return FetchResponse(
            found.last_included_index,
            found.last_included_term,
            found.configuration,
            found.size,
            found.checksum,
            data,
        )

    async def _take_newer(self) -> None:
        """A snapshot that goes further than any that another node may have taken by itself: the
        other's is wrong, and only a newer one takes its place. Raises SnapshotFailed."""
        try:
            index, _ = self._raft.propose(trio.current_time(), [b""], EntryType.NO_OP)
        except (NotLeader, Busy) as error:
            raise SnapshotFailed(str(error)) from error
        with trio.move_on_after(_PIECE_TIMEOUT) as waited:  # it goes with the next heartbeat
            await self._applier.wait_applied(index)
        if waited.cancelled_caught:
            raise SnapshotFailed(f"entry {index} is not committed: no majority, or a slow one")
        await self._snapshots.take()


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
