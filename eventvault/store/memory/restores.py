"""The double of the restores: a restore begins a generation with the events of an archive or of a moment."""

from __future__ import annotations

from typing import Any

import msgspec

from eventvault.database.generation import UNDONE
from eventvault.events import event
from eventvault.restore.values import POINT_IN_TIME, Moment, PreviousEntry, Restored, RestoredMoment
from eventvault.store.jobs_of_restore import check_jobs
from eventvault.store.kafka_of_restore import check_replay
from eventvault.store.memory import moments
from eventvault.store.memory.state import MemoryState, common_length
from eventvault.store.ports.restores import Restores

JOURNAL = "the journal"


class MemoryRestores(Restores):
    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def restore(self, name: str, *, staged: bool = False, cancel_jobs: bool = False) -> Restored:
        check_jobs(None, cancel=cancel_jobs, staged=staged)
        with self._state.lock:
            entry = self._state.archives.entry(name)
            events = self._state.archives.events(name)
            if staged:
                return self._state.stage(events, name, entry.check_to_restore, proven=entry.origin_proven)
            return self._state.begin_generation(
                events, name, self._state.now(), entry.check_to_restore, proven=entry.origin_proven
            )

    def restore_moment(
        self, moment: Moment, *, staged: bool = False, cancel_jobs: bool = False, replay: bool = False
    ) -> Restored:
        check_jobs(None, cancel=cancel_jobs, staged=staged)
        check_replay(replay=replay, is_configured=False)
        with self._state.lock:
            generation, count = moments.find(self._state, moment)
            events = list(self._state.generations[generation][:count])
            if staged:
                return self._state.stage(events, JOURNAL, "records", proven=True)
            time = moment.instant or (event.recorded_of(events[-1]) if events else None)
            return self._state.begin_generation(
                events, JOURNAL, self._state.now(), "records", reason=POINT_IN_TIME, moment=RestoredMoment(count, time)
            )

    def undo(self, name: str | None = None) -> Restored:
        state = self._state
        with state.lock:
            replaced = state.undo_list.since_restore(state.events)
            target = state.undo_list.pop(name)
            events = list(state.generations[target.generation or ""])
            restored = state.begin_generation(events, target.name, state.now(), reason=UNDONE)
            state.last_restore = msgspec.structs.replace(restored, replaced_events=replaced)
            return state.last_restore

    def list_undo(self) -> list[PreviousEntry]:
        return list(self._state.undo_list.entries)

    def plan_restore(self, target: Moment | str, *, replay: bool = False) -> dict[str, Any]:
        check_replay(replay=replay, is_configured=False)
        with self._state.lock:
            if isinstance(target, str):
                events = self._state.archives.events(target)
                entry = self._state.archives.entry(target)
                described = {"archive": target, "generation": None, "sequence": len(events)}
                described |= {"checked": entry.check_to_restore, "proven": entry.origin_proven}
            else:
                generation, count = moments.find(self._state, target)
                events = self._state.generations[generation][:count]
                described = {"archive": None, "generation": generation, "sequence": count}
                described |= {"checked": "records", "proven": True}
            described |= {"unfinishedJobs": None, "kafka": None}
            return described | moments.plan(self._state.events, common_length(self._state.events, events), events)

    def timeline(self, *, buckets: int | None = None) -> dict[str, Any]:
        return moments.timeline(self._state, buckets)
