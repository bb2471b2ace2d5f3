"""What follows the swap of a restore: at once, or later where the disk was too full for it, or at the next start."""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path

from eventvault.errors import DatabaseDamaged, EventVaultError, NoSpace
from eventvault.restore.drop_folder import Inbox
from eventvault.restore.swap import carry_over
from eventvault.restore.swap import intent as intents
from eventvault.restore.swap.intent import Intent
from eventvault.restore.swap.previous import PreviousDatabases
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


class Settler:
    """swapping: held while the database is closed and another takes its place, until that is settled.

    Nobody else opens it meanwhile.
    """

    def __init__(self, settings: Settings, previous: PreviousDatabases) -> None:
        self.inbox = Inbox(settings)
        self.swapping = threading.Lock()
        self._settings = settings
        self._previous = previous

    def settle(self, intent: Intent) -> None:
        """What follows the swap: note what was done, and take the archive out of `restore/`."""
        storage = self._settings.storage_dir
        intents.note_done(storage, intent)
        if intent.inbox is not None:
            self.inbox.move_to_restored(Path(intent.inbox), intent.arrived)
        # Before the intent goes: a start would take up what this one takes the place of.
        intents.drop_staged(storage, intent)
        intents.remove_intent(storage)
        if intent.undone is not None:
            self._previous.drop([intent.undone])  # all of it is in the present lineage now
        restored = intent.restored
        log.info("%s was restored: %s events, %s of them not JSON, in %s ms", restored.source,
                 restored.events, restored.not_json, restored.duration)  # fmt: skip

    def finish_pending(self) -> Intent | None:
        """Finish the restore that a killed process had decided. No handle may be open on the database."""
        storage = self._settings.storage_dir
        intent = intents.read_intent(storage)
        if intent is not None:
            intent = carry_over.leave_at_start(storage, self._settings.database, intent)
            intents.swap_folders(storage, self._settings.database, intent)
            self.settle(intent)
        return intent

    def finish_or_defer(self, intent: Intent) -> None:
        """The new data is live: a disk too full to note it is no failure, it is noted later."""
        try:
            self.settle(intent)
        except (OSError, NoSpace) as error:
            log.warning("%s was restored, but that could not be noted yet: %s", intent.restored.source,
                        error)  # fmt: skip

    def settle_pending(self) -> None:
        """Settle what `finish_or_defer` left. Raises NoSpace or OSError where that still cannot be done.

        An intent that cannot be read is passed over: the restore that is decided next overwrites it.
        """
        if intents.intent_exists(self._settings.storage_dir):
            with self.swapping, contextlib.suppress(DatabaseDamaged):
                self._settle_swapped()

    def each_second(self) -> None:
        """`settle_pending`, where nobody is at it and there is room by now."""
        if intents.intent_exists(self._settings.storage_dir) and self.swapping.acquire(blocking=False):
            try:
                with contextlib.suppress(EventVaultError, OSError):
                    self._settle_swapped()
            finally:
                self.swapping.release()

    def _settle_swapped(self) -> None:
        intent = intents.read_intent(self._settings.storage_dir)
        if intent is not None and not (self._settings.storage_dir / intent.staged).is_dir():
            self.settle(intent)
