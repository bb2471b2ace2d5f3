"""What can be restored, as a timeline: the window, generations with their forks, archives, segments and gaps.

The head of the current generation is always read. The rest is read at most twice a second, and for at most a twentieth
of the time if there is much to read, however many clients ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import msgspec

from eventvault import clock
from eventvault.backups.archive_totals import LIST_SECONDS, PAUSE_PER_SECOND, TotalsKeeper
from eventvault.backups.entry import BackupEntry
from eventvault.database.generation import Generation, lineage, oldest_first
from eventvault.errors import RestoreRunning, TooBusy
from eventvault.journal import coverage
from eventvault.journal.segment import Segment
from eventvault.restore.moments.family import Family
from eventvault.restore.moments.locate import MomentLocator
from eventvault.restore.moments.marks import thinned
from eventvault.restore.swap.previous import PreviousDatabase
from eventvault.shared_answer import SharedAnswer

_ATTEMPTS = 3
"""How often the database may be swapped while everything is read."""


class Timeline:
    """See `eventvault.store.ports.restores.Restores.timeline`. Safe to use from many threads.

    previous: returns the databases that restores replaced. shared: for how many seconds an answer is reused; 0: it is
    made anew each time.
    """

    def __init__(
        self,
        locator: MomentLocator,
        totals: TotalsKeeper,
        previous: Callable[[], Sequence[PreviousDatabase]],
        shared: float,
    ) -> None:
        self._locator = locator
        self._totals = totals
        self._previous = previous
        self._shared = shared
        self._shared_contents = SharedAnswer("timeline", self._read)

    def invalidate(self) -> None:
        """Read all anew for the next answer: somebody changed something, and must see it."""
        self._shared_contents.invalidate()

    def describe(self, buckets: int | None) -> dict[str, Any]:
        """Return the whole timeline, or with `buckets` one that is thinned to so many marks at most. Raises TooBusy."""
        contents = self._current()
        head = self._locator.live_window()
        if head is not None and head.generation != contents.current:  # a restore swapped the database meanwhile
            self._shared_contents.invalidate()
            contents = self._current()
        described = contents.described if buckets is None else contents.thinned(buckets)
        return described if head is None or head.generation != contents.current else _with_head(described, head.window)

    def _current(self) -> _Contents:
        max_age = max(self._shared, PAUSE_PER_SECOND * self._shared_contents.seconds) if self._shared else 0.0
        contents = self._shared_contents.get(max_age=max_age, patience=LIST_SECONDS)
        if contents is None:
            raise TooBusy(
                f"the archives and segments were not read within {LIST_SECONDS:.0f} s", hint="try again later"
            )
        return contents

    def _read(self) -> _Contents:
        for attempt in range(_ATTEMPTS):
            try:
                return _Contents(self._locator, self._totals.entries(), self._previous())
            except RestoreRunning:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")


class _Contents:
    """What can be restored now, and the descriptions that are made of it on demand."""

    def __init__(
        self, locator: MomentLocator, entries: Sequence[BackupEntry], previous: Sequence[PreviousDatabase]
    ) -> None:
        self._locator = locator
        self._sources = locator.find_sources(entries=entries)
        self.current = locator.current_generation(self._sources)
        self._family = Family(self._sources, self.current)
        self._archives = [entry for entry in entries if entry.generation or entry.problem]
        undoable = [database for database in reversed(previous) if database.generation and not database.undone]
        self._undoable = {database.generation: database for database in undoable}
        self._generations = oldest_first(self._sources.generations.values())
        self._thinned: dict[int, dict[str, Any]] = {}

    @cached_property
    def described(self) -> dict[str, Any]:
        return {
            **self._common(self._generations),
            "archives": [describe_archive(entry) for entry in self._archives],
            "segments": [_segment(segment) for segment in self._sources.segments],
            "gaps": [gap for generation in self._generations for gap in self._gaps(generation.id)],
        }

    def thinned(self, buckets: int) -> dict[str, Any]:
        if buckets not in self._thinned:
            branches = [generation for generation in self._generations if self._is_branch(generation)]
            gaps = [gap for generation in self._generations for gap in self._gaps(generation.id)]
            self._thinned = {buckets: thinned(self._common(branches), gaps, self._archives, buckets)}
        return self._thinned[buckets]

    def _common(self, generations: Sequence[Generation]) -> dict[str, Any]:
        line = dict(lineage(self._sources.generations, self.current)) if self.current else {}
        return {
            "window": self._window(self.current) if self.current else None,
            "generation": self.current,
            "generations": [self._generation(generation, line) for generation in generations],
        }

    def _is_branch(self, generation: Generation) -> bool:
        """Return whether a generation is the current one, or has something that the current lineage lacks."""
        extent = self._family.extents[generation.id]
        return generation.id == self.current or extent.reach > extent.shared or generation.id in self._undoable

    def _generation(self, generation: Generation, line: dict[str, int]) -> dict[str, Any]:
        extent, undoable = self._family.extents[generation.id], self._undoable.get(generation.id)
        window = self._window(generation.id)
        return {
            "id": generation.id,
            "parent": generation.parent,
            "forkSequence": generation.fork_sequence,
            "forkTime": self._time_of(generation.id, generation.fork_sequence) if generation.parent else None,
            "reason": generation.reason,
            "at": clock.format_microseconds(generation.at),
            "present": generation.id == self.current,
            "inLineage": generation.id in line,
            "lastSequence": extent.reach,
            "lastShared": min(extent.reach, extent.shared),
            "kept": undoable.name if undoable is not None else None,
            "keptSequence": undoable.events if undoable is not None else None,
            "window": window,
        }

    def _window(self, generation: str) -> dict[str, Any]:
        reach = self._family.extents[generation].reach
        return {end: {"time": self._time_of(generation, sequence), "sequence": sequence}
                for end, sequence in (("oldest", 0), ("newest", reach))}  # fmt: skip

    def _time_of(self, generation: str, sequence: int) -> str | None:
        """Return when an event was recorded, from the open database or the ends of the segments that hold it."""
        near = self._family.segments_with(generation, max(0, sequence - 1), max(1, sequence))
        instant = self._locator.time_of(msgspec.structs.replace(self._sources, segments=near), generation, sequence)
        return clock.optional_microseconds(instant)

    def _gaps(self, generation: str) -> list[dict[str, Any]]:
        """The events that nothing holds any more; later events of that generation cannot be restored."""
        reach = self._family.extents[generation].reach
        journaled = (segment.last for segment in self._family.segments_of(generation))
        lost = (last for owner, _, last in self._sources.lost if owner == generation)
        end = max((*journaled, *lost), default=0)
        if end <= reach:
            return []
        line = lineage(self._sources.generations, generation)
        holes = coverage.missing(self._family.segments_with(generation, reach), line, reach, end)
        return [
            {
                "generation": generation,
                "first": first,
                "last": last,
                "fromTime": self._time_of(generation, first - 1),
                "toTime": self._time_of(generation, last + 1),
            }
            for first, last in holes
        ]


def describe_archive(entry: BackupEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "label": entry.label,
        "generation": entry.generation,
        "sequence": entry.sequence,
        "created": clock.format_milliseconds(entry.created),
        "size": entry.size,
        "origin": entry.origin,
        "pinned": entry.pinned,
        "proven": entry.origin_proven,
        "verified": clock.optional_milliseconds(entry.verified),
        "problem": entry.problem,
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "name": segment.path.name,
        "generation": segment.generation,
        "first": segment.first,
        "last": segment.last,
        "firstTime": segment.header.first_time,
        "lastTime": segment.header.last_time,
        "size": segment.size,
    }


def _with_head(timeline: dict[str, Any], window: dict[str, Any]) -> dict[str, Any]:
    """Return the timeline with the events that were posted since it was made."""
    last = window["newest"]["sequence"]
    head = {"lastSequence": last, "lastShared": last, "window": window}
    generations = [
        {**shown, **{name: head[name] for name in head.keys() & shown.keys()}} if shown["present"] else shown
        for shown in timeline["generations"]
    ]
    return {**timeline, "window": window, "generations": generations}
