"""The language of scenarios/*.txt: a command on each line, and under it, indented, what it did.

    nodes n1 n2 n3 [learners n4 ...]   the voters; has to come first
    log NODE TERM...                   what a node finds on its disk at its first start
    limit SETTING NUMBER               a field of Settings
    elect NODE                         after a silence it stands for election; all is delivered
    timeout NODE                       its deadline passes
    heartbeat NODE                     the leader's next heartbeat; all is delivered
    sleep SECONDS                      nobody looks at the clock
    run SECONDS                        everything happens when it is due
    propose NODE WORD...               commands, together
    read NODE                          asks for a read index
    transfer NODE [NODE]               hands leadership over
    change NODE WORD NAME [NAME]       add, add-learner, promote, demote, remove or replace a member
    join NODE INDEX                    a new node, admitted by that entry, starts with an empty disk
    members                            the members in force, everywhere
    snapshot NODE                      takes one, and drops the log it covers
    deliver [votes|pre-votes] [NODE...]   all that is under way, or that kind, or among those nodes
    step NUMBER [NODE...]              so many packets, the oldest first
    lose [NODE...]                     what is under way is lost
    partition NODE... | NODE... ...    messages arrive only within a group
    heal                               the partition ends
    crash NODE / restart NODE          what was not saved is lost
    hold NODE / release NODE           its saves wait
    tear NODE NUMBER                   only so many entries of its save reach the disk, and it dies
    show                               what everybody has

A line that begins with # is the story; what is indented is what came out: the notes of the
updates, answers to reads, refusals.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raftd.raft.changes import (
    AddMember,
    Change,
    ChangeRefused,
    DemoteMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
)
from raftd.raft.configuration import Configuration
from raftd.raft.membership import describe
from raftd.raft.messages import RequestVoteRequest, RequestVoteResponse
from raftd.raft.raft import Busy, NotLeader, TransferRefused
from raftd.raft.state import Settings
from tests.raft.network import Network
from tests.raft.packet import Packet


class Story:
    """Runs commands one by one; `tell` is the whole script with what came out under each."""

    def __init__(self) -> None:
        self.members = Configuration(())
        self.logs: dict[str, list[int]] = {}
        self.settings = Settings(snapshot_chunk_bytes=200)
        self.started: Network | None = None
        self.out: list[str] = []

    @property
    def network(self) -> Network:
        if self.started is None:
            terms = dict.fromkeys(self.logs, max(map(max, self.logs.values()), default=0))
            self.started = Network(
                self.members, settings=self.settings, logs=self.logs, terms=terms
            )
            self.started.on_note = lambda note: self.out.append(note.text)
        return self.started

    def tell(self, script: str) -> str:
        lines: list[str] = []
        for line in script.splitlines():
            if line.startswith(" "):
                continue
            lines.append(line)
            if line and not line.startswith("#"):
                self.do(line.split())
                lines += [f"    {text}" for text in self.out]
                self.out.clear()
        return "\n".join(lines) + "\n"

    def do(self, words: list[str]) -> None:
        command: Callable[..., None] = getattr(self, f"do_{words[0]}")
        try:
            command(*words[1:])
        except (Busy, NotLeader, TransferRefused, ChangeRefused) as refusal:
            self.out.append(f"refused: {refusal}")
        for node in self.network.up if self.started else ():
            for ticket, index in node.reads.items():
                what = "is not answered" if index is None else f"sees everything up to {index}"
                self.out.append(f"{node.name}: read {ticket} {what}")
            node.reads.clear()

    # ---- before the start

    def do_nodes(self, *names: str) -> None:
        words = list(names)
        at = words.index("learners") if "learners" in words else len(words)
        self.members = Configuration(tuple(words[:at]), learners=tuple(words[at + 1 :]))

    def do_log(self, name: str, *terms: str) -> None:
        self.logs[name] = [int(term) for term in terms]

    def do_limit(self, setting: str, number: str) -> None:
        value = float(number) if "." in number else int(number)
        self.settings = msgspec.structs.replace(self.settings, **{setting: value})

    # ---- nodes

    def do_elect(self, name: str) -> None:
        self.network.elect(name)

    def do_timeout(self, name: str) -> None:
        self.network.tick(name)

    def do_heartbeat(self, name: str) -> None:
        self.network.heartbeat(name)

    def do_propose(self, name: str, *payloads: str) -> None:
        self.network.propose(name, *(payload.encode() for payload in payloads))

    def do_read(self, name: str) -> None:
        self.network.read(name)

    def do_transfer(self, name: str, target: str | None = None) -> None:
        self.network.transfer(name, target)

    def do_change(self, leader: str, word: str, name: str, by: str = "") -> None:
        changes: dict[str, Callable[[], Change]] = {
            "add": lambda: AddMember(name, f"tcp://{name}"),
            "add-learner": lambda: AddMember(name, f"tcp://{name}", voter=False),
            "promote": lambda: PromoteMember(name),
            "demote": lambda: DemoteMember(name),
            "remove": lambda: RemoveMember(name),
            "replace": lambda: ReplaceMember(name, by, f"tcp://{by}"),
        }
        self.network.change(leader, changes[word]())

    def do_join(self, name: str, membership_index: str) -> None:
        self.network.join(name, int(membership_index))

    def do_members(self) -> None:
        for node in self.network.up:
            removed = " (not its own any more)" if node.server.is_removed else ""
            self.out.append(f"{node.name}: {describe(node.server.configuration)}{removed}")

    def do_snapshot(self, name: str) -> None:
        self.network.take_snapshot(name)

    def do_crash(self, name: str) -> None:
        self.network.crash(name)

    def do_restart(self, name: str) -> None:
        self.network.restart(name)

    def do_hold(self, name: str) -> None:
        self.network[name].held.add("save")

    def do_release(self, name: str) -> None:
        self.network.release(name)

    def do_tear(self, name: str, entries: str) -> None:
        self.network[name].save_partly(int(entries))
        self.network.crash(name)

    def do_show(self) -> None:
        for node in self.network.nodes.values():
            if node.raft is None:
                self.out.append(f"{node.name} is down")
                continue
            server, log = node.server, node.server.log
            terms = " ".join(
                str(log.term(index)) for index in range(log.first_index, log.last_index + 1)
            )
            words = " ".join(payload.decode() for payload in node.commands) or "nothing"
            self.out.append(
                f"{node.name}: {server.role.value} in term {server.current_term};"
                f" log from {log.first_index}: {terms or 'empty'};"
                f" committed {node.commit_index}: {words}"
            )

    # ---- the network and time

    def do_sleep(self, seconds: str) -> None:
        self.network.sleep(float(seconds))

    def do_run(self, seconds: str) -> None:
        self.network.run(float(seconds))

    def do_deliver(self, *words: str) -> None:
        self.network.deliver_all(only=_which(words))

    def do_step(self, number: str, *words: str) -> None:
        only = _which(words)
        for _ in range(int(number)):
            self.network.deliver(next(filter(only, self.network.wire)))

    def do_lose(self, *words: str) -> None:
        self.network.lose_all(only=_which(words))

    def do_partition(self, *words: str) -> None:
        groups = " ".join(words).split("|")
        self.network.partition(*(group.split() for group in groups))

    def do_heal(self) -> None:
        self.network.heal()


def _which(words: tuple[str, ...]) -> Callable[[Packet], bool]:
    kind = words[0] if words and words[0] in {"votes", "pre-votes"} else None
    names = set(words[1:] if kind else words)

    def only(packet: Packet) -> bool:
        message = packet.message
        if names and not {packet.sender, packet.to} <= names:
            return False
        if kind is None:
            return True
        return isinstance(message, RequestVoteRequest | RequestVoteResponse) and (
            message.pre_vote is (kind == "pre-votes")
        )

    return only
