"""The previous generations of the in-memory double, which an undo can bring back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from eventvault.errors import NothingToUndo, UndoNotFound
from eventvault.restore.values import KeptEntry, LeftBehind, Undo

KEEP_UNDO = 3
"""How many previous generations are there at most."""


class UndoList:
    """Newest first, as `eventvault.store.ports.restores.Restores.list_undo` has them."""

    def __init__(self) -> None:
        self.entries: list[KeptEntry] = []
        self._brought = 0

    def push(self, generation: str, events: int, instant: int, source: str, brought: int) -> Undo:
        """Add the generation that a restore of `source` replaced. brought: how many events the restored one has."""
        entry = KeptEntry(
            name=f"previous-{generation}", generation=generation, events=events, left=instant, source=source, size=0
        )
        self.entries = [entry, *self.entries][:KEEP_UNDO]
        self._brought = brought
        return Undo(entry.name, generation, events)

    def pop(self, name: str | None) -> KeptEntry:
        """The one of that name, or the newest. Raises UndoNotFound or NothingToUndo."""
        for entry in self.entries:
            if name in (None, entry.name):
                self.entries.remove(entry)
                return entry
        if name is not None:
            raise UndoNotFound(f"nothing is kept as {name!r}", hint="GET /api/backup/undo names what is kept")
        raise NothingToUndo("there is nothing to undo", hint="restore a backup first")

    def behind(self, events: Sequence[bytes]) -> LeftBehind:
        """Those of `events` that were posted since the newest restore."""
        since = events[self._brought :]
        return LeftBehind(len(since), summary(since[0]), summary(since[-1])) if since else LeftBehind(0)


def summary(value: bytes) -> dict[str, Any]:
    """The event without its data."""
    return {name: it for name, it in orjson.loads(value).items() if name != "data"}
