"""Is a history of put, get, delete and cas what one atomic register per key could have given?

`check(history)` is the one way in: None if the history is linearizable (Herlihy & Wing 1990), else
an `Illegal` with the shortest prefix that is not, and why. Linearizability is local, so every key
is judged on its own (as Porcupine does: Athalye 2017).

The search builds legal orders from the front (Wing & Gong 1993), all of them at once, from one
return to the next ("just in time", Lowe 2017): a configuration is the value, the pending
operations that took effect already, and the operations of unknown outcome used so far; when an
operation returns, every configuration must be one in which it took effect. No configuration is
kept twice. It is sound and complete. These arguments of exchange, each of which keeps a legal order
if there is any, make it fast enough (an operation `needs` the value that it saw, if it saw one):

* An operation that sees the present value and leaves it takes effect at once.
* If the present value has observers to come, and nobody left to write it again, only its observers
  may come next.
* A blind write whose value nobody will see goes right before any other blind write. Of blind
  writes of one value the one with the earliest return goes first.
* An operation with unknown outcome (it took effect once after its call, or never) is used only as
  part of a shortest chain that makes the value which the next operation saw. Of configurations
  that differ only in what they have used, those that have used more can do nothing more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from tests.history import Operation

BLIND = -1
"""`needs` of an operation that is done whatever the value is."""
IMPOSSIBLE = -2
"""`needs` of a cas that reports as another value the very one that it expected."""
UNSEEN = -3
"""Any value that no operation will see any more."""


class Undecided(Exception):
    """The search was given up; the history may be legal or not."""


class Illegal(msgspec.Struct, frozen=True):
    """`prefix`: the key's operations up to the first return that no order explains, by call time.

    The last one to return is `culprit`; those whose return is later count as unfinished.
    """

    key: str
    prefix: tuple[Operation, ...]
    culprit: Operation
    explanation: str


def check(
    history: Iterable[Operation],
    initial: Mapping[str, str] | None = None,
    max_steps: int = 20_000_000,
) -> Illegal | None:
    """None if linearizable. Keys not in `initial` start without a value.

    Raises Undecided if one key takes more than `max_steps`.
    """
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        assert operation.call <= operation.returned, f"returned before it was called: {operation}"
        by_key[operation.key].append(operation)
    for key, operations in sorted(by_key.items()):
        operations.sort(key=lambda each: (each.call, each.returned))
        first = (initial or {}).get(key)
        if not _Search(operations, first, max_steps).run():
            return _explain(key, operations, first, max_steps)
    return None


class _Step(msgspec.Struct, frozen=True, gc=False):
    """One operation, ready for the search. `needs` and `leaves` are numbers of values."""

    operation: Operation
    call: int
    returned: int
    needs: int
    leaves: int

    @property
    def observes_only(self) -> bool:
        return self.needs == self.leaves


_Configuration = tuple[int, int, int]
"""(bit i: the operation in slot i took effect; the value; bit i: unknown operation i was used)"""


class _Layer:
    """A set of configurations; of those that differ only in `used`, the ones that used least."""

    def __init__(self) -> None:
        self._used: defaultdict[tuple[int, int], list[int]] = defaultdict(list)

    def add(self, placed: int, value: int, used: int) -> bool:
        """False if a configuration that is as good is there already."""
        known = self._used[placed, value]
        if known:
            if any(other & ~used == 0 for other in known):
                return False
            known[:] = [other for other in known if used & ~other]
        known.append(used)
        return True

    def __iter__(self) -> Iterator[_Configuration]:
        for (placed, value), alternatives in self._used.items():
            for used in alternatives:
                yield placed, value, used


class _Search:
    """The search for a legal order of one key's operations, sorted by call."""

    def __init__(self, operations: Sequence[Operation], first: str | None, limit: int) -> None:
        self._numbers: dict[str | None, int] = {None: 0}
        self._steps_left = limit
        steps = [
            (each.outcome, self._step(each))
            for each in operations
            if each.outcome != "failed" and (each.outcome, each.operation) != ("unknown", "get")
        ]
        self.known = [step for outcome, step in steps if outcome != "unknown"]
        unknown = [step for outcome, step in steps if outcome == "unknown"]
        self.unknown = _observable(self.known, unknown)
        self._first = self._number(first)
        self.values = {number: value for value, number in self._numbers.items()}
        # Of operations that have not returned: how many need, or write, each value.
        self._observers = Counter(step.needs for step in self.known)
        self._writers = Counter(step.leaves for step in self.known if not step.observes_only)
        self._makers: defaultdict[int, list[int]] = defaultdict(list)
        self._makers_mask: Counter[int] = Counter()
        self._users_mask: Counter[int] = Counter()
        for index, step in enumerate(self.unknown):
            self._makers[step.leaves].append(index)
            self._makers_mask[step.leaves] |= 1 << index
            self._users_mask[step.needs] |= 1 << index
        self._pending: dict[int, _Step] = {}
        self._now = 0
        self.layer = _Layer()
        """What may be the case; after `run` returned False, just before it became impossible."""

    def _number(self, value: str | None) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    def _step(self, operation: Operation) -> _Step:
        match operation.operation:
            case "get":
                needs = leaves = self._number(operation.result)
            case "put":
                assert operation.value is not None, f"a put writes something: {operation}"
                needs, leaves = BLIND, self._number(operation.value)
            case "delete":
                needs, leaves = BLIND, 0
            case "cas" if operation.outcome == "mismatch":
                needs = leaves = self._number(operation.result)
                if operation.result == operation.expected:
                    needs = leaves = IMPOSSIBLE
            case "cas":
                needs, leaves = self._number(operation.expected), self._number(operation.value)
        return _Step(operation, operation.call, operation.returned, needs, leaves)

    def run(self) -> bool:
        """True if there is a legal order."""
        self.layer.add(0, self._first, 0)
        events = [(step.call, 0, number) for number, step in enumerate(self.known)]
        events += [(step.returned, 1, number) for number, step in enumerate(self.known)]
        events.sort()
        slots: dict[int, int] = {}
        free: list[int] = []
        for self._now, returns, number in events:
            step = self.known[number]
            if not returns:
                slot = slots[number] = free.pop() if free else len(slots)
                self._pending[slot] = step
                continue
            slot = slots[number]
            layer = self._returned(slot)
            if layer is None:
                return False
            self.layer = layer
            free.append(slot)
            del self._pending[slot]
            self._observers[step.needs] -= 1
            if not step.observes_only:
                self._writers[step.leaves] -= 1
        return True

    def _returned(self, slot: int) -> _Layer | None:
        """What may be the case once the operation in `slot` took effect; None: nothing."""
        seen, after = _Layer(), _Layer()
        bit = 1 << slot
        found = False
        stack = list(self.layer)
        while stack:
            placed, value, used = stack.pop()
            for other, step in self._pending.items():
                if step.needs == value and step.observes_only:
                    placed |= 1 << other
            if placed & bit:
                left = self._left(self._observers[value], value, placed, used)
                after.add(placed & ~bit, value if left else UNSEEN, used)
                found = True
                continue
            for move in self._moves(placed, value, used, bit):
                if seen.add(*move):
                    stack.append(move)
                    self._steps_left -= 1
        if self._steps_left < 0:
            raise Undecided("too many configurations")
        return after if found else None

    def _left(self, total: int, value: int, placed: int, used: int) -> bool:
        """Will anybody need `value`? `total` is how many needed it that have not returned."""
        if self._users_mask[value] & ~used:
            return True
        return total > 0 and total > sum(
            1 for slot, step in self._pending.items() if placed >> slot & 1 and step.needs == value
        )

    def _held(self, value: int, placed: int, used: int) -> bool:
        """Must `value` stay until its observers are done, because nobody will write it again?"""
        if not self._observers[value] or self._makers_mask[value] & ~used:
            return False
        observers, writers = self._observers[value], self._writers[value]
        for slot, step in self._pending.items():
            if placed >> slot & 1:
                observers -= step.needs == value
                writers -= step.leaves == value and not step.observes_only
        return observers > 0 and not writers

    def _moves(self, placed: int, value: int, used: int, bit: int) -> Iterator[_Configuration]:
        """What may come next, until the operation with `bit` took effect."""
        waiting = [(slot, each) for slot, each in self._pending.items() if not placed >> slot & 1]
        for slot, step in waiting:
            if step.needs == value:
                yield placed | 1 << slot, step.leaves, used
        if self._held(value, placed, used):
            return
        blind: dict[int, tuple[int, int]] = {}
        hidden = placed
        for slot, step in waiting:
            if step.needs != BLIND:
                continue
            if not self._left(self._observers[step.leaves], step.leaves, placed, used):
                hidden |= 1 << slot
            elif step.leaves not in blind or step.returned < blind[step.leaves][0]:
                blind[step.leaves] = (step.returned, slot)
        if hidden & bit:
            yield hidden, UNSEEN, used
        for leaves, (_, slot) in blind.items():
            yield hidden | 1 << slot, leaves, used
        for slot, step in waiting:
            if step.needs not in {BLIND, IMPOSSIBLE}:
                for more in self._chains(step.needs, value, used, frozenset()):
                    starts_blind = self.unknown[more[0]].needs == BLIND
                    hides = starts_blind and hidden != placed
                    if step.needs == value and not hides:
                        continue  # without the chain, above
                    after = (hidden if starts_blind else placed) | 1 << slot
                    yield after, step.leaves, used | sum(1 << index for index in more)

    def _chains(
        self, target: int, value: int, used: int, passed: frozenset[int]
    ) -> Iterator[tuple[int, ...]]:
        """Shortest chains of unused unknown operations, called by now, from `value` to `target`."""
        tried: set[int] = set()
        for index in self._makers.get(target, ()):
            step = self.unknown[index]
            if step.call > self._now:
                return
            if used >> index & 1 or step.needs in tried:
                continue
            tried.add(step.needs)  # of equal ones the earliest call is as good as any
            if step.needs in {BLIND, value}:
                yield (index,)
            elif step.needs not in passed:
                for chain in self._chains(step.needs, value, used, passed | {target}):
                    yield (*chain, index)


