"""The double of the rehearsals: what is in memory can be restored at once, and a damaged archive cannot."""

from __future__ import annotations

from eventvault.errors import ArchiveError, BackupNotFound
from eventvault.events import event
from eventvault.rehearsals.results import Failure, Kind, ReachedMoment, Rehearsal
from eventvault.restore.values import Moment
from eventvault.store.memory import moments
from eventvault.store.memory.state import MemoryState, common_length
from eventvault.store.ports.rehearsals import Rehearsals

_NO_TIME = {"fetch": 0.0, "unpack": 0.0, "verify": 0.0, "open": 0.0}


class MemoryRehearsals(Rehearsals):
    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self._results: list[Rehearsal] = []

    def rehearse(self, target: Moment | str | None = None) -> Rehearsal:
        with self._state.lock:
            result = self._backup(target) if isinstance(target, str) else self._moment(target)
            self._results.insert(0, result)
            return result

    def list_rehearsals(self) -> list[Rehearsal]:
        return list(self._results)

    def _backup(self, name: str) -> Rehearsal:
        entry = self._state.archives.entry(name)
        try:
            self._state.archives.verify(name, records=True)
        except ArchiveError as error:
            now = self._state.now()
            return Rehearsal(ok=False, at=now, kind="backup", backup=entry.name, problem=Failure.of(error))
        return self._good("backup", self._state.archives.events(name), entry.name)

    def _moment(self, moment: Moment | None) -> Rehearsal:
        archives = self._state.archives.entries()
        if not archives and not self._state.events:
            raise BackupNotFound("there is no backup to rehearse", hint="make one with POST /api/backup/create")
        generation, count = (
            moments.find(self._state, moment) if moment else (self._state.generation, len(self._state.events))
        )
        events = self._state.generations[generation][:count]
        time = event.recorded_of(events[-1]) if events else None
        reached = ReachedMoment(count, generation, time)
        return self._good("moment" if moment else "newest", events, archives[0].name if archives else None, reached)

    def _good(
        self, kind: Kind, events: list[bytes], backup: str | None, moment: ReachedMoment | None = None
    ) -> Rehearsal:
        common = common_length(self._state.events, events)
        lost = len(self._state.events) - common if kind == "backup" else 0
        return Rehearsal(
            ok=True,
            at=self._state.now(),
            kind=kind,
            backup=backup,
            moment=moment,
            events=len(events),
            rto=_NO_TIME,
            rpo_events=lost,
            rpo_seconds=0.0,
            compared=common,
            proven=True,
        )
