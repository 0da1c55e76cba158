"""The log as its frames tell it, one after the other: which entries live, where, in which terms.

Indexes go on without a gap. A frame that begins at or below the last index supersedes what is
there and behind it; its terms are not lower than that of the entry before it. It may even begin
below the first index of the first segment there is, because the deletion of old segments looks
at live entries only.
"""

from __future__ import annotations

from zlib import crc32

import msgspec

from raftd.raft import configuration
from raftd.raft.configuration import Configuration
from raftd.raft.log import EntryType
from raftd.record import HEADER, HEADER_SIZE
from raftd.storage.index import OFFSET_BITS, Index
from raftd.storage.scan import Scan

_COMMAND = int(EntryType.COMMAND)
_CONFIGURATION = int(EntryType.CONFIGURATION)
_LAST_TYPE = max(EntryType)


class Replay:
    """`index` and `configurations`, (index, configuration) of each such entry, grow by `replay`."""

    def __init__(self) -> None:
        self.index = Index(1)
        self.configurations: list[tuple[int, Configuration]] = []

    def replay(self, scan: Scan) -> None:
        """Append the entries of one more segment; DirectoryDamaged. The hot loop of a start."""
        unpack, sequence = HEADER.unpack_from, scan.header.sequence << OFFSET_BITS
        expected, term_now = self.index.next_index, self.index.last_term
        append = self.index.words.append
        for start, records, count, first in scan.frames():
            if first != expected:
                self._supersede(scan, start, first)
                append = self.index.words.append
                expected, term_now = first, self.index.last_term
            word, at, end = sequence | start, 0, len(records)
            payload = HEADER_SIZE
            while payload <= end:
                checksum, length, number, term, _, kind = unpack(records, at)
                stop = payload + length
                if stop > end or crc32(records[at + 4 : stop]) != checksum:
                    reason = "a record's checksum does not agree"
                    raise scan.damage(start + at, reason, expected)
                if number != expected:
                    raise scan.damage(start + at, f"entry {number} stands there", expected)
                if term != term_now or kind != _COMMAND:
                    self._turn(scan, start + at, bytes(records[payload:stop]), number, term, kind)
                    term_now = term
                append(word + at)
                expected += 1
                at, payload = stop, stop + HEADER_SIZE
            if at != end or expected != first + count:
                raise scan.damage(start + at, "a frame has not the entries it says", first)

    def _supersede(self, scan: Scan, position: int, first: int) -> None:
        """A frame that does not go on where the log ends: it may only take some back."""
        if not 0 < first < self.index.next_index:
            reason = f"entry {first} follows entry {self.index.last_index}"
            raise scan.damage(position, reason, self.index.next_index)
        self.index.truncate_from(first)
        while self.configurations and self.configurations[-1][0] >= first:
            self.configurations.pop()

    def _turn(
        self, scan: Scan, position: int, payload: bytes, number: int, term: int, kind: int
    ) -> None:
        """A record that begins a term, or is no command."""
        if not max(1, self.index.last_term) <= term < 2**63:
            reason = f"term {term} follows term {self.index.last_term}"
            raise scan.damage(position, reason, number)
        if term != self.index.last_term:
            self.index.runs.append((number, term))
        if kind == _CONFIGURATION:
            try:
                members = configuration.decode(payload)
            except msgspec.DecodeError as error:
                reason = f"the configuration makes no sense ({error})"
                raise scan.damage(position, reason, number) from error
            self.configurations.append((number, members))
        elif kind > _LAST_TYPE:
            raise scan.damage(position, f"unknown entry type {kind}", number)
