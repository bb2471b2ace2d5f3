"""The fourth step of a restore: puts the new database in the place of the old one."""

from __future__ import annotations

from eventvault.database.bus import EventBus
from eventvault.errors import DiskFailed, StoreRestoring
from eventvault.restore.swap import carry_over, undo, unpublished
from eventvault.restore.swap import intent as intents
from eventvault.restore.swap.intent import Intent
from eventvault.restore.swap.previous import PreviousDatabase
from eventvault.settings import Settings


class Swapper:
    def __init__(self, settings: Settings, bus: EventBus) -> None:
        self._settings = settings
        self._bus = bus

    def swap(self, intent: Intent, undone: PreviousDatabase | None) -> Intent:
        """Swap while the service runs: stop writers and readers → carry over → close → write intent → rename → open.

        undone: the previous database that an undo brings back. Returns the intent as it was decided. Raises
        StoreRestoring if it is decided, but not done, or the new database cannot be opened yet.
        """
        is_swapped = False
        try:
            with self._bus.swapping() as registry:
                if registry is not None:
                    intent = carry_over.carry_over(self._settings.storage_dir, intent, registry, undone)
                with self._bus.replacing():
                    intent = self.swap_closed(intent)
                    is_swapped = True
        except Exception as error:
            if not is_swapped or isinstance(error, StoreRestoring):
                raise
            raise _still_restoring(intent, error) from error
        return intent

    def swap_closed(self, intent: Intent) -> Intent:
        """Swap a closed database: write the intent and rename the folders. Returns the intent as it was decided.

        If that fails before anything was renamed, it removes the intent: no later start may act on it. Raises
        StoreRestoring if the intent stays: the next try finishes the restore.
        """
        storage, database = self._settings.storage_dir, self._settings.database
        if not (storage / intent.new_database).is_dir():
            # Such an intent would mean that its swap is done.
            raise DiskFailed(
                f"the new database in {storage} is gone before it was used",
                hint="another program removed it; send the request again",
            )
        intent = undo.with_free_name(storage, intent)
        try:
            unpublished.announce(self._settings, intent)
            intents.write_intent(storage, intent)
            intents.swap_folders(storage, database, intent)
        except Exception as error:
            intents.withdraw_intent(storage, intent)
            if intents.is_decided(storage, intent):
                raise _still_restoring(intent, error) from error
            raise
        return intent


def _still_restoring(intent: Intent, error: Exception) -> StoreRestoring:
    return StoreRestoring(
        f"{intent.restored.source} is being restored; it is finished once this problem is solved: {error}",
        hint="wait: the service tries again each second; GET /api/health says what stops it",
    )
