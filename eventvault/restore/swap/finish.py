"""The last step of a restore: notes what was restored. A full disk defers it; after a kill the next start does it."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from eventvault.errors import DatabaseDamaged, EventVaultError, NoSpace
from eventvault.progress import Turn
from eventvault.restore.drop_folder import DropFolder
from eventvault.restore.swap import carry_over, unpublished
from eventvault.restore.swap import intent as intents
from eventvault.restore.swap.intent import Intent
from eventvault.restore.swap.previous import PreviousDatabases
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


class Finisher:
    """Finishes restores whose swap is done, at once or later.

    swapping: held while a restore closes and replaces the database and finishes. Nobody else opens it meanwhile.
    """

    def __init__(self, settings: Settings, previous: PreviousDatabases) -> None:
        self.drop_folder = DropFolder(settings)
        self.swapping = Turn("restore that is under way")
        self._settings = settings
        self._previous = previous

    def finish(self, intent: Intent) -> None:
        """Note what was restored, move the archive out of `restore/` and remove the intent."""
        storage = self._settings.storage_dir
        intents.note_done(storage, intent)
        if intent.drop_file is not None:
            self.drop_folder.move_to_restored(Path(intent.drop_file), intent.arrived)
        # Before the intent is removed: the next start would apply the staged restore that this one replaces.
        intents.discard_staged(storage, intent)
        intents.remove_intent(storage)
        if intent.undone is not None:
            self._previous.drop([intent.undone])  # the current lineage has all its events
        restored = intent.restored
        log.info("%s was restored: %s events, %s of them not JSON, in %s ms", restored.source,
                 restored.events, restored.not_json, restored.duration)  # fmt: skip

    def finish_or_defer(self, intent: Intent) -> None:
        """Finish, or on a full disk leave that to `finish_deferred`: the new database is live already."""
        try:
            self.finish(intent)
        except (OSError, NoSpace) as error:
            log.warning("%s was restored, but that could not be noted yet: %s", intent.restored.source,
                        error)  # fmt: skip

    def finish_deferred(self) -> None:
        """Finish what `finish_or_defer` deferred. Raises NoSpace or OSError if that still fails.

        An unreadable intent is ignored: the next restore overwrites it.
        """
        if intents.intent_exists(self._settings.storage_dir):
            with self.swapping.held(), contextlib.suppress(DatabaseDamaged):
                self._finish_swapped()

    def each_second(self) -> None:
        """Do `finish_deferred`, unless a swap is under way; after a failure the next second tries again."""
        if intents.intent_exists(self._settings.storage_dir):
            with self.swapping.held_if_free() as is_held, contextlib.suppress(EventVaultError, OSError):
                if is_held:
                    self._finish_swapped()

    def finish_pending(self) -> None:
        """Swap and finish a restore whose process was killed after it had decided. The database must be closed."""
        storage = self._settings.storage_dir
        intent = intents.read_intent(storage)
        if intent is not None:
            intent = carry_over.carry_over_at_start(storage, self._settings.database, intent)
            unpublished.announce(self._settings, intent)
            intents.swap_folders(storage, self._settings.database, intent)
            self.finish(intent)

    def _finish_swapped(self) -> None:
        intent = intents.read_intent(self._settings.storage_dir)
        if intent is not None and not (self._settings.storage_dir / intent.new_database).is_dir():
            self.finish(intent)
