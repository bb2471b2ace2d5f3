"""Generations: each restore begins one, so that a future that was left behind never mixes with the new one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Annotated

import msgspec

from eventvault import clock

NO_BOUND = 2**63 - 1
"""No sequence is beyond it."""
REASONS_WITHOUT_RESTORE = frozenset({"rolled back", "unchecked"})
"""Reasons of generations that began in a database as it was found."""
_ID = re.compile("[0-9a-f]{16}")


class Generation(msgspec.Struct, frozen=True, rename="camel"):
    """parent: the generation it forks from, None for the first. fork_sequence: the last sequence they share.

    reason: why it began (`created`, `restored`, `imported`). at: microseconds since the epoch. The bounds hold for what
    is read: an archive that comes from elsewhere may say anything.
    """

    id: str
    parent: str | None
    fork_sequence: Annotated[int, msgspec.Meta(ge=0, le=NO_BOUND)]
    reason: str
    at: Annotated[int, msgspec.Meta(ge=0, lt=clock.YEAR_10000)]


class StoreIdentity(msgspec.Struct, frozen=True, rename="camel"):
    """Who a database is: kept under one meta key, so that it changes as a whole.

    store_id: of the registry, the same through all its restores. generation: the present one's id.
    generations: all that are known, those that were left behind included, oldest first.
    """

    store_id: str
    generation: str
    generations: tuple[Generation, ...]

    @property
    def present(self) -> Generation:
        return self.by_id()[self.generation]

    def by_id(self) -> dict[str, Generation]:
        return {generation.id: generation for generation in self.generations}

    def forked(self, *, at_sequence: int, reason: str, instant: int, previous: StoreIdentity | None) -> StoreIdentity:
        """This identity in a new generation that forks off the present one.

        previous: the identity of what is left behind, whose generations stay known.
        """
        fork = Generation(new_id(), self.generation, at_sequence, reason, instant)
        others = {} if previous is None else previous.by_id()
        everything = {**others, **self.by_id(), fork.id: fork}
        in_order = sorted(everything.values(), key=lambda generation: generation.at)
        return StoreIdentity(self.store_id, fork.id, tuple(in_order))

    def bound_in_lineage(self, generation: str) -> int | None:
        """The last sequence of the present lineage that `generation` or an ancestor of it recorded.

        None where the present one does not descend from it; for the present one itself the largest there can be.
        """
        return dict(lineage(self.by_id(), self.generation)).get(generation)

    def is_complete_at(self, generation: str, bound: int) -> bool:
        """Whether a generation is known to end at `bound` or before: what it had was brought back from there."""
        return any(
            child.parent == generation and child.reason == "undone" and child.fork_sequence <= bound
            for child in self.generations
        )

    def origin_time(self, generation: str) -> int:
        """When the lineage of `generation` began, in microseconds; that of the present one where it is not known."""
        generations = self.by_id()
        root = lineage(generations, generation if generation in generations else self.generation)[-1][0]
        return generations[root].at

    def last_common(self, generation: str, other: str | None = None) -> int | None:
        """The last sequence that `generation` shares with `other`, or with the present one; None: it is not known.

        A generation in the present one's own past shares all up to the fork; the present one itself has no bound
        and gives the largest sequence there can be.
        """
        generations = self.by_id()
        other = self.generation if other is None else other
        return last_common(generations, other, generation) if {generation, other} <= generations.keys() else None


def first_identity(instant: int, reason: str = "created") -> StoreIdentity:
    """The identity of a new registry."""
    generation = Generation(new_id(), None, 0, reason, instant)
    return StoreIdentity(new_id(), generation.id, (generation,))


def new_id() -> str:
    return secrets.token_hex(8)


def is_id(text: str) -> bool:
    """Whether a text has the form of an id. The keys of databases that are made for their readers have another one."""
    return bool(_ID.fullmatch(text))


def last_common(generations: Mapping[str, Generation], one: str, other: str) -> int:
    """The last sequence that two generations share, 0 where they have no ancestor in common."""
    bounds = dict(lineage(generations, one))
    for ancestor, bound in lineage(generations, other):
        if ancestor in bounds:
            return min(bound, bounds[ancestor])
    return 0


def lineage(generations: Mapping[str, Generation], start: str) -> list[tuple[str, int]]:
    """`start` and its ancestors, each with the last of its sequences that belongs to the lineage."""
    bounds: dict[str, int] = {}
    bound = NO_BOUND
    current: str | None = start
    while current is not None and current in generations and current not in bounds:
        bounds[current] = bound
        bound = min(bound, generations[current].fork_sequence)
        current = generations[current].parent
    return list(bounds.items())
