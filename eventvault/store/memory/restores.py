"""The double of the restores: a restore begins a generation with the events of an archive or of a moment."""

from __future__ import annotations

from typing import Any

import msgspec

from eventvault.backups.entry import Check
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
            checked = self._state.archives.entry(name).check_to_restore
            return self._apply(self._state.archives.events(name), name, checked, staged=staged)

    def restore_moment(self, moment: Moment, *, staged: bool = False) -> Restored:
        with self._state.lock:
            generation, count = moments.find(self._state, moment)
            return self._apply(list(self._state.generations[generation][:count]), JOURNAL, "records", staged=staged)

    def _apply(self, events: list[bytes], source: str, checked: Check, *, staged: bool) -> Restored:
        if staged:
            return self._state.stage(events, source, checked)
        return self._state.begin_generation(events, source, self._state.now(), checked)

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
                checked = self._state.archives.entry(target).check_to_restore
                described = {"archive": target, "generation": None, "sequence": len(events), "checked": checked}
            else:
                generation, count = moments.find(self._state, target)
                events = self._state.generations[generation][:count]
                described = {"archive": None, "generation": generation, "sequence": count, "checked": "records"}
            return described | moments.plan(self._state.events, common_length(self._state.events, events), events)

    def timeline(self) -> dict[str, Any]:
        return moments.timeline(self._state)
