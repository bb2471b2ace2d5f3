"""The previous generations of the in-memory double, which an undo can bring back."""

from __future__ import annotations

from collections.abc import Sequence

from eventvault.errors import NothingToUndo, UndoNotFound
from eventvault.events.event import summary_of
from eventvault.restore.values import PreviousEntry, ReplacedEvents, RestoredMoment, UndoTarget

KEEP_UNDO = 3
"""How many previous generations an undo can bring back."""


class UndoList:
    """Newest first, as `eventvault.store.ports.restores.Restores.list_undo` has them."""

    def __init__(self) -> None:
        self.entries: list[PreviousEntry] = []
        self._restored = 0

    def push(
        self, generation: str, events: int, instant: int, source: str, restored: int, moment: RestoredMoment | None
    ) -> UndoTarget:
        """Add the generation that a restore of `source` replaced. restored: how many events the restored one has."""
        entry = PreviousEntry(
            name=f"previous-{generation}",
            generation=generation,
            events=events,
            replaced_at=instant,
            source=source,
            size=0,
            moment=moment,
        )
        self.entries = [entry, *self.entries][:KEEP_UNDO]
        self._restored = restored
        return UndoTarget(entry.name, generation, events)

    def pop(self, name: str | None) -> PreviousEntry:
        """Remove and return the entry of that name, or the newest. Raises UndoNotFound or NothingToUndo."""
        for entry in self.entries:
            if name in (None, entry.name):
                self.entries.remove(entry)
                return entry
        if name is not None:
            raise UndoNotFound(f"there is no previous database {name!r}", hint="GET /api/backup/undo lists them")
        raise NothingToUndo("there is nothing to undo", hint="restore a backup first")

    def since_restore(self, events: Sequence[bytes]) -> ReplacedEvents:
        """Return those of `events` that were posted since the newest restore."""
        since = events[self._restored :]
        return ReplacedEvents(len(since), summary_of(since[0]), summary_of(since[-1])) if since else ReplacedEvents(0)
