"""The archives: made, entered, checked and removed by `eventvault.backups`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from eventvault import clock, data_folders
from eventvault.backups import retention, uploads
from eventvault.backups.archive_totals import TotalsKeeper
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.create import ARCHIVE, BackupMaker
from eventvault.backups.entry import BackupEntry, Created
from eventvault.backups.installation import ensure_installation
from eventvault.backups.installation_key import renew_key
from eventvault.backups.order import page_of
from eventvault.backups.removal import ArchiveRemover
from eventvault.backups.verify import Verifier
from eventvault.chores import Chores
from eventvault.errors import ArchiveError, BackupNotFound
from eventvault.operations.operation import Operation
from eventvault.settings import Settings
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.ports.backups import Backups


class BackupsOwner(Backups):
    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        catalogue: Catalogue,
        totals: TotalsKeeper,
        maker: BackupMaker,
        remover: ArchiveRemover,
        verifier: Verifier,
        chores: Chores,
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._catalogue = catalogue
        self._totals = totals
        self._maker = maker
        self._remover = remover
        self._verifier = verifier
        self._chores = chores

    def create_backup(self, label: str | None = None, *, operation: Operation | None = None) -> Created:
        operation = operation or Operation()
        self._lifecycle.check()
        made = self._made_before(operation)
        return made or self._maker.create(label, operation)

    def _made_before(self, operation: Operation) -> Created | None:
        """The backup that an earlier attempt made; None if it came to no archive, or to a damaged one."""
        name = operation.notes.get(ARCHIVE)
        if name is None or not self._is_there(name):
            return None
        with suppress(ArchiveError):
            return self._maker.finish_interrupted(name)
        return None

    def _is_there(self, name: str) -> bool:
        try:
            self._catalogue.entry(name)
        except BackupNotFound:
            return False
        return True

    def list_backups(self, *, limit: int | None = None, before: str | None = None) -> list[BackupEntry]:
        return page_of(self._totals.entries(), limit, before)

    def backup_entry(self, name: str) -> BackupEntry:
        return self._catalogue.entry(name)

    def backup_manifest(self, name: str) -> dict[str, Any]:
        return uploads.manifest_of(Path(self._catalogue.entry(name).path))

    def backup_path(self, name: str) -> str:
        return self._catalogue.entry(name).path

    def adopt_upload(self, temporary: str, name: str) -> BackupEntry:
        path = Path(temporary)
        try:
            return uploads.adopt(self._settings, self._catalogue, self._chores, path, name)
        finally:
            if path.name.startswith(data_folders.HANDED_OVER_PREFIX):
                path.unlink(missing_ok=True)

    def verify_backup(self, name: str, *, records: bool = False) -> BackupEntry:
        return self._verifier.verify(name, records=records)

    def delete_backup(self, name: str, *, force: bool = False, operation: Operation | None = None) -> None:
        operation = operation or Operation()
        if ARCHIVE in operation.notes and not self._is_there(name):
            return  # an earlier attempt removed it
        self._catalogue.entry(name)
        operation.note(ARCHIVE, name)
        self._remover.delete(name, force=force)

    def pin_backup(
        self, name: str, *, pinned: bool, reason: str | None = None, until: int | None = None
    ) -> BackupEntry:
        retention.check_end_of_pin(until, clock.now())
        return self._catalogue.set_pinned(name, pinned=pinned, reason=reason, until=until)

    def renew_key(self) -> int:
        ensure_installation(self._settings, self._catalogue.installation)
        proven = self._catalogue.note_made()
        renew_key(self._settings)
        return proven
