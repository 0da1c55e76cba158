"""Is a history of put, get, delete and cas what one atomic register per key could have given?

`check(history)` is the one way in: None if the history is linearizable (Herlihy & Wing 1990), else
an `Illegal` with the shortest prefix that is not, and why. Linearizability is local, so every key
is judged on its own (as in Porcupine: Athalye 2017).

The search is Wing & Gong's (1993): build a legal order from the front; next may come an operation
whose call precedes every return that is still missing. With Lowe's memory (2017): never look twice
at the same set of placed operations with the same value. It is sound and complete. What makes it
fast enough for long histories are arguments of exchange, each of which keeps at least one
legal order if there is any (`needs` is the value that an operation saw, if it saw one):

* An operation that sees the present value and leaves it is placed at once.
* If the present value has observers to come, and nobody left to write it again, only its observers
  may come next.
* A blind write whose value nobody will see may be placed before any other blind write. Of blind
  writes of one value the one with the earliest return may be placed first.
* An operation with unknown outcome (it took effect once after its call, or never) is placed
  only as part of a shortest chain that makes the value which the next operation saw.
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
    max_configurations: int = 20_000_000,
) -> Illegal | None:
    """None if linearizable. Keys not in `initial` start without a value.

    Raises Undecided if one key takes more than `max_configurations` steps.
    """
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        assert operation.call <= operation.returned, f"returned before it was called: {operation}"
        by_key[operation.key].append(operation)
    for key, operations in sorted(by_key.items()):
        operations.sort(key=lambda each: (each.call, each.returned))
        first = (initial or {}).get(key)
        if not _Search(operations, first, max_configurations).run():
            return _explain(key, operations, first, max_configurations)
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


class _Move(msgspec.Struct, frozen=True, gc=False):
    """Place the unknown operations `chain`, then the known one `position`."""

    position: int
    chain: tuple[int, ...] = ()


class _Undo(msgspec.Struct, frozen=True, gc=False):
    move: _Move
    head: int
    window: int
    value: int


class _Search:
    """The search for a legal order of one key's operations, sorted by call."""

    def __init__(self, operations: Sequence[Operation], first: str | None, limit: int) -> None:
        self._numbers: dict[str | None, int] = {None: 0}
        self._limit = limit
        self.known: list[_Step] = []
        unknown: list[_Step] = []
        for operation in operations:
            if operation.outcome == "unknown":
                if operation.operation != "get":
                    unknown.append(self._step(operation))
            elif operation.outcome != "failed":
                self.known.append(self._step(operation))
        self.unknown = _observable(self.known, unknown)
        self._makers: defaultdict[int, list[int]] = defaultdict(list)
        for index, step in enumerate(self.unknown):
            self._makers[step.leaves].append(index)
        self.value = self._number(first)
        self.values = {number: value for value, number in self._numbers.items()}
        # Unlinearized operations form a list in the order of their calls; `end` closes it.
        self.end = len(self.known)
        self._next = list(range(1, self.end + 2))
        self._previous = list(range(-1, self.end + 1))
        self.head = 0
        self._window = 0  # bit i: operation head + i is placed
        self._used = 0  # bit i: unknown operation i is placed
        self._observers = Counter(step.needs for step in self.known)
        self._unknown_observers = Counter(step.needs for step in self.unknown)
        writers = [step for step in self.known if not step.observes_only] + self.unknown
        self._writers = Counter(step.leaves for step in writers)
        self.best: tuple[int, list[_Undo], int, list[int]] = (-1, [], self.value, [])
        """Most operations placed so far: how many, the last moves, the value, what was next."""

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
        trail: list[_Undo] = []
        choices: list[Iterator[_Move]] = [iter(self._moves(trail))]
        failed: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
        steps = 0
        while self.head != self.end:
            move = next(choices[-1], None)
            if move is None:
                choices.pop()
                if not trail:
                    return False
                self._undo(trail.pop())
                continue
            undo = self._place(move)
            # Whatever was tried from here before has failed: the number of placed operations grows
            # along the trail, so none of it is under way. With fewer unknown ones left it fails, too.
            used_before = failed[self.head, self._window, self.value]
            if any(used & ~self._used == 0 for used in used_before):
                self._undo(undo)
                continue
            used_before.append(self._used)
            steps += 1
            if steps > self._limit:
                raise Undecided(f"more than {self._limit} configurations")
            trail.append(undo)
            choices.append(iter(self._moves(trail)))
        return True

    def _candidates(self) -> tuple[list[int], int]:
        """What may come next: called before anything unplaced returned; and that return."""
        found: list[int] = []
        position = self.head
        first_return = self.known[position].returned if position != self.end else 0
        while position != self.end and (step := self.known[position]).call <= first_return:
            found.append(position)
            first_return = min(first_return, step.returned)
            position = self._next[position]
        return found, first_return

    def _moves(self, trail: list[_Undo]) -> list[_Move]:
        """The moves worth trying from here, those without unknown operations first."""
        candidates, first_return = self._candidates()
        seeing = [each for each in candidates if self.known[each].needs == self.value]
        for position in seeing:
            if self.known[position].observes_only:
                return [_Move(position)]
        moves = [_Move(position) for position in seeing]
        if not self._observers[self.value] or self._writers[self.value]:
            blind, unseen = self._blind(candidates)
            moves += [_Move(position) for position in blind]
            moves += self._chained(candidates, first_return, blind_start=not unseen)
        if not moves and len(trail) > self.best[0]:
            self.best = (len(trail), trail[-6:], self.value, candidates)
        return moves

    def _blind(self, candidates: list[int]) -> tuple[list[int], bool]:
        """Blind writes to try, and whether it is one whose value nobody will see."""
        earliest: dict[int, int] = {}
        for position in candidates:
            step = self.known[position]
            if step.needs != BLIND:
                continue
            if not self._observers[step.leaves] and not self._unknown_observers[step.leaves]:
                return [position], True
            other = earliest.get(step.leaves)
            if other is None or step.returned < self.known[other].returned:
                earliest[step.leaves] = position
        return sorted(earliest.values(), key=lambda each: self.known[each].returned), False

    def _chained(self, candidates: list[int], latest: int, blind_start: bool) -> Iterator[_Move]:
        """Moves that need operations of unknown outcome, called by `latest`, to have happened."""
        chains: dict[int, list[tuple[int, ...]]] = {}
        for position in candidates:
            needs = self.known[position].needs
            if needs in {BLIND, IMPOSSIBLE, self.value}:
                continue
            if needs not in chains:
                chains[needs] = list(self._chains(needs, latest, blind_start, frozenset()))
            for chain in chains[needs]:
                yield _Move(position, chain)

    def _chains(
        self, target: int, latest: int, blind_start: bool, passed: frozenset[int]
    ) -> Iterator[tuple[int, ...]]:
        """Shortest chains of unused unknown operations from the present value to `target`."""
        tried: set[int] = set()
        for index in self._makers.get(target, ()):
            step = self.unknown[index]
            if step.call > latest:
                return
            if self._used >> index & 1 or step.needs in tried:
                continue
            tried.add(step.needs)  # of equal ones the earliest call is as good as any
            if step.needs == self.value or (step.needs == BLIND and blind_start):
                yield (index,)
            elif step.needs not in passed and step.needs != BLIND:
                for chain in self._chains(step.needs, latest, blind_start, passed | {target}):
                    yield (*chain, index)

    def _place(self, move: _Move) -> _Undo:
        undo = _Undo(move, self.head, self._window, self.value)
        for index in move.chain:
            self._used |= 1 << index
            self._count_unknown(self.unknown[index], -1)
        position = move.position
        after, before = self._next[position], self._previous[position]
        self._previous[after] = before
        if before >= 0:
            self._next[before] = after
        if position == self.head:
            self._window >>= after - position
            self.head = after
        else:
            self._window |= 1 << (position - self.head)
        self._count_known(self.known[position], -1)
        self.value = self.known[position].leaves
        return undo

    def _undo(self, undo: _Undo) -> None:
        position = undo.move.position
        after, before = self._next[position], self._previous[position]
        self._previous[after] = position
        if before >= 0:
            self._next[before] = position
        self.head, self._window, self.value = undo.head, undo.window, undo.value
        self._count_known(self.known[position], 1)
        for index in undo.move.chain:
            self._used &= ~(1 << index)
            self._count_unknown(self.unknown[index], 1)

    def _count_known(self, step: _Step, change: int) -> None:
        self._observers[step.needs] += change
        if not step.observes_only:
            self._writers[step.leaves] += change

    def _count_unknown(self, step: _Step, change: int) -> None:
        self._unknown_observers[step.needs] += change
        self._writers[step.leaves] += change


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
    search = _Search(prefix, first, limit)
    search.run()
    return Illegal(key, tuple(prefix), culprit, _story(key, culprit, prefix, search))


