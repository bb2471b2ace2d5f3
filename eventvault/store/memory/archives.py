"""The archives of the in-memory double: files in a folder, as the edge sends them from disk, and their entries."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

import msgspec

from eventvault import clock
from eventvault.backups import names, retention
from eventvault.backups.entry import BackupEntry, Pin
from eventvault.backups.retention import RetentionPlan, Rules
from eventvault.errors import ArchiveDamaged, BackupExists, BackupNotFound
from eventvault.store.memory import archive_file

RULES = Rules(newest=10, zone=UTC)


class MemoryArchives:
    """folder: where the archives are written. now: the clock, in microseconds. The caller holds the state's lock."""

    def __init__(self, folder: Path, now: clock.Clock) -> None:
        self._folder = folder
        self._now = now
        self._entries: dict[str, BackupEntry] = {}

    def create(self, label: str | None, events: Sequence[bytes], generation: str) -> BackupEntry:
        created = self._now()
        name = next(name for name in names.candidates(created, label) if name not in self._entries)
        self._folder.joinpath(name).write_bytes(archive_file.pack(events))
        return self._enter(name, label, "created", created, generation)

    def adopt(self, temporary: Path, name: str, generation: str) -> BackupEntry:
        if name in self._entries and not temporary.exists():
            return self.entry(name)
        if name in self._entries:
            raise BackupExists(f"there is a backup {name!r} already", hint="upload it under another name")
        archive_file.unpack(temporary.read_bytes())
        temporary.rename(self._folder / name)
        return self._enter(name, None, "uploaded", self._now(), generation)

    def _enter(self, name: str, label: str | None, origin: str, created: int, generation: str) -> BackupEntry:
        self._entries[name] = archive_file.describe(
            self._folder / name,
            label=label,
            origin=origin,
            created=created,
            generation=generation,
            verified=self._now(),
        )
        return self.entry(name)

    def entries(self) -> list[BackupEntry]:
        retained = self.plan().retained
        return [msgspec.structs.replace(entry, retained_by=retained.get(entry.name, ())) for entry in self._listed()]

    def plan(self) -> RetentionPlan:
        return retention.plan_retention(self._listed(), RULES, self._now())

    def _listed(self) -> list[BackupEntry]:
        present = [self._present(entry) for entry in self._entries.values() if Path(entry.path).exists()]
        return sorted(present, key=lambda entry: (entry.created, entry.name), reverse=True)

    def _present(self, entry: BackupEntry) -> BackupEntry:
        is_over = entry.pin is not None and entry.pin.is_over(self._now())
        return msgspec.structs.replace(entry, pinned=False, pin=None) if is_over else entry

    def entry(self, name: str) -> BackupEntry:
        for entry in self.entries():
            if entry.name == name:
                return entry
        raise BackupNotFound(f"there is no backup {name!r}", hint="GET /api/backup/list names those there are")

    def events(self, name: str) -> list[bytes]:
        return archive_file.unpack(Path(self.entry(name).path).read_bytes())

    def verify(self, name: str, *, records: bool) -> BackupEntry:
        entry = self.entry(name)
        if archive_file.digest_of(Path(entry.path).read_bytes()) != entry.digest:
            error = ArchiveDamaged(f"{name} is not what was written", hint="delete it and make another backup")
            self._entries[name] = msgspec.structs.replace(entry, verified=None, checked=None, problem=error.message)
            raise error
        by_records = records or not entry.origin_proven
        sha256 = hashlib.sha256(Path(entry.path).read_bytes()).hexdigest() if by_records else entry.sha256
        self._entries[name] = msgspec.structs.replace(
            entry, verified=self._now(), checked="records" if by_records else "digests", sha256=sha256, problem=None
        )
        return self.entry(name)

    def delete(self, name: str, *, force: bool) -> None:
        entry = self.entry(name)
        retention.check_deletion(self.entries(), name, force=force)
        Path(entry.path).unlink()
        del self._entries[name]

    def pin(self, name: str, pin: Pin | None) -> BackupEntry:
        self._entries[name] = msgspec.structs.replace(self.entry(name), pinned=pin is not None, pin=pin)
        return self.entry(name)
