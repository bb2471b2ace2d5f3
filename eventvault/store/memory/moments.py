"""Moments of the in-memory double: every prefix of a generation's events can be restored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eventvault import clock
from eventvault.database.generation import is_id
from eventvault.errors import MomentUnavailable
from eventvault.events import event
from eventvault.restore.moments.marks import thinned
from eventvault.restore.moments.timeline import describe_archive
from eventvault.restore.moments.unavailable import unavailable
from eventvault.restore.values import Moment
from eventvault.store.memory.state import MemoryState


def find(state: MemoryState, moment: Moment) -> tuple[str, int]:
    """Return the generation, and how many of its events belong to the moment. Raises MomentUnavailable."""
    generation = state.generation if moment.generation is None else moment.generation
    events = state.generations.get(generation)
    if events is None or not is_id(generation):
        raise _outside(f"generation {generation} is unknown, or was pruned", state.events, state.generation)
    count = len(events) if moment.sequence is None else moment.sequence
    if moment.instant is not None:
        count = sum(event.recorded_of(value) <= moment.instant for value in events)
        if not count or moment.instant > max(state.now(), event.recorded_of(events[-1])):
            raise _outside("that moment lies outside the window", events, generation, before=not count)
    if not 0 <= count <= len(events):
        raise _outside(f"event {count} cannot be restored", events, generation, before=count < 0)
    return generation, count


def _window(events: Sequence[bytes]) -> dict[str, Any]:
    newest = event.recorded_of(events[-1]) if events else 0
    return {
        "oldest": {"time": clock.format_microseconds(0), "sequence": 0},
        "newest": {"time": clock.format_microseconds(newest), "sequence": len(events)},
    }


def _outside(why: str, events: Sequence[bytes], generation: str, *, before: bool = False) -> MomentUnavailable:
    window = _window(events)
    return unavailable(why, hint="GET /api/backup/timeline", generation=generation, window=window, before=before)


def _types(values: Sequence[bytes]) -> Counter[str]:
    return Counter(event.indexed_of(value).type for value in values)


def plan(present: Sequence[bytes], common: int, restored: Sequence[bytes]) -> dict[str, Any]:
    """Return the members of a plan, except its target. common: how many events both have at their beginning."""
    replaced, size = present[common:], sum(map(len, restored))
    return {
        "segments": [],
        "bytesToRead": size,
        "diskNeeded": size,
        "predictedSeconds": 0.0,
        "eventsLeftBehind": len(replaced),
        "firstLeftBehind": event.summary_of(replaced[0]) if replaced else None,
        "lastLeftBehind": event.summary_of(replaced[-1]) if replaced else None,
        "quarantineLeaves": 0,
        "lastKept": event.summary_of(present[common - 1]) if common else None,
        "undo": {"kept": True, "drops": []},
        "types": [{"type": name, "events": count} for name, count in _types(replaced).most_common(5)],
        "typesComplete": True,
    }


def timeline(state: MemoryState, buckets: int | None) -> dict[str, Any]:
    undoable = {previous.generation: previous for previous in state.undo_list.entries}
    generations = [
        {
            "id": generation,
            "forkSequence": state.forks.get(generation, 0),
            "lastSequence": len(events),
            "present": generation == state.generation,
            "kept": undoable[generation].name if generation in undoable else None,
            "window": _window(events),
        }
        for generation, events in state.generations.items()
    ]
    common = {"window": _window(state.events), "generation": state.generation, "generations": generations}
    entries = state.archives.entries()
    if buckets is not None:
        return thinned(common, [], entries, buckets)
    return {**common, "archives": [describe_archive(entry) for entry in entries], "segments": [], "gaps": []}
