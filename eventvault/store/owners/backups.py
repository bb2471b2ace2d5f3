"""The archives: made, entered, checked and removed by `eventvault.backups`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventvault.backups import uploads
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.create import BackupMaker
from eventvault.backups.entry import BackupEntry, Created
from eventvault.backups.removal import ArchiveRemover
from eventvault.backups.verify import Verifier
from eventvault.chores import Chores
from eventvault.settings import Settings
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.ports.backups import Backups


class BackupsOwner(Backups):
    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        catalogue: Catalogue,
        maker: BackupMaker,
        remover: ArchiveRemover,
        verifier: Verifier,
        chores: Chores,
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._catalogue = catalogue
        self._maker = maker
        self._remover = remover
        self._verifier = verifier
        self._chores = chores

    def create_backup(self, label: str | None = None) -> Created:
        self._lifecycle.check()
        return self._maker.create(label)

    def list_backups(self) -> list[BackupEntry]:
        return self._catalogue.entries()

    def backup_manifest(self, name: str) -> dict[str, Any]:
        return uploads.manifest_of(Path(self._catalogue.entry(name).path))

    def backup_path(self, name: str) -> str:
        return self._catalogue.entry(name).path

    def adopt_upload(self, temporary: str, name: str) -> BackupEntry:
        return uploads.adopt(self._settings, self._catalogue, self._chores, Path(temporary), name)

    def verify_backup(self, name: str) -> BackupEntry:
        return self._verifier.verify(name)

    def delete_backup(self, name: str, *, force: bool = False) -> None:
        self._remover.delete(name, force=force)

    def pin_backup(self, name: str, *, pinned: bool) -> BackupEntry:
        return self._catalogue.set_pinned(name, pinned=pinned)
