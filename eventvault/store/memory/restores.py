"""The double of the restores: a restore begins a generation with the events of an archive or of a moment."""

from __future__ import annotations

from typing import Any

import msgspec

from eventvault.restore.values import Moment, PreviousEntry, Restored
from eventvault.store.memory import moments
from eventvault.store.memory.state import MemoryState, common_length
from eventvault.store.ports.restores import Restores

JOURNAL = "the journal"


class MemoryRestores(Restores):
    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def restore(self, name: str, *, staged: bool = False) -> Restored:
        with self._state.lock:
            return self._apply(self._state.archives.events(name), name, staged=staged)

    def restore_moment(self, moment: Moment, *, staged: bool = False) -> Restored:
        with self._state.lock:
            generation, count = moments.find(self._state, moment)
            return self._apply(list(self._state.generations[generation][:count]), JOURNAL, staged=staged)

    def _apply(self, events: list[bytes], source: str, *, staged: bool) -> Restored:
        if staged:
            return self._state.stage(events, source)
        return self._state.begin_generation(events, source, self._state.now())

    def undo(self, name: str | None = None) -> Restored:
        state = self._state
        with state.lock:
            behind = state.undo_list.behind(state.events)
            target = state.undo_list.pop(name)
            events = list(state.generations[target.generation or ""])
            restored = state.begin_generation(events, target.name, state.now())
            return msgspec.structs.replace(restored, replaced_events=behind)

    def list_undo(self) -> list[PreviousEntry]:
        return list(self._state.undo_list.entries)

    def plan_restore(self, target: Moment | str) -> dict[str, Any]:
        with self._state.lock:
            if isinstance(target, str):
                events = self._state.archives.events(target)
                described = {"archive": target, "generation": None, "sequence": len(events)}
            else:
                generation, count = moments.find(self._state, target)
                events = self._state.generations[generation][:count]
                described = {"archive": None, "generation": generation, "sequence": count}
            return described | moments.plan(self._state.events, common_length(self._state.events, events), events)

    def timeline(self) -> dict[str, Any]:
        return moments.timeline(self._state)