def _may_write(operation: Operation, value: str | None) -> bool:
    writes = operation.operation != "get" and operation.outcome != "mismatch"
    return writes and operation.value == value


def _story(key: str, culprit: Operation, prefix: list[Operation], search: _Search) -> str:
    saw = culprit.expected if culprit.operation == "cas" else culprit.result
    if culprit.outcome == "mismatch":
        saw = culprit.result
    writers = [each for each in prefix if _may_write(each, saw)][-5:]
    count, moves, value, stuck = search.best
    placed = [
        step.operation
        for undo in moves
        for step in (
            *(search.unknown[index] for index in undo.move.chain),
            search.known[undo.move.position],
        )
    ]
    around = [each for each in prefix if each.returned >= culprit.call or each in placed][-20:]
    lines = [f"key {key}: no order of the first {len(prefix)} operations explains the last one:"]
    lines.append(f"  {culprit}")
    if culprit.operation in {"get", "cas"}:
        lines.append("What wrote the value that it saw:")
        lines += [f"  {each}" for each in writers] or ["  nobody"]
    lines += [f"The longest order (of {count} operations) ends with:"]
    lines += [f"  {each}" for each in placed]
    lines += [f"and leaves {search.values[value]}; next would have to come one of:"]
    lines += [f"  {search.known[each].operation}" for each in stuck]
    lines += ["Operations around it, by call:", *(f"  {each}" for each in around)]
    return "\n".join(lines)
