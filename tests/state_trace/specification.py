"""Judges a state trace as etcd's Traceetcdraft.tla and etcdraft.tla do, without a model checker.

One line is one step of the specification (a received message may take several). In front of each
received message, and behind every other step, the state of the server must be what its line says.
What a line's step may be, and what it does, is written down here anew, from
https://github.com/etcd-io/raft/tree/main/tla; configuration changes are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from raftd.state_trace.events import CANDIDATE, FOLLOWER, LEADER, NOBODY, Event, TracedMessage

RECEIVED = "ReceiveAppendEntriesRequest ReceiveAppendEntriesResponse ReceiveRequestVoteRequest"
RECEIVES = frozenset((*RECEIVED.split(), "ReceiveRequestVoteResponse", "ReceiveSnapshot"))
BOOTSTRAP = frozenset(("InitState", "BecomeFollower", "ApplyConfChange"))


class Line(msgspec.Struct):
    level: str
    ts: float
    tag: str
    event: Event


class Refused(Exception):
    """The specification does not allow that line."""


class Message(msgspec.Struct, frozen=True):
    """`kind` is app, heartbeat, snapshot or vote. `index` and `log_term` are those in front of
    `entries`, the terms of those; of an answer, `index` is what matches, or 0."""

    kind: str
    answer: bool
    term: int
    source: str
    target: str
    index: int = 0
    log_term: int = 0
    entries: tuple[int, ...] = ()
    commit: int = 0
    yes: bool = True


class Server:
    """One server's variables; `log` holds the terms of its entries."""

    def __init__(self, event: Event) -> None:
        self.role = event.role
        self.term, self.vote = event.state.term, event.state.vote
        self.log = [1] * event.log
        self.commit = event.state.commit
        self.voters = frozenset(event.conf[0])
        self.match: dict[str, int] = {}
        self.granted: set[str] = set()
        self.pending: Counter[Message] = Counter()
        self.persist()

    def persist(self) -> None:
        self.durable = (self.term, self.vote, len(self.log), self.commit)

    def restart(self) -> None:
        self.role = FOLLOWER
        self.term, self.vote, length, self.commit = self.durable
        del self.log[length:]
        self.match, self.granted = {}, set()
        self.pending.clear()

    def follow(self, term: int) -> None:
        if term != self.term:
            self.term, self.vote = term, NOBODY
        self.role = FOLLOWER

    def term_at(self, index: int) -> int:
        return self.log[index - 1] if 0 < index <= len(self.log) else 0

    def quorum(self, members: Iterable[str]) -> bool:
        return len(self.voters & set(members)) * 2 > len(self.voters)


