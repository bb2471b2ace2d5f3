"""What a store does before it opens the database: finish what was decided, restore what lies in `restore/`,
take over a foreign database, and never mistake a lost database for a new one.
"""

from __future__ import annotations

import logging
import secrets
import tarfile
from pathlib import Path

from eventvault import clock
from eventvault.backups import names
from eventvault.backups.catalogue import Catalogue
from eventvault.errors import ArchiveError, Cancelled, DatabaseMissing, EventVaultError
from eventvault.files import durable_file, make_folder, remove_durably, sync_tree, write_durably
from eventvault.restore import intent as intents
from eventvault.restore.foreign_found import is_foreign
from eventvault.restore.hot import Restorer
from eventvault.restore.prepare import DATABASE_NAME
from eventvault.settings import Settings
from eventvault.store.past import copy_database
from eventvault.store.registry import MARK_NAME, create_database

log = logging.getLogger("BackupManager")


class Startup:
    """Makes STORAGE_DIR hold the database that is to be opened."""

    def __init__(self, settings: Settings, catalogue: Catalogue, restorer: Restorer) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._restorer = restorer
        self._tidied = False

    def run(self, *, service_starts: bool) -> None:
        """service_starts: this is a start of the service, not a take-over, and not the command line.

        Raises DatabaseMissing where an empty registry would hide that one was lost. May be run again until it does
        not raise; `restore/` is looked at the first time only.
        """
        for folder in (self._settings.storage_dir, self._settings.backup_dir, self._settings.restore_dir):
            make_folder(folder)
        if service_starts:
            intents.promote_staged(self._settings.storage_dir)
        self._restorer.finish_pending()
        if not self._tidied:
            self._tidied = True
            intents.remove_leftovers(self._settings.storage_dir)
            if service_starts and self._settings.auto_restore_enabled:
                self._take_inbox()
        self._see_to_database()

    def _take_inbox(self) -> None:
        candidates = self._restorer.inbox.candidates()
        for position, archive in enumerate(candidates):
            log.info("BackupManager: restoring %s", archive)
            try:
                intent = self._restorer.prepare(archive, secrets.token_hex(8), inbox=True)
            except Cancelled:
                raise
            except EventVaultError as error:
                self._restorer.inbox.refuse(archive, error)
                continue
            self._restorer.inbox.pass_over(candidates[position + 1 :], archive)
            self._restorer.apply(intent)
            self._restorer.settle(intent)
            return

    def _see_to_database(self) -> None:
        database = self._settings.database
        if database.is_dir() and not any(database.iterdir()):
            database.rmdir()
        if not database.exists():
            self._replace_missing()
        elif not (database / MARK_NAME).exists():
            if is_foreign(database):
                self._take_over_foreign()
            else:
                write_durably(database / MARK_NAME, b"")

    def _replace_missing(self) -> None:
        ours = [entry for entry in self._catalogue.entries() if entry.origin == "created"]
        if ours and self._settings.auto_recover == "false":
            raise DatabaseMissing(
                f"{self._settings.database} is gone, and {self._settings.backup_dir} holds {len(ours)} archives of it",
                hint="set AUTO_RECOVER=true to restore the newest good one, AUTO_RECOVER=empty to start anew, or "
                "restore one with POST /api/backup/restore",
            )
        if ours and self._settings.auto_recover == "true":
            self._recover([Path(entry.path) for entry in ours])
            return
        create_database(self._settings.database)
        log.info("BackupManager: a new registry was created in %s", self._settings.database)

    def _recover(self, archives: list[Path]) -> None:
        """Restore the newest that is whole. Raises DatabaseMissing where none is."""
        reasons = []
        for archive in archives:
            log.warning("BackupManager: %s is gone, recovering it from %s", self._settings.database, archive.name)
            try:
                intent = self._restorer.prepare(archive, secrets.token_hex(8))
            except ArchiveError as error:
                reasons.append(str(error))
                continue
            self._restorer.apply(intent)
            self._restorer.settle(intent)
            return
        raise DatabaseMissing(
            f"{self._settings.database} is gone, and no archive could be restored: {'; '.join(reasons)}",
            hint="put a good archive into the restore folder and restart, or set AUTO_RECOVER=empty to start anew",
        )

    def _take_over_foreign(self) -> None:
        """A Node.js database in place: archived as it is, imported aside, swapped; never written to."""
        database = self._settings.database
        log.warning("BackupManager: %s is a database of another program: it is archived and imported", database)
        staging = self._settings.storage_dir / f"{intents.STAGING_PREFIX}{secrets.token_hex(4)}"
        staging.mkdir()
        try:
            copy = staging / "foreign"
            copy_database(database, copy)
            sync_tree(copy)
            name = self._archive_plainly(copy)
            intent = self._restorer.prepare_in_place(copy)
        finally:
            remove_durably(staging)
        self._restorer.apply(intent)
        self._restorer.settle(intent)
        log.info("BackupManager: the foreign database is kept in %s", name)

    def _archive_plainly(self, copy: Path) -> str:
        """A plain tar.gz of a foreign database, as any tar makes it."""
        for name in names.candidates(clock.now(), "found-in-place"):
            path = self._settings.backup_dir / name
            try:
                with durable_file(path, replace=False) as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
                    archive.add(copy, arcname=DATABASE_NAME)
            except FileExistsError:
                continue
            return name
        raise AssertionError("the candidates of a name never end")
