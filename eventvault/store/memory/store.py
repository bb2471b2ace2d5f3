"""The in-memory double of the store: the same interface and rules, no LevelDB and no process.

Events and what is known of archives are in dictionaries; the archives themselves are small `.tar.gz` files in a
folder, because the edge sends them from disk. For tests of what stands above the store.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock
from eventvault.backups.entry import BackupEntry, Created
from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.errors import (
    EventNotFound,
    GenerationSuperseded,
    InvalidInput,
    PartitionNotStopped,
)
from eventvault.events import event
from eventvault.events.event import Appended, EventDraft
from eventvault.past.copy_into_present import copy_events_to_present
from eventvault.past.diff import diff_page
from eventvault.past.values import CopyResult, DiffPage, DiffQuery, PastView
from eventvault.restore.values import KeptEntry, Moment, Restored
from eventvault.store.memory import moments
from eventvault.store.memory.backups import MemoryBackups
from eventvault.store.memory.past import Events, parsed, resolve_moment
from eventvault.store.memory.reading import MemoryHold, dropped, restore_status, staged_status, wanted
from eventvault.store.memory.undo import Lefts
from eventvault.store.ports.event_log import Lease


class MemoryStore:
    """folder: where the archives are written; it must exist. now: the clock, in microseconds."""

    def __init__(self, folder: Path, now: clock.Clock = clock.now) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._generation = secrets.token_hex(8)
        self._kept: dict[str, list[bytes]] = {self._generation: []}
        self._held: Counter[str] = Counter()
        self._identities: dict[tuple[str, str], int] = {}
        self._forks: dict[str, int] = {}
        self._backups = MemoryBackups(folder, now)
        self._last_restore: Restored | None = None
        self._lefts = Lefts()
        self.staged: Restored | None = None
        self.stopped_partitions: set[int] = set()

    @property
    def _events(self) -> list[bytes]:
        return self._kept[self._generation]

    def append(self, drafts: Sequence[EventDraft]) -> AppendResult:
        with self._lock:
            return AppendResult([self._append(draft) for draft in drafts], len(self._events))

    def _append(self, draft: EventDraft) -> Appended:
        known = self._identities.get((draft.source, draft.id))
        if known is not None:
            first = self._events[known - 1]
            differs = event.differs(first, draft.body, draft.filled)
            return Appended(known, event.recorded_of(first), duplicate=True, differs=differs)
        before = event.recorded_of(self._events[-1]) if self._events else 0
        recorded = max(self._now(), before)
        value = event.recorded_body(draft.body, len(self._events) + 1, recorded)
        self._events.append(value)
        self._identities[draft.source, draft.id] = len(self._events)
        return Appended(len(self._events), recorded)

    def get(self, event_id: str, source: str | None = None, recorded_to: int | None = None) -> bytes:
        found = [
            value
            for value, attributes in parsed(self._events)
            if attributes["id"] == event_id
            and source in (None, attributes["source"])
            and (recorded_to is None or event.recorded_of(value) <= recorded_to)
        ]
        if not found:
            raise EventNotFound(f"there is no event with the id {event_id!r}", hint="GET /api/events lists them")
        if len(found) > 1:
            raise InvalidInput(
                f"{len(found)} events of several sources have the id {event_id!r}", hint="say which with &source="
            )
        return found[0]

    def scan(self, query: ScanQuery) -> Page:
        with self._lock:
            generation = self._readable(query)
            events = self._kept[generation]
        last = min(len(events), len(events) if query.upto is None else query.upto)
        chosen: list[bytes] = []
        for sequence in range(query.after + 1, last + 1):
            if wanted(events[sequence - 1], query):
                chosen.append(events[sequence - 1])
            if len(chosen) == query.limit:
                return Page(chosen, sequence if sequence < last else None, len(events), generation)
        return Page(chosen, None, len(events), generation)

    def _readable(self, query: ScanQuery) -> str:
        generation = query.generation or self._generation
        reach = query.after if query.upto is None else query.upto
        if generation == self._generation or reach <= self._forks.get(generation, -1):
            return self._generation
        if query.upto is not None and generation in self._kept:
            return generation
        raise GenerationSuperseded(
            f"the generation {generation!r} was left behind by a restore", hint="begin again without a cursor"
        )

    def resolve_moment(self, moment: Moment) -> PastView:
        with self._lock:
            return resolve_moment(moment, self._kept, self._generation, self._open_archive, self._now())

    def _open_archive(self, name: str) -> PastView:
        events = self._kept[f"archive-{name}"] = self._backups.events(name)
        return PastView(f"archive-{name}", len(events), self._backups.entry(name).generation)

    def last_common(self, one: str, other: str) -> int | None:
        with self._lock:
            if not {one, other} <= self._kept.keys():
                return None
            return moments.shared(self._kept[one], self._kept[other])

    def diff(self, query: DiffQuery) -> DiffPage:
        with self._lock:
            one, other = (Events(self._kept[view.generation]) for view in (query.one, query.other))
            return diff_page(query, one, other, 0)

    def copy_events_to_present(self, query: ScanQuery) -> CopyResult:
        return copy_events_to_present(query, self)

    def lease_generation(self, generation: str) -> Lease:
        return MemoryHold(self._held, generation)

    def status(self) -> dict[str, Any]:
        entries = self.list_backups()
        restored = self._last_restore
        return {
            "status": "ok",
            "problems": [],
            "store": {
                "state": "open",
                "events": len(self._events),
                "lastSequence": len(self._events),
                "generation": self._generation,
            },
            "kafka": None,
            "jobs": {
                "restore": {"running": False, "source": None, "since": None, "staged": staged_status(self.staged)}
            },
            "backup": {
                "available": True,
                "count": len(entries),
                "latest": entries[0] if entries else None,
                "totalSize": sum(entry.size for entry in entries),
            },
            "lastRestore": None if restored is None else restore_status(restored),
            "metrics": {},
        }

    def create_backup(self, label: str | None = None) -> Created:
        with self._lock:
            began = self._now()
            entry = self._backups.create(label, self._events, self._generation)
            undoable = {entry.generation for entry in self._lefts.entries}
            kept = {self._generation, *undoable, *(generation for generation, users in self._held.items() if users)}
            self._kept = {generation: events for generation, events in self._kept.items() if generation in kept}
            return Created(entry, (self._now() - began) // 1000)

    def list_backups(self) -> list[BackupEntry]:
        return self._backups.entries()

    def backup_manifest(self, name: str) -> dict[str, Any]:
        entry = self._backups.entry(name)
        return {"events": entry.events, "lastSequence": entry.sequence, "label": entry.label}

    def backup_path(self, name: str) -> str:
        return self._backups.entry(name).path

    def adopt_upload(self, temporary: str, name: str) -> BackupEntry:
        with self._lock:
            return self._backups.adopt(Path(temporary), name, self._generation)

    def verify_backup(self, name: str) -> BackupEntry:
        with self._lock:
            return self._backups.verify(name)

    def delete_backup(self, name: str, *, force: bool = False) -> None:
        with self._lock:
            self._backups.delete(name, force=force)

    def pin_backup(self, name: str, *, pinned: bool) -> BackupEntry:
        with self._lock:
            return self._backups.pin(name, pinned=pinned)

    def restore(self, name: str, *, staged: bool = False) -> Restored:
        with self._lock:
            began = self._now()
            events = self._backups.events(name)
            if not staged:
                return self._begin_generation(events, name, began)
            return self._stage(events, name)

    def restore_moment(self, moment: Moment, *, staged: bool = False) -> Restored:
        with self._lock:
            generation, count = moments.find(self._kept, self._generation, moment, self._now())
            events = list(self._kept[generation][:count])
            if staged:
                return self._stage(events, "the journal")
            return self._begin_generation(events, "the journal", self._now())

    def plan_restore(self, asked: Moment | str) -> dict[str, Any]:
        with self._lock:
            told: dict[str, Any]
            if isinstance(asked, str):
                events: Sequence[bytes] = self._backups.events(asked)
                told = {"archive": asked, "generation": None, "sequence": len(events)}
            else:
                generation, count = moments.find(self._kept, self._generation, asked, self._now())
                events = self._kept[generation][:count]
                told = {"archive": None, "generation": generation, "sequence": count}
            common = moments.shared(self._events, events)
            return moments.plan(self._events, common, sum(map(len, events)), **told)

    def timeline(self) -> dict[str, Any]:
        archives = [{"name": entry.name, "sequence": entry.sequence} for entry in self.list_backups()]
        return moments.timeline(self._kept, self._forks, self._generation, archives)

    def undo(self, name: str | None = None) -> Restored:
        with self._lock:
            behind = self._lefts.behind(self._events)
            target = self._lefts.pop(name)
            restored = self._begin_generation(list(self._kept[target.generation or ""]), target.name, self._now())
            return msgspec.structs.replace(restored, left_behind=behind)

    def accept_loss(self, partition: int) -> None:
        if partition not in self.stopped_partitions:
            raise PartitionNotStopped(
                f"partition {partition} is not stopped", hint="GET /api/health names those that are"
            )
        self.stopped_partitions.remove(partition)

    def list_undo(self) -> list[KeptEntry]:
        return list(self._lefts.entries)

    def _stage(self, events: list[bytes], source: str) -> Restored:
        self.staged = Restored(
            source=source,
            at=self._now(),
            events=len(events),
            not_json=0,
            duration=0,
            staged=True,
            notes=dropped(self.staged),
        )
        return self.staged

    def _begin_generation(self, events: list[bytes], source: str, began: int) -> Restored:
        undo = self._lefts.push(self._generation, len(self._events), began, source, len(events))
        shared = moments.shared(self._events, events)
        self._forks = {generation: min(fork, shared) for generation, fork in self._forks.items()}
        self._forks[self._generation] = shared
        self._generation = secrets.token_hex(8)
        self._kept[self._generation] = events
        self._identities = {
            (found["source"], found["id"]): number for number, (_, found) in enumerate(parsed(events), 1)
        }
        self._last_restore = Restored(
            source=source,
            at=began,
            events=len(events),
            not_json=0,
            duration=(self._now() - began) // 1000,
            generation=self._generation,
            undo=undo,
            notes=dropped(self.staged),
        )
        self.staged = None
        return self._last_restore
