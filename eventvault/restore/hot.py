"""Restore while the service runs: prepare beside the live data, then swap; only the swap makes anybody wait."""

from __future__ import annotations

import logging
import secrets
import threading
from pathlib import Path
from typing import Any

import msgspec
import plyvel

from eventvault import clock
from eventvault.chores import Chores
from eventvault.errors import DatabaseLocked, EventVaultError, NoSpace, RestoreRunning
from eventvault.files import remove_durably
from eventvault.restore import intent as intents
from eventvault.restore.inbox import Inbox, seen
from eventvault.restore.intent import Intent
from eventvault.restore.prepare import DATABASE_NAME
from eventvault.settings import Settings
from eventvault.store.bus import EventBus
from eventvault.store.generation import StoreIdentity
from eventvault.store.interface import Restored
from eventvault.store.past import KEPT_PREFIX, copy_database
from eventvault.store.registry import MARK_NAME, read_identity

log = logging.getLogger("BackupManager")


class Restorer:
    """Restores archives into the database of `bus`; one restore at a time.

    swapping: held while the database is closed and another takes its place; nobody else opens it meanwhile.
    """

    def __init__(self, settings: Settings, bus: EventBus, chores: Chores) -> None:
        self.inbox = Inbox(settings)
        self.swapping = threading.Lock()
        self.counts = {"restored": 0, "failed": 0}
        self._settings = settings
        self._bus = bus
        self._chores = chores
        self._under_way = threading.Lock()
        self._source = ""

    def restore(self, archive: Path, *, staged: bool, operation: str) -> Restored:
        """Restore and apply at once, or stage for the next start of the service.

        operation: a request that was answered already is given the same answer. Raises RestoreRunning, NoSpace or an
        ArchiveError; then the live data is as it was.
        """
        last = intents.read_last(self._settings.storage_dir)
        if last is not None and last.operation == operation:
            return last.restored
        if not self._under_way.acquire(blocking=False):
            raise RestoreRunning(
                f"a restore of {self._source} is under way", hint="wait until it is done: GET /api/health"
            )
        try:
            self._source = archive.name
            restored = self._restore(archive, staged, operation)
            self.counts["restored"] += 1
        except BaseException:
            self.counts["failed"] += 1
            raise
        finally:
            self._under_way.release()
        return restored

    def prepare(self, archive: Path, operation: str, *, inbox: bool = False) -> Intent:
        """Unpack and check beside the live data; what comes back only needs to be decided."""
        known = self._known()
        arguments = {"archive": str(archive), "known": msgspec.to_builtins(known) if known else None}
        return self._prepare("prepare_restore", arguments, archive.name, known, operation, archive if inbox else None)

    def prepare_in_place(self, copy: Path) -> Intent:
        """As `prepare`, for the private copy of a foreign database that lies in STORAGE_DIR."""
        return self._prepare("prepare_in_place", {"copy": str(copy)}, DATABASE_NAME, None, secrets.token_hex(8), None)

    def apply(self, intent: Intent) -> None:
        """Decide the intent and do it, on a database that nobody has open.

        Where it fails before anything was renamed, nothing is left of it: no later start may act on it.
        """
        storage, database = self._settings.storage_dir, self._settings.database
        intent = msgspec.structs.replace(intent, kept=intents.free_kept(storage, intent.kept))
        try:
            intents.write_intent(storage, intent)
            intents.swap_folders(storage, database, intent)
        except BaseException:
            intents.undo(storage, database, intent)
            raise

    def verify(self, archive: Path) -> None:
        """Read an archive of any origin from end to end. Raises an ArchiveError, or NoSpace."""
        self._chores.run("verify_archive", path=str(archive), scratch=str(self._settings.storage_dir))

    def settle(self, intent: Intent) -> None:
        """What follows the swap: note what was done, and take the archive out of `restore/`."""
        storage = self._settings.storage_dir
        intents.note_done(storage, intent)
        if intent.inbox is not None:
            self.inbox.put_away(Path(intent.inbox), intent.arrived)
        intents.remove_intent(storage)
        intents.drop_staged(storage)
        restored = intent.restored
        log.info("BackupManager: %s was restored: %s events, %s of them not JSON, in %s ms", restored.source,
                 restored.events, restored.not_json, restored.duration)  # fmt: skip

    def finish_pending(self) -> Intent | None:
        """Finish the restore that a killed process had decided. No handle may be open on the database."""
        storage = self._settings.storage_dir
        intent = intents.read_intent(storage)
        if intent is not None:
            intents.swap_folders(storage, self._settings.database, intent)
            self.settle(intent)
        return intent

    def _restore(self, archive: Path, staged: bool, operation: str) -> Restored:
        if isinstance(self._bus.problem, DatabaseLocked):
            raise self._bus.problem
        log.info("BackupManager: restoring %s", archive.name)
        intent = self.prepare(archive, operation)
        storage = self._settings.storage_dir
        try:
            if staged:
                intents.drop_staged(storage)
                intents.write_intent(storage, intent, intents.STAGED_NAME)
                log.info("BackupManager: %s is staged for the next start of the service", archive.name)
                return msgspec.structs.replace(intent.restored, staged=True)
            self._bus.before_swap()  # so that hardly anything is left to do while all wait
            with self.swapping:
                self._bus.swap(lambda: self.apply(intent))
        except BaseException:
            if intents.read_intent(storage) is None:
                remove_durably(storage / Path(intent.staged).parts[0])
            raise
        self._settle_or_leave(intent)
        return intent.restored

    def _settle_or_leave(self, intent: Intent) -> None:
        """The new data is live: a disk too full to note it is no failure, the next start notes it."""
        try:
            self.settle(intent)
        except (OSError, NoSpace) as error:
            log.warning("BackupManager: %s was restored, but that could not be noted yet: %s", intent.restored.source,
                        error)  # fmt: skip

    def _known(self) -> StoreIdentity | None:
        """The identity of what will be left behind; None where there is nothing readable.

        A database that is not open is read from a private copy: opening writes to it, and it may be damaged, another
        program's, or held.
        """
        registry = self._bus.registry
        if registry is not None:
            return registry.identity
        database = self._settings.database
        if not (database / MARK_NAME).exists():
            return None
        copy = self._settings.storage_dir / f"{intents.STAGING_PREFIX}{secrets.token_hex(4)}"
        try:
            copy_database(database, copy)
            return read_identity(copy)
        except (EventVaultError, OSError, plyvel.Error):
            return None
        finally:
            remove_durably(copy)

    def _prepare(
        self,
        chore: str,
        arguments: dict[str, Any],
        source: str,
        known: StoreIdentity | None,
        operation: str,
        inbox: Path | None,
    ) -> Intent:
        began = clock.now()
        arrived = seen(inbox) if inbox else None
        staging = self._settings.storage_dir / f"{intents.STAGING_PREFIX}{secrets.token_hex(4)}"
        try:
            answer = self._chores.run(chore, staging=str(staging), **arguments)
        except BaseException:
            remove_durably(staging)
            raise
        restored = Restored(
            source=source,
            at=clock.now(),
            events=answer["events"],
            not_json=answer["notJson"],
            duration=(clock.now() - began) // 1000,
            generation=answer["generation"],
            notes=answer["notes"],
        )
        return Intent(
            staged=f"{staging.name}/{DATABASE_NAME}",
            kept=f"{KEPT_PREFIX}{known.generation if known else 'unread-' + secrets.token_hex(4)}",
            operation=operation,
            restored=restored,
            inbox=str(inbox) if inbox else None,
            arrived=arrived,
        )