class Judge:
    """`judge` each line in its turn. Raises Refused."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.messages: Counter[Message] = Counter()
        self.committed: list[int] = []
        self._starting: set[str] = set()
        self._last: dict[str, Event] = {}

    def judge(self, event: Event) -> None:
        name = event.nid
        if name not in self.servers or (name in self._starting and event.name in BOOTSTRAP):
            self.servers[name] = Server(event)
            self._starting.add(name)
        else:
            self._starting.discard(name)
            self._step(self.servers[name], event)
            self._look_at(self.servers[name])
        self._last[name] = event

    def _step(self, server: Server, event: Event) -> None:
        if event.name in RECEIVES:
            self._compare(server, event)
            self._receive(server, event)
            return
        message = event.msg
        match event.name:
            case "InitState":
                server.restart()
            case "BecomeCandidate":
                _demand(server.role != LEADER, "a leader stands for election")
                server.role, server.term, server.vote = CANDIDATE, server.term + 1, event.nid
                server.granted = set()
            case "BecomeLeader":
                _demand(server.role == CANDIDATE, "only a candidate becomes leader")
                _demand(server.quorum(server.granted), "no majority of votes")
                server.role, server.match = LEADER, {event.nid: len(server.log)}
            case "BecomeFollower":
                if self._follows_from_message(event):
                    return
                _demand(server.role != FOLLOWER, "it is a follower already")
                server.follow(server.term)
            case "Replicate":
                _demand(server.role == LEADER, "only a leader appends")
                server.log.append(server.term)
                return
            case "Commit":
                self._commit(server)
            case "Ready":
                server.persist()
                self.messages.update(server.pending)
                server.pending.clear()
                return
            case _ if event.name.startswith("Send") and message is not None:
                if event.name.endswith("Response") and message.from_ != message.to:
                    return
                self._send(server, event.name, message)
            case _:
                raise Refused(f"no event of the specification: {event.name}")
        self._compare(server, event)

    def _compare(self, server: Server, event: Event) -> None:
        state = event.state
        here: dict[str, Any] = {
            "term": (server.term, state.term),
            "vote": (server.vote, state.vote),
            "commit": (server.commit, state.commit),
            "role": (server.role, event.role),
            "log": (len(server.log), event.log),
            "conf": ((server.voters, 0), (frozenset(event.conf[0]), len(event.conf[1]))),
        }
        for field, (expected, found) in here.items():
            _demand(expected == found, f"{field} is {expected} for the specification, not {found}")

    def _follows_from_message(self, event: Event) -> bool:
        """The step back that a received message has brought already."""
        last = self._last[event.nid]
        if last.name not in RECEIVES or last.msg is None or last.msg.term != event.state.term:
            return False
        candidate = last.name == "ReceiveAppendEntriesRequest" and last.role == CANDIDATE
        return last.state.term < last.msg.term or (candidate and last.state.term == last.msg.term)

    def _commit(self, server: Server) -> None:
        _demand(server.role == LEADER, "only a leader commits")
        agreed = [
            index
            for index in range(1, len(server.log) + 1)
            if server.quorum(name for name in server.voters if server.match.get(name, 0) >= index)
        ]
        if agreed and server.term_at(agreed[-1]) == server.term:
            server.commit = max(server.commit, agreed[-1])

    # ---- messages

    def _send(self, server: Server, name: str, traced: TracedMessage) -> None:
        """The message that the specification would send now must be the one on the line."""
        source, target = traced.from_, traced.to
        if name.startswith("SendRequestVote"):
            _demand(server.role == CANDIDATE, "only a candidate asks for votes")
            if source == target:
                message = Message("vote", True, server.term, source, target)
            else:
                last = len(server.log)
                index, term = last, server.term_at(last)
                message = Message("vote", False, server.term, source, target, index, term)
        else:
            _demand(server.role == LEADER, "only a leader sends entries")
            message = self._entries(server, traced)
        _same(message, traced)
        server.pending[message] += 1

    def _entries(self, server: Server, traced: TracedMessage) -> Message:
        source, target = traced.from_, traced.to
        known = server.match.get(target, 0)
        match traced.type:
            case "MsgAppResp":
                return Message("app", True, server.term, source, target, len(server.log))
            case "MsgHeartbeat":
                commit = min(server.commit, known)
                return Message("heartbeat", False, server.term, source, target, commit=commit)
            case "MsgSnap":
                _demand(traced.entries <= server.commit, "a snapshot of what is not committed")
                entries = tuple(server.log[: traced.entries])
                return Message("snapshot", False, server.term, source, target, entries=entries)
            case _:
                previous, last = traced.index, traced.index + traced.entries
                _demand(known <= previous and last <= len(server.log), "no such entries to send")
                return Message(
                    "app",
                    False,
                    server.term,
                    source,
                    target,
                    previous,
                    server.term_at(previous),
                    tuple(server.log[previous:last]),
                    min(server.commit, last),
                )

    def _receive(self, server: Server, event: Event) -> None:
        traced = event.msg
        assert traced is not None
        _demand(traced.to == event.nid, "received by somebody else")
        message = next((each for each in self.messages if _is(each, traced)), None)
        if message is None:
            raise Refused("no such message is on its way")
        self.messages[message] -= 1
        if not self.messages[message]:
            del self.messages[message]
        if message.term > server.term:
            server.follow(message.term)
        match message.kind, message.answer:
            case "vote", False:
                self._vote(server, message)
            case "vote", True:
                if message.term == server.term and message.yes:
                    server.granted.add(message.source)
            case _, True:
                if message.term == server.term and message.yes:
                    match = server.match
                    match[message.source] = max(match.get(message.source, 0), message.index)
            case _:
                self._append(server, message)

    def _vote(self, server: Server, message: Message) -> None:
        last = (server.term_at(len(server.log)), len(server.log))
        granted = (
            message.term == server.term
            and (message.log_term, message.index) >= last
            and server.vote in {NOBODY, message.source}
        )
        if granted:
            server.vote = message.source
        self._answer(server, message, "vote", 0, yes=granted)

    def _append(self, server: Server, message: Message) -> None:
        if message.term < server.term:
            self._answer(server, message, "app", 0, yes=False)
            return
        _demand(server.role != LEADER, "two leaders in one term")
        server.role = FOLLOWER
        previous, entries = message.index, message.entries
        if previous and server.term_at(previous) != message.log_term:
            self._answer(server, message, "app", 0, yes=False)
            return
        last = previous + len(entries)
        if previous < server.commit:
            if message.kind == "heartbeat":
                server.commit = max(server.commit, message.commit)
            matches = last if message.kind == "heartbeat" else server.commit
        else:
            for index, term in enumerate(entries, previous + 1):
                if server.term_at(index) not in {0, term}:
                    del server.log[index - 1 :]
                if index > len(server.log):
                    server.log.append(term)
            server.commit = max(server.commit, min(message.commit, last))
            matches = last
        self._answer(server, message, message.kind, matches)

    def _answer(
        self, server: Server, message: Message, kind: str, index: int, *, yes: bool = True
    ) -> None:
        answer = Message(kind, True, server.term, message.target, message.source, index, yes=yes)
        server.pending[answer] += 1

    # ---- what must always hold

    def _look_at(self, server: Server) -> None:
        leads = server.role == LEADER
        for other in self.servers.values():
            if other is not server and leads and other.role == LEADER:
                _demand(other.term != server.term, "two leaders in one term")
        known = min(len(self.committed), server.commit)
        _demand(server.log[:known] == self.committed[:known], "committed entries differ")
        self.committed += server.log[len(self.committed) : server.commit]
        if leads:
            _demand(server.commit <= server.durable[2], "committed is not durable at the leader")
            if server.log[-1] < server.term:
                length = len(self.committed)
                whole = server.log[:length] == self.committed
                _demand(whole, "a leader without a committed entry")


def _demand(truth: bool, why: str) -> None:
    if not truth:
        raise Refused(why)


_KINDS = {
    "MsgVote": ("vote", False),
    "MsgVoteResp": ("vote", True),
    "MsgApp": ("app", False),
    "MsgAppResp": ("app", True),
    "MsgHeartbeat": ("heartbeat", False),
    "MsgHeartbeatResp": ("heartbeat", True),
    "MsgSnap": ("snapshot", False),
}


def _is(message: Message, traced: TracedMessage) -> bool:
    """Are these, as far as the specification compares them, the same?"""
    if (message.kind, message.answer) != _KINDS[traced.type] or (
        (message.term, message.source, message.target) != (traced.term, traced.from_, traced.to)
    ):
        return False
    if message.answer:
        compared = message.kind == "app" and message.yes
        return message.yes != traced.reject and (not compared or message.index == traced.index)
    if message.kind == "vote":
        return (message.index, message.log_term) == (traced.index, traced.log_term)
    return (
        len(message.entries) == traced.entries
        and (message.kind == "snapshot" or message.commit == traced.commit)
        and (
            message.kind == "heartbeat"
            or (message.index, message.log_term) == (traced.index, traced.log_term)
        )
    )


def _same(message: Message, traced: TracedMessage) -> None:
    _demand(_is(message, traced), f"the specification would send {message}")


_decoder = msgspec.json.Decoder(Line)


def judge(lines: Iterable[bytes]) -> Counter[str]:
    """How many events there were of each name. Raises Refused, with the line, for the first that
    cannot be."""
    judging = Judge()
    counts: Counter[str] = Counter()
    for number, text in enumerate(lines, start=1):
        try:
            line = _decoder.decode(text)
            judging.judge(line.event)
        except (Refused, msgspec.DecodeError) as error:
            raise Refused(f"line {number}: {error}: {text.decode()}") from error
        counts[line.event.name] += 1
    return counts
