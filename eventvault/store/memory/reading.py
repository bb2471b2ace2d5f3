"""Reading in the in-memory double: which events a query asks for, and holds on generations."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson

from eventvault import clock
from eventvault.database.values import ScanQuery
from eventvault.events import event
from eventvault.restore.values import Restored


class MemoryHold:
    """Counts who holds which generation."""

    def __init__(self, held: Counter[str], generation: str) -> None:
        self._held = held
        self._generation = generation

    def __enter__(self) -> MemoryHold:
        self._held[self._generation] += 1
        return self

    def renew(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        self._held[self._generation] -= 1


def wanted(value: bytes, query: ScanQuery) -> bool:
    """Whether the filters of `query` let the event pass."""
    attributes = orjson.loads(value)
    recorded = event.recorded_of(value)
    return (
        query.type in (None, attributes["type"])
        and query.subject in (None, attributes.get("subject"))
        and query.source in (None, attributes["source"])
        and (query.recorded_from is None or recorded >= query.recorded_from)
        and (query.recorded_to is None or recorded <= query.recorded_to)
    )


def staged_status(staged: Restored | None) -> dict[str, Any] | None:
    """`jobs.restore.staged` of health."""
    if staged is None:
        return None
    return {"source": staged.source, "since": clock.format_milliseconds(staged.at), "events": staged.events}


def dropped(staged: Restored | None) -> list[str]:
    """The note of a restore that takes the place of one that waits for a restart."""
    return [] if staged is None else [f"a restore of {staged.source} that was staged was dropped for this one"]


def restore_status(restored: Restored) -> dict[str, Any]:
    """`lastRestore` of health."""
    return {
        "source": restored.source,
        "at": clock.format_milliseconds(restored.at),
        "events": restored.events,
        "notJson": restored.not_json,
        "durationMs": restored.duration,
    }
