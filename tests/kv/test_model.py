"""The store against a dictionary: any batches, restarts and snapshots."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from raftd.kv import commands
from raftd.kv.commands import (
    Changed,
    CompareAndSet,
    CompareFailed,
    Delete,
    Get,
    Item,
    Put,
    Range,
)
from raftd.kv.store import KeyValueStore
from raftd.state_machine import Committed

keys = st.binary(min_size=1, max_size=2).map(
    lambda key: key.translate((bytes([0, 97, 255]) * 86)[:256])
)
values = st.binary(max_size=3)
operations = st.one_of(
    st.builds(Put, keys, values),
    st.builds(Delete, keys),
    st.builds(
        CompareAndSet,
        keys,
        st.none() | st.integers(0, 30),
        st.none() | values,
        st.none() | values,
    ),
)
Contents = dict[bytes, tuple[bytes, int]]


def model_apply(contents: Contents, command: commands.Command, index: int) -> commands.Result:
    """What the paper on the table says a command does."""
    value, revision = contents.get(command.key, (None, 0))
    if isinstance(command, CompareAndSet):
        if command.expected_revision is not None:
            fits = command.expected_revision == revision
        else:
            fits = command.expected_value == value
        if not fits:
            return CompareFailed(revision, value)
    if isinstance(command, Delete) or command.value is None:
        contents.pop(command.key, None)
    else:
        contents[command.key] = (command.value, index)
    return Changed(index, existed=revision > 0)


class AgainstDictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = KeyValueStore(self.directory / "0")
        self.lives = 0
        self.contents: Contents = {}
        self.index = 0
        self.snapshot: tuple[Path, Contents, int] | None = None

    @rule(batch=st.lists(operations, min_size=1, max_size=6))
    def apply(self, batch: list[commands.Command]) -> None:
        entries, expected = [], []
        for command in batch:
            self.index += 1
            entries.append(Committed(self.index, 7, 0, commands.encode(command)))
            expected.append(model_apply(self.contents, command, self.index))
        results = self.store.apply(entries)
        assert [commands.decode_result(result) for result in results] == expected

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        expected = self.contents.get(key)
        for read in (self.store.read, self.store.read_now):
            found = commands.decode_items(read(commands.encode(Get(key)))).items
            assert found == (() if expected is None else (Item(key, *expected),))

    @rule(
        prefix=st.just(b"") | keys, limit=st.integers(0, 5), after=st.none() | st.just(b"") | keys
    )
    def range(self, prefix: bytes, limit: int, after: bytes | None) -> None:
        query = commands.encode(Range(prefix, limit, after))
        found = commands.decode_items(self.store.read(query))
        expected = [
            Item(key, *self.contents[key])
            for key in sorted(self.contents)
            if key.startswith(prefix) and (after is None or key > after)
        ]
        assert list(found.items) == expected[:limit]
        assert found.more == (len(expected) > limit)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = KeyValueStore(self.directory / str(self.lives))

    @rule()
    def kill(self) -> None:
        """What kill -9 leaves: the files as they are, with nothing closed."""
        self.lives += 1
        copy = self.directory / str(self.lives)
        shutil.copytree(self.directory / str(self.lives - 1), copy)
        (copy / "kv.db-shm").unlink(missing_ok=True)
        self.store.close()
        self.store = KeyValueStore(copy)

    @rule()
    def take_snapshot(self) -> None:
        path = self.directory / f"snapshot-{self.index}"
        path.unlink(missing_ok=True)
        assert self.store.snapshot(path) == self.index
        self.snapshot = (path, dict(self.contents), self.index)

    @rule()
    def restore(self) -> None:
        if self.snapshot is not None:
            path, contents, index = self.snapshot
            self.store.restore(path)
            self.contents, self.index = dict(contents), index

    @invariant()
    def index_agrees(self) -> None:
        assert self.store.last_applied == self.index

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)


AgainstDictionary.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None
)
TestAgainstDictionary = AgainstDictionary.TestCase
