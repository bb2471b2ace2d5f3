"""Whether a start may take long: then requests are refused at once, instead of each holding a thread while it waits.

Nothing is opened for that. `eventvault.restore.start.startup` decides by the same rules what it really does.
"""

from __future__ import annotations

import contextlib
import functools

from eventvault import data_folders
from eventvault.backups import names
from eventvault.backups.catalogue import Catalogue
from eventvault.errors import EventVaultError
from eventvault.journal.folder import JournalFolder
from eventvault.restore.start.lost import is_lost, left_of
from eventvault.settings import Settings


def will_start_slowly(
    settings: Settings, catalogue: Catalogue, journal: JournalFolder, *, service_starts: bool
) -> bool:
    """Something is restored, recovered or imported before the database is opened. service_starts: no take-over."""
    with contextlib.suppress(OSError, EventVaultError):
        if service_starts and _waits_for_the_start(settings):
            return True
        left = functools.partial(left_of, catalogue, journal)
        if is_lost(settings.database, left):
            return settings.auto_recover == "true" and bool(left())
        return not (settings.database / data_folders.DATABASE_MARK).exists()
    return False


def _waits_for_the_start(settings: Settings) -> bool:
    """A restore that was staged, or an archive in `restore/`."""
    inbox = settings.auto_restore_enabled and any(settings.restore_dir.glob(f"*{names.SUFFIX}"))
    return inbox or (settings.storage_dir / data_folders.STAGED_RESTORE).exists()
