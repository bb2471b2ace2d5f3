"""Whether a start may take long: then requests are refused at once, and none holds a thread while it waits.

This opens nothing. `eventvault.restore.start.startup` decides by the same rules what it really does.
"""

from __future__ import annotations

import contextlib
import functools

from eventvault import data_folders
from eventvault.backups.catalogue import Catalogue
from eventvault.errors import EventVaultError
from eventvault.journal.folder import JournalFolder
from eventvault.restore.drop_folder import DropFolder
from eventvault.restore.start.lost import find_recovery_sources, is_lost
from eventvault.settings import Settings


def will_start_slowly(
    settings: Settings, catalogue: Catalogue, journal: JournalFolder, drop_folder: DropFolder, *, service_starts: bool
) -> bool:
    """Return True if a restore, recovery or import comes before the opening. service_starts: not a take-over."""
    with contextlib.suppress(OSError, EventVaultError):
        if service_starts and (drop_folder.may_restore() or _is_staged(settings)):
            return True
        find_sources = functools.partial(find_recovery_sources, catalogue, journal)
        if is_lost(settings.database, find_sources):
            return settings.auto_recover == "true" and bool(find_sources())
        return not (settings.database / data_folders.DATABASE_MARK).exists()
    return False


def _is_staged(settings: Settings) -> bool:
    return (settings.storage_dir / data_folders.STAGED_RESTORE).exists()