def _observable(known: Sequence[_Step], unknown: Sequence[_Step]) -> list[_Step]:
    """Those of `unknown` that could explain anything: somebody needs what they leave."""
    kept = [step for step in unknown if not step.observes_only]
    while True:
        needed = {step.needs for step in known} | {step.needs for step in kept}
        fewer = [step for step in kept if step.leaves in needed]
        if len(fewer) == len(kept):
            return fewer
        kept = fewer


def _prefix(operations: Sequence[Operation], end: int) -> list[Operation]:
    """What had been called by `end`; what had not returned by then has no outcome yet."""
    return [
        each
        if each.returned <= end
        else msgspec.structs.replace(each, outcome="unknown", result=None, revision=None)
        for each in operations
        if each.call <= end and each.outcome != "failed"
    ]


def _explain(key: str, operations: list[Operation], first: str | None, limit: int) -> Illegal:
    """The shortest illegal prefix, by bisection: whatever follows an illegal prefix is illegal."""
    finished = [each for each in operations if each.outcome in {"ok", "mismatch"}]
    finished.sort(key=lambda each: each.returned)
    low, high = 0, len(finished) - 1
    while low < high:
        middle = (low + high) // 2
        if _Search(_prefix(operations, finished[middle].returned), first, limit).run():
            low = middle + 1
        else:
            high = middle
    culprit = finished[low]
    prefix = _prefix(operations, culprit.returned)
    return Illegal(key, tuple(prefix), culprit, _story(culprit, prefix, first, limit))


