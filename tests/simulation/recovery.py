"""What a node's disk gives back at a start, against what it had promised (`Node.durable`)."""

from __future__ import annotations

from raftd.raft.state import HardState, Recovered, SnapshotMetadata
from tests.simulation.node import Node
from tests.simulation.shadow import ShadowLog, terms_of
from tests.simulation.violation import Violation


def check_recovered(node: Node, recovered: Recovered) -> None:
    """Everything promised is there, and nothing else than what was on its way to the disk."""
    durable = node.durable
    states = [durable.hard_state, *(each.hard_state for each in durable.attempts)]
    if recovered.hard_state not in states:
        raise Violation(
            "durable state",
            f"{node.name} comes back with {_state(recovered.hard_state)}, but its disk had promised"
            f" to keep {_state(durable.hard_state)}",
        )
    found = recovered.last_index, terms_of(recovered)
    snapshot = recovered.snapshot
    index = snapshot.last_included_index
    for log, newest in _possible(node):
        if newest.last_included_index == index and log.above(index) == found:
            return
    promised = durable.log
    raise Violation(
        "durable state",
        f"{node.name} comes back with a snapshot up to {index} and entries up to"
        f" {recovered.last_index} of term {found[1][-1] if found[1] else 0}, but its disk had"
        f" promised to keep a snapshot up to {durable.snapshot.last_included_index} and entries up"
        f" to {promised.last_index} of term {promised.last_term}",
    )


def _possible(node: Node) -> list[tuple[ShadowLog, SnapshotMetadata]]:
    """Every state that the disk may be in, with what was under way done or not done."""
    durable = node.durable
    found = [(durable.log, durable.snapshot)]
    for attempt in durable.attempts:
        for log, snapshot in list(found):
            changed = log.copy()
            if attempt.snapshot is not None:
                if attempt.snapshot.last_included_index <= snapshot.last_included_index:
                    continue
                changed.install(attempt.snapshot)
                found.append((changed, attempt.snapshot))
            elif attempt.entries:
                changed.put(attempt.entries)
                found.append((changed, snapshot))
    return found


def _state(state: HardState) -> str:
    return f"term {state.current_term}, vote {state.voted_for}"
