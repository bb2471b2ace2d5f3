"""All generations at once: how far each can be restored, and how much of it the current one has.

`eventvault.restore.moments.plan` answers the same for one generation. Here the cost grows with the number of
generations, archives and segments, and not with their product.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from eventvault.database.generation import NO_BOUND, lineage
from eventvault.journal import coverage
from eventvault.journal.segment import Segment
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.plan import Sources


class Extent(NamedTuple):
    """reach: the last event that can be restored. shared: the last one that the current generation has too."""

    reach: int
    shared: int


class Family:
    """The generations of `sources`. current: that of the open database, or the last one; None if there is none."""

    def __init__(self, sources: Sources, current: str | None) -> None:
        self._sources = sources
        self._children: dict[str, list[str]] = {}
        for generation in sources.generations.values():
            self._children.setdefault(generation.parent or "", []).append(generation.id)
        self._order = self._parents_first()
        self._segments: dict[str, list[Segment]] = {}
        for segment in sources.segments:
            self._segments.setdefault(segment.generation, []).append(segment)
        reach = self._reaches()
        shared = self._shared_with(current) if current is not None else {}
        self.extents = {name: Extent(reach[name], shared.get(name, 0)) for name in sources.generations}

    def segments_of(self, generation: str) -> list[Segment]:
        """Return the segments of one generation alone, its ancestors excluded."""
        return self._segments.get(generation, [])

    def segments_with(self, generation: str, after: int, upto: int = NO_BOUND) -> list[Segment]:
        """Return the segments that hold any of the events from `after` + 1 to `upto` of this generation's lineage."""
        return [
            segment
            for owner, bound in self._line(generation, after)
            for segment in self._segments.get(owner, ())
            if segment.first <= min(upto, bound) and segment.last > after
        ]

    def _line(self, generation: str, after: int) -> Iterator[tuple[str, int]]:
        """Yield the part of the lineage that holds events beyond `after`: bounds never increase on the way up."""
        bound, passed = NO_BOUND, set()
        current: str | None = generation
        while current is not None and current in self._sources.generations and current not in passed and bound > after:
            yield current, bound
            passed.add(current)
            bound = min(bound, self._sources.generations[current].fork_sequence)
            current = self._sources.generations[current].parent

    def _parents_first(self) -> list[str]:
        generations = self._sources.generations
        order = [name for name, generation in generations.items() if generation.parent not in generations]
        for name in order:
            order.extend(self._children.get(name, ()))
        return order

    def _reaches(self) -> dict[str, int]:
        """Return `plan.last_reachable` of each generation. Archives of relatives count up to the last common event."""
        fork = {name: generation.fork_sequence for name, generation in self._sources.generations.items()}
        best = self._held()
        for name in reversed(self._order):
            best[name] = max(best[name], *(min(fork[child], best[child]) for child in self._children.get(name, ())), 0)
        for name in self._order:
            parent = self._sources.generations[name].parent
            best[name] = max(best[name], min(fork[name], best.get(parent or "", 0)))
        return {name: self._extended(name, best[name]) for name in self._sources.generations}

    def _held(self) -> dict[str, int]:
        """Return the last event of each generation that an archive of it holds, or the open database."""
        held = dict.fromkeys(self._sources.generations, 0)
        for entry in self._sources.archives:
            if entry.generation in held:
                held[entry.generation] = max(held[entry.generation], entry.sequence or 0)
        live = self._sources.live
        if live is not None and live.generation in held:
            held[live.generation] = max(held[live.generation], live.sequence)
        return held

    def _extended(self, generation: str, best: int) -> int:
        """Add what segments hold beyond `best`."""
        line = list(self._line(generation, best))
        best = coverage.reach(self.segments_with(generation, best), line, best, NO_BOUND) if line else best
        return min(best, plans.last_of(self._sources, generation))

    def _shared_with(self, current: str) -> dict[str, int]:
        """Return the last event that each generation shares with `current`, as `last_common` does."""
        shared = dict(lineage(self._sources.generations, current))
        for name in self._order:
            generation = self._sources.generations[name]
            shared.setdefault(name, min(generation.fork_sequence, shared.get(generation.parent or "", 0)))
        return shared
