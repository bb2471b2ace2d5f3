"""The previous generations of the in-memory double, which an undo can bring back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from eventvault.errors import NothingToUndo, UndoNotFound
from eventvault.restore.values import PreviousEntry, ReplacedEvents, UndoTarget

KEEP_UNDO = 3
"""How many previous generations are there at most."""


class UndoList:
    """Newest first, as `eventvault.store.ports.restores.Restores.list_undo` has them."""

    def __init__(self) -> None:
        self.entries: list[PreviousEntry] = []
        self._brought = 0

    def push(self, generation: str, events: int, instant: int, source: str, brought: int) -> UndoTarget:
        """Add the generation that a restore of `source` replaced. brought: how many events the restored one has."""
        entry = PreviousEntry(
            name=f"previous-{generation}",
            generation=generation,
            events=events,
            replaced_at=instant,
            source=source,
            size=0,
        )
        self.entries = [entry, *self.entries][:KEEP_UNDO]
        self._brought = brought
        return UndoTarget(entry.name, generation, events)

    def pop(self, name: str | None) -> PreviousEntry:
        """The one of that name, or the newest. Raises UndoNotFound or NothingToUndo."""
        for entry in self.entries:
            if name in (None, entry.name):
                self.entries.remove(entry)
                return entry
        if name is not None:
            raise UndoNotFound(f"there is no previous database {name!r}", hint="GET /api/backup/undo lists them")
        raise NothingToUndo("there is nothing to undo", hint="restore a backup first")

    def behind(self, events: Sequence[bytes]) -> ReplacedEvents:
        """Those of `events` that were posted since the newest restore."""
        since = events[self._brought :]
        return ReplacedEvents(len(since), summary(since[0]), summary(since[-1])) if since else ReplacedEvents(0)


def summary(value: bytes) -> dict[str, Any]:
    """The event without its data."""
    return {name: it for name, it in orjson.loads(value).items() if name != "data"}
