"""Moments of the in-memory double: each generation's events are all there, so every prefix of them can be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventvault import clock
from eventvault.database.generation import is_id
from eventvault.errors import MomentUnavailable
from eventvault.events import event
from eventvault.restore.moments.unavailable import unavailable
from eventvault.restore.values import Moment
from eventvault.store.memory.undo import summary

PreviousDatabase = Mapping[str, Sequence[bytes]]


def find(kept: PreviousDatabase, present: str, moment: Moment, now: int) -> tuple[str, int]:
    """(generation, how many of its events). Raises MomentUnavailable."""
    generation = moment.generation or present
    if generation not in kept or not is_id(generation):
        raise outside(f"generation {generation} is not known, or was pruned", kept[present], present)
    events = kept[generation]
    if moment.sequence is not None:
        count = moment.sequence
    else:
        assert moment.instant is not None, "a moment has a sequence or an instant"
        count = sum(event.recorded_of(value) <= moment.instant for value in events)
        if moment.instant > now or not count:
            raise outside("that moment lies outside the window", events, generation, before=not count)
    if not 0 <= count <= len(events):
        raise outside(f"event {count} cannot be restored", events, generation, before=count < 0)
    return generation, count


def window(events: Sequence[bytes], born: int) -> dict[str, Any]:
    newest = event.recorded_of(events[-1]) if events else born
    return {
        "oldest": {"time": clock.format_microseconds(born), "sequence": 0},
        "newest": {"time": clock.format_microseconds(newest), "sequence": len(events)},
    }


def outside(why: str, events: Sequence[bytes], generation: str, *, before: bool = False) -> MomentUnavailable:
    bounds = window(events, 0)
    return unavailable(why, hint="GET /api/backup/timeline", generation=generation, window=bounds, before=before)


def plan(events: Sequence[bytes], common: int, size: int, **told: Any) -> dict[str, Any]:
    """The members of a plan. events: the present ones, of which `common` stay."""
    behind = events[common:]
    return {
        **told,
        "segments": [],
        "bytesToRead": size,
        "diskNeeded": size,
        "predictedSeconds": 0.0,
        "eventsLeftBehind": len(behind),
        "firstLeftBehind": summary(behind[0]) if behind else None,
        "lastLeftBehind": summary(behind[-1]) if behind else None,
    }


def shared(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    """How many events they begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (old, new) in pairs if old != new), min(len(one), len(other)))


def timeline(
    kept: PreviousDatabase, forks: Mapping[str, int], present: str, archives: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "window": window(kept[present], 0),
        "generation": present,
        "generations": [
            {"id": each, "forkSequence": forks.get(each, 0), "lastSequence": len(events), "present": each == present}
            for each, events in kept.items()
        ],
        "archives": list(archives),
        "segments": [],
        "gaps": [],
    }
