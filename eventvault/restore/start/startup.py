"""What a store does before it opens the database: finish what was decided, restore what lies in `restore/`,
take over a foreign database, and never mistake a lost database for a new one.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import tarfile
import time
from pathlib import Path

from eventvault import clock, data_folders
from eventvault.backups import names
from eventvault.backups.catalogue import Catalogue
from eventvault.database.checkpoint import take_checkpoint
from eventvault.database.opening import check_free
from eventvault.database.registry import create_database
from eventvault.errors import (
    ArchiveError,
    ArchiveIncomplete,
    Cancelled,
    DatabaseDamaged,
    DatabaseMissing,
    EventVaultError,
)
from eventvault.files import durable_file, make_folder, remove_durably, rename_durably, sync_tree, write_durably
from eventvault.foreign.detect import database_origin
from eventvault.journal.folder import JournalFolder
from eventvault.restore.moments.build import Moments
from eventvault.restore.start.lost import is_lost
from eventvault.restore.start.recover import Recovery
from eventvault.restore.swap import carry_over
from eventvault.restore.swap import intent as intents
from eventvault.restore.swap.intent import Intent
from eventvault.restore.swap.previous import name_of
from eventvault.restore.swap.restorer import Restorer
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

UPLOAD_SECONDS = 3600.0
"""An upload that got no byte for this long has lost its process."""


class Startup:
    """Makes STORAGE_DIR hold the database that is to be opened."""

    def __init__(
        self, settings: Settings, catalogue: Catalogue, restorer: Restorer, journal: JournalFolder, moments: Moments
    ) -> None:
        self._settings = settings
        self._recovery = Recovery(settings, catalogue, restorer, journal, moments)
        self._restorer = restorer
        self._tidied = False
        self._promoted = False
        self._inbox_seen = False

    def run(self, *, service_starts: bool) -> None:
        """service_starts: this is a start of the service, not a take-over, and not the command line.

        Raises DatabaseMissing where an empty registry would hide that one was lost. May be run again until it does
        not raise; what is staged and what lies in `restore/` is taken the first time only.
        """
        for folder in (self._settings.storage_dir, self._settings.backup_dir, self._settings.restore_dir):
            make_folder(folder)
        self._restorer.finish_pending()
        if service_starts and not self._promoted:
            carry_over.promote_staged(self._settings.storage_dir)
            self._promoted = True
            self._restorer.finish_pending()
        if not self._tidied and self._restorer.running is None:  # what is being prepared is no leftover
            self._tidied = True
            intents.remove_leftovers(self._settings.storage_dir)
            remove_temporary(self._settings.backup_dir)
        self._see_to_foreign()
        if service_starts and self._settings.auto_restore_enabled and not self._inbox_seen:
            self._inbox_seen = True
            self._take_inbox()
        self._see_to_database()

    def _take_inbox(self) -> None:
        """Restore the newest good one. Where a full disk, say, is in the way, no older one takes its place.

        Nor does one where the newest is still being copied: the next start would restore that on top.
        """
        inbox = self._restorer.inbox
        candidates = inbox.candidates()
        for position, archive in enumerate(candidates):
            log.info("restoring %s", archive)
            try:
                intent = self._restorer.prepare(archive, secrets.token_hex(8), inbox=True)
            except ArchiveIncomplete as error:
                inbox.refuse(archive, error)
                return
            except ArchiveError as error:
                inbox.refuse(archive, error)
                continue
            except Cancelled:
                raise
            except (EventVaultError, OSError) as error:
                inbox.refuse(archive, _said(error))
                return
            self._apply_inbox(archive, candidates[position + 1 :], intent)
            return

    def _apply_inbox(self, archive: Path, others: list[Path], intent: Intent) -> None:
        try:
            self._restorer.inbox.mark_skipped(others, archive)
            intent = self._restorer.apply(intent)
        except (EventVaultError, OSError) as error:
            if intents.read_intent(self._settings.storage_dir) is not None:
                raise
            remove_durably(self._settings.storage_dir / Path(intent.staged).parts[0])
            self._restorer.inbox.unmark_skipped(others)
            self._restorer.inbox.refuse(archive, _said(error))
            return
        self._restorer.settle(intent)

    def _see_to_foreign(self) -> None:
        """Before anything takes its place: another program's database is archived and imported.

        One that cannot be read is left for what lies in `restore/` to replace, and else for `_see_to_database`.
        """
        with contextlib.suppress(DatabaseDamaged):
            self._take_over_or_mark()

    def _see_to_database(self) -> None:
        database = self._settings.database
        if database.is_dir() and not any(database.iterdir()):
            database.rmdir()
        if is_lost(database, self._recovery.what_is_left):
            self._replace_missing()
        else:
            self._take_over_or_mark()

    def _take_over_or_mark(self) -> None:
        """One that is damaged may be another program's: it stays as it is, and is taken over once repaired."""
        database = self._settings.database
        if not database.is_dir() or not any(database.iterdir()) or (database / data_folders.DATABASE_MARK).exists():
            return
        owner = database_origin(database)
        if owner == "foreign":
            self._take_over_foreign()
        elif owner == "ours":
            write_durably(database / data_folders.DATABASE_MARK, b"")

    def _replace_missing(self) -> None:
        """A rest of the database that is there still is kept, whatever takes its place."""
        database = self._settings.database
        check_free(database)
        left = self._recovery.what_is_left()
        if left and self._settings.auto_recover == "false":
            rest = " but for a rest without CURRENT" if database.exists() else ""
            raise DatabaseMissing(
                f"{database} is gone{rest}, and {self._settings.backup_dir} holds {left} of it",
                hint="stop the service and recover all that is there with flask --app wsgi backup recover, set "
                "AUTO_RECOVER=true, which does so at the start, or AUTO_RECOVER=empty to start anew, or restore an "
                "archive with POST /api/backup/restore",
            )
        if left and self._settings.auto_recover == "true":
            self._recovery.recover(left)
            return
        if database.exists():
            kept = database.with_name(name_of(None))
            rename_durably(database, kept)
            log.warning("what was left of %s is kept in %s", database, kept)
        create_database(database)
        log.info("a new registry was created in %s", database)

    def _take_over_foreign(self) -> None:
        """A Node.js database in place: archived as it is, imported aside, swapped; never written to.

        Raises DatabaseDamaged where it cannot be imported; then it stays where it is, and no archive of it is left.
        """
        database = self._settings.database
        log.warning("%s is a database of another program: it is archived and imported", database)
        staging = self._settings.storage_dir / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
        archive: Path | None = None
        try:
            take_checkpoint(database, staging, contextlib.nullcontext)
            sync_tree(staging)
            archive = self._archive_plainly(staging)
            self._restorer.verify(archive)
            intent = self._restorer.prepare_in_place(staging)
        except BaseException as error:
            if archive is not None:
                remove_durably(archive)
            if isinstance(error, ArchiveError):
                raise _not_taken_over(database, error) from error
            raise
        finally:
            remove_durably(staging)
        self._restorer.settle(self._restorer.apply(intent))
        log.info("the foreign database is kept in %s", archive.name)

    def _archive_plainly(self, copy: Path) -> Path:
        """A plain tar.gz of a foreign database, as any tar makes it."""
        for name in names.candidates(clock.now(), "found-in-place"):
            path = self._settings.backup_dir / name
            try:
                with durable_file(path, replace=False) as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
                    archive.add(copy, arcname=data_folders.DATABASE)
            except FileExistsError:
                continue
            return path
        raise AssertionError("the candidates of a name never end")


def remove_temporary(backup_dir: Path) -> None:
    """Remove what killed processes left half-written in BACKUP_DIR. Only the owner of the database may call this.

    An upload is written by another process, which may be at it: its file goes once nobody has written to it for long.
    """
    for file in backup_dir.glob(f".*{data_folders.TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            if not file.name.startswith(".upload.") or time.time() - file.stat().st_mtime > UPLOAD_SECONDS:
                file.unlink()


def _said(error: EventVaultError | OSError) -> EventVaultError:
    if isinstance(error, EventVaultError):
        return error
    return EventVaultError(str(error), hint="see to that disk and restart the service")


def _not_taken_over(database: Path, error: ArchiveError) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"{database} is a database of another program that cannot be imported: {error}",
        hint="it stays as it is; repair it with the program that wrote it and restart the service, or restore a good "
        "archive of it with POST /api/backup/restore",
    )