def _story(culprit: Operation, prefix: list[Operation], first: str | None, limit: int) -> str:
    """Why the return of `culprit` cannot be, for people."""
    saw = culprit.expected if culprit.operation == "cas" else culprit.result
    if culprit.outcome == "mismatch":
        saw = culprit.result
    before = _Search([each for each in prefix if each.returned < culprit.returned], first, limit)
    before.run()
    values = sorted(
        {str(before.values.get(value, "(one nobody saw)")) for _, value, _ in before.layer}
    )
    writers = [each for each in prefix if each.operation != "get" and each.value == saw]
    writers = [each for each in writers if each.outcome != "mismatch"][-5:]
    lines = [f"key {culprit.key}: no order of the first {len(prefix)} operations explains"]
    lines.append(f"  {culprit}")
    if culprit.operation in {"get", "cas"}:
        lines.append(f"What could have written {'nothing' if saw is None else saw} there:")
        lines += [f"  {each}" for each in writers] or ["  nobody"]
    lines.append(f"Possible values after all that had ended by then: {', '.join(values)}")
    lines.append("The operations before it, in the order of their returns:")
    ended = sorted((each for each in prefix if each.outcome != "unknown"), key=_by_return)
    lines += [f"  {each}" for each in ended[-20:-1]]
    lines.append("Operations without an answer by then, the newest ones:")
    lines += [f"  {each}" for each in prefix if each.outcome == "unknown"][-10:] or ["  none"]
    return "\n".join(lines)


def _by_return(operation: Operation) -> int:
    return operation.returned
