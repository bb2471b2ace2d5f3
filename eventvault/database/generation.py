"""Generations: each restore begins a new one, so that the replaced history never mixes with the new one."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated

import msgspec

from eventvault import clock

NO_BOUND = 2**63 - 1
"""The largest sequence; used where a generation has no bound."""
ROLLED_BACK, UNCHECKED, LOG_DAMAGED = "rolled back", "unchecked", "log damaged"
UNDONE = "undone"
REASONS_WITHOUT_RESTORE = frozenset({ROLLED_BACK, UNCHECKED, LOG_DAMAGED})
"""Reasons of generations that a start began in the database as it was, without restoring it."""
MAX_GENERATIONS = 100_000
REMEMBERED_BYTES = 512 * 1024
"""Limit for all generations of a registry, as JSON (about 3,000). Beyond it, unreferenced ones are forgotten."""
MOST_BYTES = 2**20
"""Limit for the referenced generations, as JSON: an archive's manifest has room for four times as much."""
_MAX_REASON = 200
_ID = re.compile("[0-9a-f]{16}")


class Generation(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """parent: the generation it forks from, None for the first. fork_sequence: the last sequence they share.

    reason: why it began (`created`, `restored`, `imported`, …). at: microseconds since the epoch. Decoding checks the
    limits, because a foreign archive may contain any number. replay: Kafka's topics were read again from the fork on;
    otherwise a restore to a moment took the offsets over from the parent. later_than: 0, unless the clock was behind
    when it began; then the largest `order` of the generations before it.
    """

    id: str
    parent: str | None
    fork_sequence: Annotated[int, msgspec.Meta(ge=0, le=NO_BOUND)]
    reason: str
    at: Annotated[int, msgspec.Meta(ge=0, lt=clock.YEAR_10000)]
    replay: bool = False
    later_than: Annotated[int, msgspec.Meta(ge=0, lt=clock.YEAR_10000)] = 0

    @property
    def order(self) -> int:
        """The sort key of generations: `at`, or later if the clock was set back before this one began."""
        return clock.order_of(self.at, self.later_than)


class StoreIdentity(msgspec.Struct, frozen=True, rename="camel"):
    """The identity of a database, stored under one meta key so that it changes atomically.

    store_id: the registry's id, the same through all restores. generation: id of the current generation.
    generations: all generations of the registry, earlier ones included, oldest first.
    """

    store_id: str
    generation: str
    generations: tuple[Generation, ...]

    @property
    def present(self) -> Generation:
        return self.by_id()[self.generation]

    def by_id(self) -> dict[str, Generation]:
        return {generation.id: generation for generation in self.generations}

    def forked(
        self,
        *,
        at_sequence: int,
        reason: str,
        instant: int,
        previous: StoreIdentity | None,
        replay: bool = False,
        begun_before: Iterable[Generation] = (),
    ) -> StoreIdentity:
        """Return this identity in a new generation that forks from the current one.

        previous: the identity of the database that is replaced; its generations are added. begun_before: further
        generations that began before the new one; they are not added.
        """
        others = {} if previous is None else previous.by_id()
        earlier = {**others, **self.by_id()}
        later_than = _later_than([*earlier.values(), *begun_before], instant)
        fork = Generation(new_id(), self.generation, at_sequence, reason, instant, replay, later_than)
        return StoreIdentity(self.store_id, fork.id, (*earlier.values(), fork))

    def continuing(self) -> StoreIdentity:
        """Return this identity with a current generation that continues in Kafka at its parent's offsets."""
        generations = self.by_id()
        generations[self.generation] = msgspec.structs.replace(self.present, replay=False)
        return msgspec.structs.replace(self, generations=tuple(generations.values()))

    def bound_in_lineage(self, generation: str) -> int | None:
        """Return the last sequence of the current lineage that `generation` or one of its ancestors recorded.

        None if the current generation does not descend from it; NO_BOUND for the current generation itself.
        """
        return dict(lineage(self.by_id(), self.generation)).get(generation)

    def is_complete_at(self, generation: str, bound: int) -> bool:
        """Return True if an undo restored this generation completely, so that it has no event after `bound`."""
        return any(
            child.parent == generation and child.reason == UNDONE and child.fork_sequence <= bound
            for child in self.generations
        )

    def origin_time(self, generation: str) -> int:
        """Return when the lineage of `generation` (if unknown: of the current one) began, in microseconds."""
        generations = self.by_id()
        root = lineage(generations, generation if generation in generations else self.generation)[-1][0]
        return generations[root].at

    def last_common(self, generation: str, other: str | None = None) -> int | None:
        """Return the last sequence that `generation` shares with `other` (default: the current one); None if unknown.

        An ancestor of the current generation shares everything up to the fork. The current one itself gives NO_BOUND.
        """
        generations = self.by_id()
        other = self.generation if other is None else other
        return last_common(generations, other, generation) if {generation, other} <= generations.keys() else None


def first_identity(instant: int, reason: str = "created", begun_before: Iterable[Generation] = ()) -> StoreIdentity:
    """Return the identity of a new registry. begun_before: generations of other registries that began before."""
    generation = Generation(new_id(), None, 0, reason, instant, later_than=_later_than(begun_before, instant))
    return StoreIdentity(new_id(), generation.id, (generation,))


def identity_without_parent(previous: StoreIdentity | None, instant: int, reason: str) -> StoreIdentity:
    """Return the identity of a database whose generation has no parent, because it continues no other database.

    previous: the identity of the database that it replaces; the registry's id and its generations stay.
    """
    fresh = first_identity(instant, reason, () if previous is None else previous.generations)
    if previous is None:
        return fresh
    return StoreIdentity(previous.store_id, fresh.generation, (*previous.generations, *fresh.generations))


def _later_than(earlier: Iterable[Generation], instant: int) -> int:
    return min(clock.later_than((generation.order for generation in earlier), instant), clock.YEAR_10000 - 1)


def oldest_first(generations: Iterable[Generation]) -> list[Generation]:
    """Return the generations in the order in which they began, whatever the clock said.

    A parent comes before its children, also if an earlier version began them while the clock was set back.
    """
    by_id = {generation.id: generation for generation in generations}
    ordered: dict[str, Generation] = {}
    for generation in sorted(by_id.values(), key=lambda begun: (begun.order, begun.at)):
        line: dict[str, Generation] = {}
        current: Generation | None = generation
        while current is not None and current.id not in ordered and current.id not in line:
            line[current.id] = current
            current = by_id.get(current.parent or "")
        ordered.update(reversed(line.items()))
    return list(ordered.values())


def has_many_generations(identity: StoreIdentity) -> bool:
    """Return whether the registry has more generations than are remembered without a reference."""
    return len(msgspec.json.encode(identity.generations)) > REMEMBERED_BYTES


def without_forgotten(
    identity: StoreIdentity, referenced: Collection[str], remembered: int = REMEMBERED_BYTES, most: int = MOST_BYTES
) -> StoreIdentity:
    """Return the identity without the oldest generations, so that the others have about `remembered` bytes as JSON.

    referenced: ids that something refers to; these are removed only beyond `most` bytes. The current generation, the
    first one of its lineage, and the common parents of generations that stay, stay too. A generation whose parent is
    removed gets the nearest ancestor that stays as its parent, with the last sequence that both share.
    """
    by_id = identity.by_id()
    sizes = {name: len(msgspec.json.encode(generation)) + 1 for name, generation in by_id.items()}
    staying = {identity.generation, lineage(by_id, identity.generation)[-1][0]}
    used = [name for name in by_id if name in referenced or by_id[name].reason in REASONS_WITHOUT_RESTORE]
    total = sum(sizes[name] for name in staying)
    for names, limit in ((used, most), (by_id, remembered)):
        for name in reversed(names):  # the newest first
            if name not in staying and total + sizes[name] <= limit:
                staying.add(name)
                total += sizes[name]
    staying |= _forks_of(by_id, staying)
    remaining = [generation for generation in identity.generations if generation.id in staying]
    reattached = tuple(_reattach(generation, by_id, staying) for generation in remaining)
    return msgspec.structs.replace(identity, generations=reattached)


def _forks_of(by_id: Mapping[str, Generation], names: Collection[str]) -> set[str]:
    """Return the generations at which the lines to some of `names` fork."""
    lines: Counter[str] = Counter()
    reached: set[str] = set()
    for name in names:
        current = name
        while current not in reached:
            reached.add(current)
            parent = by_id[current].parent
            if parent is None or parent not in by_id:
                break
            lines[parent] += 1
            current = parent
    return {name for name, count in lines.items() if count > 1}


def _reattach(generation: Generation, by_id: Mapping[str, Generation], staying: Collection[str]) -> Generation:
    """Return the generation with the nearest ancestor that stays as its parent."""
    parent, fork = generation.parent, generation.fork_sequence
    while parent is not None and parent in by_id and parent not in staying:
        forgone = by_id[parent]
        parent, fork = forgone.parent, min(fork, forgone.fork_sequence)
    if parent == generation.parent:
        return generation
    reason = "restored" if generation.reason == "undone" else generation.reason  # it does not undo to that ancestor
    # The offsets of the forgotten generation are not known, so its topics are read again from the fork on.
    return msgspec.structs.replace(generation, parent=parent, fork_sequence=fork, reason=reason, replay=True)


def check_generations(present: str, generations: Sequence[Generation]) -> None:
    """Raise ValueError if these cannot be the generations of a registry, with `present` as the current one.

    Ids are used as names of folders. Earlier versions wrote them in the form of `is_id`, too.
    """
    if len(generations) > MAX_GENERATIONS:
        raise ValueError(f"there are more than {MAX_GENERATIONS} generations")
    by_id = {generation.id: generation for generation in generations}
    ids = {*by_id, present, *(generation.parent for generation in generations if generation.parent is not None)}
    for unusable in [name for name in ids if not is_id(name)]:
        raise ValueError(f"{unusable!r:.80} is not the id of a generation")
    if len(by_id) < len(generations) or present not in by_id:
        raise ValueError("a generation is listed twice, or the current one is missing")
    if any(len(generation.reason) > _MAX_REASON for generation in generations):
        raise ValueError("the reason of a generation is too long")
    _check_circles(by_id)


def _check_circles(by_id: Mapping[str, Generation]) -> None:
    """Raise ValueError if a generation descends from itself."""
    good: set[str] = set()
    for start in by_id:
        line: dict[str, None] = {}
        current: str | None = start
        while current is not None and current in by_id and current not in good:
            if current in line:
                raise ValueError(f"the generation {current} descends from itself")
            line[current] = None
            current = by_id[current].parent
        good.update(line)


def new_id() -> str:
    return secrets.token_hex(8)


def is_id(text: str) -> bool:
    """Return whether a text has the form of a generation's id. The ids of views do not have it."""
    return bool(_ID.fullmatch(text))


def last_common(generations: Mapping[str, Generation], generation: str, other: str) -> int:
    """Return the last sequence that two generations share, 0 if they have no common ancestor."""
    bounds = dict(lineage(generations, generation))
    for ancestor, bound in lineage(generations, other):
        if ancestor in bounds:
            return min(bound, bounds[ancestor])
    return 0


def lineage(generations: Mapping[str, Generation], start: str) -> list[tuple[str, int]]:
    """Return `start` and its ancestors, each with the last of its sequences that belongs to the lineage."""
    bounds: dict[str, int] = {}
    bound = NO_BOUND
    current: str | None = start
    while current is not None and current in generations and current not in bounds:
        bounds[current] = bound
        bound = min(bound, generations[current].fork_sequence)
        current = generations[current].parent
    return list(bounds.items())
