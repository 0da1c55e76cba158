"""The checker itself: whatever is broken by hand, it says so, by name and with numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftd.raft.configuration import Configuration
from raftd.raft.history import InvariantViolated
from raftd.raft.invariants import Invariants
from raftd.raft.log import Log
from raftd.raft.server import Server
from raftd.raft.state import HardState, Role, SnapshotMetadata
from tests.raft import rpcs
from tests.raft.durable import command, log_of
from tests.raft.lone import THREE
from tests.raft.network import Network

Break = Callable[[Network], None]


def running() -> Network:
    """n1 leads term 2; everybody has four entries of terms 1, 1, 2, 2, all of them committed."""
    network = Network(THREE, logs={name: [1, 1] for name in THREE})
    network.elect("n1")
    network.propose("n1", b"x")
    network.deliver_all()
    network.heartbeat("n1")
    assert network["n2"].server.log.term_runs == ((1, 1), (3, 2))
    return network


def replace_log(server: Server, terms: list[int]) -> None:
    """Not by the ways a server has."""
    server.log = Log()
    for entry in log_of(terms):
        server.log.append(entry)


def two_leaders(network: Network) -> None:
    network["n2"].server.role = Role.LEADER


def a_second_life_leads_the_same_term(network: Network) -> None:
    network.restart("n1")
    network["n1"].server.role = Role.LEADER


def a_leader_drops_an_entry(network: Network) -> None:
    network.isolate("n1")
    network.propose("n1", b"y")
    network["n1"].server.log.truncate_from(5)
    network["n1"].server.persisted_index = 4


def a_leader_replaces_an_entry(network: Network) -> None:
    network.isolate("n1")
    network.propose("n1", b"y")
    server = network["n1"].server
    server.log.truncate_from(5)
    server.log.append(command(5, 2, b"z"))


def another_record(network: Network) -> None:
    network["n1"].server.log.append(command(5, 2, b"one"))
    network["n2"].server.log.append(command(5, 2, b"other"))


def a_committed_entry_changes(network: Network) -> None:
    server = network["n2"].server
    replace_log(server, [1, 1, 2, 3])
    server.current_term = 3


def another_entry_is_committed(network: Network) -> None:
    server = network["n2"].server
    server.commit_index = 4
    fresh = Network(THREE, logs={"n2": [1, 1, 3, 4]}, terms={"n2": 4})["n2"].server
    fresh.persisted_hard_state = HardState(4)
    fresh.commit_index = 4
    network["n2"].running.server = fresh
    network.invariants.history.seen.pop(("n2", 0))


def a_leader_lacks_what_is_committed(network: Network) -> None:
    network.crash("n1")
    server = network["n2"].server
    fresh = Network(THREE, logs={"n2": [1, 1]}, terms={"n2": 5})["n2"].server
    fresh.role = Role.LEADER
    network.invariants.history.seen.pop(("n2", 0))
    network["n2"].running.server = fresh
    assert server.current_term == 2


def an_older_leader_had_not_what_is_committed(network: Network) -> None:
    """The leader of term 9 is seen first, the commit in term 2 afterwards."""
    network.isolate("n1")
    network.propose("n1", b"y")
    server = network["n3"].server
    server.role, server.current_term = Role.LEADER, 9
    network.settle("n3")
    server.role = Role.FOLLOWER
    network["n1"].server.commit_index = 5
    network["n2"].server.log.append(network["n1"].durable.entries[-1])
    network["n2"].server.persisted_index = 5


def the_commit_index_falls(network: Network) -> None:
    network["n2"].server.commit_index = 3


def the_term_falls(network: Network) -> None:
    server = network["n2"].server
    server.current_term = 7
    network.settle("n2")
    server.current_term = 6


def the_durable_term_falls(network: Network) -> None:
    network["n2"].server.persisted_hard_state = HardState(1)


def a_vote_changes(network: Network) -> None:
    network["n2"].server.voted_for = "n3"


def a_durable_vote_changes_in_another_life(network: Network) -> None:
    network.crash("n2")
    network["n2"].durable.hard_state = HardState(2, "n3")
    network.invariants.history.seen.pop(("n2", 0))
    network.start("n2")


def a_durable_vote_is_gone_in_another_life(network: Network) -> None:
    network.crash("n2")
    network["n2"].durable.hard_state = HardState(2)
    network.start("n2")


def a_durable_entry_is_gone_in_another_life(network: Network) -> None:
    network.crash("n2")
    del network["n2"].durable.entries[-1]
    network.start("n2", keep_state=False)


def more_is_saved_than_there_is(network: Network) -> None:
    network["n2"].server.persisted_index = 5


def a_snapshot_of_the_future(network: Network) -> None:
    server = network["n2"].server
    server.snapshot = SnapshotMetadata(5, 2, server.configuration)


def terms_that_fall(network: Network) -> None:
    server = network["n2"].server
    server.log = Log(0, 0, 4, [(1, 1), (3, 2), (4, 1)], [])


def runs_that_begin_elsewhere(network: Network) -> None:
    server = network["n2"].server
    server.log = Log(0, 0, 4, [(2, 1), (3, 2)], [])


def an_entry_of_a_term_to_come(network: Network) -> None:
    network["n2"].server.log.append(command(5, 3))


def an_acknowledgement_without_a_save(network: Network) -> None:
    network["n1"].server.progress["n2"].match_index = 9


def a_commit_without_a_majority(network: Network) -> None:
    network.isolate("n1")
    network.propose("n1", b"y")
    network["n1"].server.commit_index = 5


def a_configuration_that_is_not_the_last(network: Network) -> None:
    network["n2"].server.configurations.append((4, Configuration(("n1",))))


def a_configuration_that_is_kept_after_truncation(network: Network) -> None:
    server = network["n2"].server
    entry = rpcs.configuration_entry(5, 2, Configuration(("n1",)))
    server.append(entry)
    network.settle("n2")
    server.log.truncate_from(5)
    server.persisted_index = 4


def a_snapshot_with_a_pending_configuration(network: Network) -> None:
    entry = rpcs.configuration_entry(5, 2, Configuration(("n1", "n2")))
    for name in THREE:
        server = network[name].server
        server.append(entry)
        server.persisted_index = server.commit_index = 5
    network.invariants.after_step([node.server for node in network.up])
    server = network["n2"].server
    server.snapshot = SnapshotMetadata(5, 2, Configuration(THREE))
    server.configurations = [(5, server.snapshot.configuration)]


CASES: list[tuple[str, Break]] = [
    ("election safety", two_leaders),
    ("election safety", a_second_life_leads_the_same_term),
    ("leader append-only", a_leader_drops_an_entry),
    ("log matching", a_leader_replaces_an_entry),
    ("log matching", another_record),
    ("state machine safety", a_committed_entry_changes),
    ("state machine safety", another_entry_is_committed),
    ("leader completeness", a_leader_lacks_what_is_committed),
    ("leader completeness", an_older_leader_had_not_what_is_committed),
    ("commit index never goes back", the_commit_index_falls),
    ("terms never go back", the_term_falls),
    ("terms never go back", the_durable_term_falls),
    ("one vote a term", a_vote_changes),
    ("one vote a term", a_durable_vote_changes_in_another_life),
    ("durable state survives", a_durable_vote_is_gone_in_another_life),
    ("durable state survives", a_durable_entry_is_gone_in_another_life),
    ("persisted index", more_is_saved_than_there_is),
    ("order of indexes", a_snapshot_of_the_future),
    ("terms rise along a log", terms_that_fall),
    ("terms rise along a log", runs_that_begin_elsewhere),
    ("terms of entries", an_entry_of_a_term_to_come),
    ("acknowledged means durable", an_acknowledgement_without_a_save),
    ("committed means on a majority's disks", a_commit_without_a_majority),
    ("configuration in force", a_configuration_that_is_not_the_last),
    ("configuration in force", a_configuration_that_is_kept_after_truncation),
    ("configuration of a snapshot", a_snapshot_with_a_pending_configuration),
]


@pytest.mark.parametrize(
    ("name", "break_it"), CASES, ids=lambda case: getattr(case, "__name__", "")
)
def test_what_is_broken_is_found(name: str, break_it: Break) -> None:
    network = running()
    with pytest.raises(InvariantViolated) as found:
        network.invariants.checks_changes = False
        break_it(network)
        network.invariants.after_step([node.server for node in network.up])
    assert found.value.name == name
    assert str(found.value) == f"{name}: {found.value.text}"
    assert any(server in found.value.text for server in THREE)


def test_a_log_that_matches_nowhere_is_found() -> None:
    """Log matching: one entry of index and term, two different ones in front of it."""
    checker = Invariants()
    servers = [
        Network(THREE, logs={name: log})[name].server
        for name, log in (("n1", [1, 3]), ("n2", [2, 3]))
    ]
    with pytest.raises(InvariantViolated, match=r"log matching: n2 has an entry 2 of term 3"):
        checker.after_step(servers)


def test_nothing_changed_costs_nothing() -> None:
    network = running()
    servers = [node.server for node in network.up]
    seen = dict(network.invariants.history.seen)
    network.invariants.after_step(servers)
    assert network.invariants.history.seen == seen


def test_servers_that_are_down_may_be_left_out() -> None:
    network = running()
    network.crash("n3")
    network.propose("n1", b"y")
    network.deliver_all()
    network.invariants.after_step([network["n1"].server])
    network.start("n3")


def test_what_a_restart_may_forget_is_no_violation() -> None:
    """What was not saved: a vote, a term, entries, the commit index."""
    network = running()
    node = network["n2"]
    node.held.add("save")
    network.inject("n3", "n2", rpcs.append(2, 4, 2, [2, 2]))
    network.sleep(5)
    network.inject("n3", "n2", rpcs.vote(7, 9, 9))
    assert node.server.hard_state == HardState(7, "n3")
    network.crash("n2")
    network.start("n2", keep_state=False)
    assert (node.server.current_term, node.server.commit_index) == (2, 0)
