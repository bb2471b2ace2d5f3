"""The double of the backups: each archive holds the events of one moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventvault.backups import retention
from eventvault.backups.entry import BackupEntry, Created, Pin
from eventvault.backups.order import page_of
from eventvault.backups.prune_plan import describe_plan
from eventvault.store.memory.state import MemoryState
from eventvault.store.ports.backups import Backups


class MemoryBackups(Backups):
    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def create_backup(self, label: str | None = None) -> Created:
        state = self._state
        with state.lock:
            began = state.now()
            entry = state.archives.create(label, state.events, state.generation)
            undoable = {previous.generation for previous in state.undo_list.entries}
            leased = {generation for generation, leases in state.leases.items() if leases}
            readable = {state.generation, *undoable, *leased}
            state.generations = {name: events for name, events in state.generations.items() if name in readable}
            return Created(entry, (state.now() - began) // 1000)

    def list_backups(self, *, limit: int | None = None, before: str | None = None) -> list[BackupEntry]:
        return page_of(self._state.archives.entries(), limit, before)

    def backup_entry(self, name: str) -> BackupEntry:
        return self._state.archives.entry(name)

    def backup_manifest(self, name: str) -> dict[str, Any]:
        entry = self._state.archives.entry(name)
        return {"events": entry.events, "lastSequence": entry.sequence, "label": entry.label}

    def backup_path(self, name: str) -> str:
        return self._state.archives.entry(name).path

    def adopt_upload(self, temporary: str, name: str) -> BackupEntry:
        with self._state.lock:
            return self._state.archives.adopt(Path(temporary), name, self._state.generation)

    def verify_backup(self, name: str, *, records: bool = False) -> BackupEntry:
        with self._state.lock:
            return self._state.archives.verify(name, records=records)

    def delete_backup(self, name: str, *, force: bool = False) -> None:
        with self._state.lock:
            self._state.archives.delete(name, force=force)

    def plan_deletion(self, name: str) -> dict[str, Any]:
        entry, entries = self._state.archives.entry(name), self._state.archives.entries()
        return {
            "freesBytes": entry.size,
            "goodLeft": len(entries) - 1,
            "protectedBy": retention.protection_of(entries, entry),
            "window": {"before": None, "after": None},
            "lost": [],
        }

    def pin_backup(
        self, name: str, *, pinned: bool, reason: str | None = None, until: int | None = None
    ) -> BackupEntry:
        with self._state.lock:
            retention.check_end_of_pin(until, self._state.now())
            return self._state.archives.pin(name, Pin(reason, until) if pinned else None)

    def plan_prune(self) -> dict[str, Any]:
        entries = self._state.archives.entries()
        plan = self._state.archives.plan()
        return {
            **describe_plan(plan, entries, {entry.name: entry.size for entry in entries if entry.name in plan.removed}),
            "window": {"before": None, "after": None},
            "lost": [],
            "journal": {"bytes": 0, "bytesAfter": 0, "oldestBackup": None, "bytesForOldest": 0},
        }

    def prune_backups(self) -> dict[str, Any]:
        with self._state.lock:
            plan = self.plan_prune()
            removed = [entry["name"] for entry in reversed(plan["remove"])]
            for name in removed:
                self._state.archives.delete(name, force=False)
            return {"plan": plan, "removed": removed, "freedBytes": plan["freesBytes"]}

    def renew_key(self) -> int:
        return sum(entry.origin == "created" for entry in self._state.archives.entries())
