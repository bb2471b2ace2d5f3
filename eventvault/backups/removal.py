"""Removing archives: by rotation beyond MAX_BACKUPS, and on request. `retention` decides which ones."""

from __future__ import annotations

import logging

from eventvault.archive.locks import exclusive_lock
from eventvault.backups import retention
from eventvault.backups.catalogue import Catalogue
from eventvault.database.bus import EventBus
from eventvault.errors import BackupNotFound, BackupProtected, EventVaultError
from eventvault.progress import Turn
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

LOCK_PATIENCE_SECONDS = 0.5
"""How long a removal waits for a reader of the archive. Reading its manifest takes less."""


class ArchiveRemover:
    """Removes archives from BACKUP_DIR. Safe to use from many threads."""

    def __init__(self, settings: Settings, bus: EventBus, catalogue: Catalogue) -> None:
        self._settings = settings
        self._bus = bus
        self._catalogue = catalogue
        self._turn = Turn("removal of archives")
        """Held while archives are removed, so that one removal does not take another one for a reader."""

    def rotate(self, just_made: str | None = None) -> list[str]:
        """Remove the archives beyond MAX_BACKUPS. Returns their names."""
        with self._turn.held():
            plan = retention.plan_retention(
                self._catalogue.entries(),
                self._settings.max_backups,
                self._is_busy,
                just_made=just_made,
                generations=self._bus.generations(),
            )
            return [name for name in plan if self._remove_by_rotation(name)]

    def delete(self, name: str, *, force: bool) -> None:
        """Remove one archive. Raises BackupNotFound; BackupProtected as the interface says."""
        with self._turn.held():
            retention.check_deletion(self._catalogue.entries(), name, force=force)
            self._catalogue.entry(name)
            self._remove(name, force=force)
        log.info("%s was deleted on request", name)

    def _is_busy(self, name: str) -> bool:
        try:
            with exclusive_lock(self._settings.backup_dir / name, LOCK_PATIENCE_SECONDS):
                return False
        except (BackupNotFound, BackupProtected, OSError):
            return True

    def _remove(self, name: str, *, force: bool = False) -> None:
        """Remove the archive if it may go. That is checked under the lock, as it may have been pinned since."""
        with exclusive_lock(self._settings.backup_dir / name, LOCK_PATIENCE_SECONDS):
            self._catalogue.remove(name, lambda entries: retention.check_deletion(entries, name, force=force))

    def _remove_by_rotation(self, name: str) -> bool:
        try:
            self._remove(name)
        except (EventVaultError, OSError) as error:
            log.warning("%s stays, as rotation could not remove it: %s", name, error)
            return False
        log.info("%s was removed by rotation, MAX_BACKUPS is %s", name, self._settings.max_backups)
        return True
