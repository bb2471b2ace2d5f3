"""Prepares STORAGE_DIR before the database opens: finishes a restore, restores an archive in `restore/`, imports.

It recovers a lost database, or refuses to hide the loss behind an empty registry.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import tarfile
from collections.abc import Iterator
from pathlib import Path

from eventvault import clock, data_folders
from eventvault.audit.deeds import Deed
from eventvault.backups import names
from eventvault.backups.installation_folder import check_folder, has_lost_backups, is_changed
from eventvault.backups.storage_mount import check_mounted
from eventvault.damage import as_answer
from eventvault.database import cut_off
from eventvault.database.checkpoint import take_checkpoint
from eventvault.database.opening import check_free, check_syncs_folders
from eventvault.database.registry import create_database
from eventvault.errors import (
    ArchiveError,
    ArchiveIncomplete,
    ArchiveUnreadable,
    Cancelled,
    DatabaseDamaged,
    DatabaseMissing,
    EventVaultError,
)
from eventvault.files import durable_file, make_folder, remove_durably, sync_tree, write_durably
from eventvault.leveldb.dialect import OtherDialect
from eventvault.operations.caller import START
from eventvault.operations.operation import Operation, current
from eventvault.operations.registry import OperationRegistry
from eventvault.restore.builder import ArchiveSource, ForeignCopy
from eventvault.restore.restorer import Restorer
from eventvault.restore.start.leftovers import Leftovers
from eventvault.restore.start.lost import is_lost
from eventvault.restore.start.recover import Recoverer
from eventvault.restore.swap import carry_over, in_place
from eventvault.restore.swap import intent as intents
from eventvault.restore.swap.intent import Intent
from eventvault.restore.swap.previous import folder_name
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


class Startup:
    """Ensures that STORAGE_DIR holds the database to open. Create it before the store serves."""

    def __init__(
        self,
        settings: Settings,
        restorer: Restorer,
        recoverer: Recoverer,
        operations: OperationRegistry,
        started_by: str = START,
    ) -> None:
        self._settings = settings
        self._operations = operations
        self._started_by = started_by
        self._operation_ids = {name: secrets.token_hex(8) for name in ("import", "recover")}
        """A start that fails is tried again every second; all its tries are one operation."""
        self._recoverer = recoverer
        self._restorer = restorer
        self._drop_folder = restorer.finisher.drop_folder
        self._leftovers = Leftovers(settings.storage_dir, settings.backup_dir)
        self._cleaned = False
        self._promoted = False
        self._applied: Deed | None = None
        """The restore that was staged for this start, until it is applied."""
        self._drop_folder_done = False

    def run(self, *, service_starts: bool) -> None:
        """Prepare STORAGE_DIR. May be repeated until it does not raise.

        service_starts: this is a start of the service, neither a take-over nor the command line. Only its first run
        restores what is staged or in `restore/`. Raises DatabaseMissing if an empty registry would hide a loss,
        and DatabaseError if no database can be opened in STORAGE_DIR.
        """
        with contextlib.suppress(EventVaultError):  # health and each backup say so
            check_folder(self._settings)
        for folder in (self._settings.storage_dir, self._settings.backup_dir, self._settings.restore_dir):
            make_folder(folder)
        check_mounted(self._settings)
        check_syncs_folders(self._settings.storage_dir)
        self._finish_pending()
        if service_starts and not self._promoted:
            self._promote_staged()
            self._finish_pending()
        if not self._cleaned:
            self._cleaned = True
            self._leftovers.remove_from_storage()
            for name in (data_folders.CUT_OFF, data_folders.JOBS_CUT_OFF, data_folders.DAMAGED_TABLES):
                cut_off.remove_expired(self._settings.storage_dir / name)
            if not is_changed(self._settings):
                self._leftovers.remove_from_backups()
        self._import_foreign_early()
        if service_starts and self._settings.auto_restore_enabled and not self._drop_folder_done:
            self._drop_folder_done = True
            self._restore_from_drop_folder()
        self._ensure_database()

    def _promote_staged(self) -> None:
        staged = carry_over.promote_staged(self._settings.storage_dir)
        self._promoted = True
        if staged is not None:
            self._applied = self._operations.deeds.begin(
                "restore",
                self._started_by,
                staged.restored.source,
                operation=staged.operation,
                details={"staged": True},
            )

    def _finish_pending(self) -> None:
        self._restorer.finisher.finish_pending()
        applied, self._applied = self._applied, None
        if applied is not None:
            applied.end()

    def _restore_from_drop_folder(self) -> None:
        """Restore the newest good archive in `restore/`.

        If the newest cannot be read, or is still being copied, or the disk is full, no older one is restored in its
        place: the next start would restore the newest on top.
        """
        candidates = self._drop_folder.candidates()
        builder = self._restorer.builder
        for position, archive in enumerate(candidates):
            log.info("restoring %s", archive)
            try:
                with self._as_operation("startup", "restore", archive.name) as operation:
                    head = builder.read_head()
                    intent = builder.build(ArchiveSource(archive), head, operation.id, drop_file=archive)
                    operation.result = {"backupName": archive.name, "events": intent.restored.events}
                    operation.outcome["events"] = intent.restored.events
            except (ArchiveIncomplete, ArchiveUnreadable) as error:
                self._drop_folder.refuse(archive, error)
                return
            except ArchiveError as error:
                self._drop_folder.refuse(archive, error)
                continue
            except Cancelled:
                raise
            except (EventVaultError, OSError) as error:
                self._drop_folder.refuse(archive, _as_error(error))
                return
            self._swap_in(archive, candidates[position + 1 :], intent)
            return

    @contextlib.contextmanager
    def _as_operation(self, kind: str, deed: str = "", about: str = "") -> Iterator[Operation]:
        """List the work of this context as an operation. It cannot be cancelled: the start needs it."""
        operation_id = self._operation_ids.get(kind)
        with self._operations.internal(
            kind, kind, self._started_by, operation_id, deed=deed or kind, about=about
        ) as operation:
            operation.decided()
            yield operation

    def _swap_in(self, archive: Path, others: list[Path], intent: Intent) -> None:
        try:
            self._drop_folder.mark_skipped(others, archive)
            intent = carry_over.carry_unpublished_at_start(self._settings.storage_dir, self._settings.database, intent)
            intent = self._restorer.swapper.swap_closed(intent)
        except (EventVaultError, OSError) as error:
            if intents.read_intent(self._settings.storage_dir) is not None:
                raise
            remove_durably(self._settings.storage_dir / Path(intent.new_database).parts[0])
            self._drop_folder.unmark_skipped(others)
            self._drop_folder.refuse(archive, _as_error(error))
            return
        self._restorer.finisher.finish(intent)

    def _import_foreign_early(self) -> None:
        """Archive and import another program's database before anything replaces it.

        An unreadable one waits: an archive in `restore/` may replace it, else `_ensure_database` raises.
        """
        with contextlib.suppress(DatabaseDamaged):
            self._import_or_mark()

    def _ensure_database(self) -> None:
        database = self._settings.database
        in_place.check_link(database)
        if database.is_dir() and not any(database.iterdir()):
            with contextlib.suppress(OSError):  # a link or a mount point stays and is filled
                database.rmdir()
        if is_lost(database, self._recoverer.find_sources):
            self._replace_missing()
        else:
            self._import_or_mark()

    def _import_or_mark(self) -> None:
        """Import a foreign database; mark ours if it has no mark. A database of unknown origin stays as it is."""
        database = self._settings.database
        if not in_place.has_files(database) or (database / data_folders.DATABASE_MARK).exists():
            return
        owner = self._restorer.builder.find_origin(database)
        if owner == "foreign":
            with self._as_operation("import"):
                self._import_foreign()
        elif owner == "ours":
            write_durably(database / data_folders.DATABASE_MARK, b"")

    def _replace_missing(self) -> None:
        """Recover the database or create one; the remains of the lost one are renamed, never removed."""
        database = self._settings.database
        check_free(database)
        sources = self._recoverer.find_sources()
        if not sources and self._settings.auto_recover != "empty" and has_lost_backups(self._settings):
            raise DatabaseMissing(
                f"{database} is gone, and {self._settings.backup_dir} is not the folder with its backups",
                hint="mount the disk of BACKUP_DIR, or correct BACKUP_DIR; or set AUTO_RECOVER=empty to start anew",
            )
        if sources and self._settings.auto_recover == "false":
            rest = " but for a rest without CURRENT" if database.exists() else ""
            raise DatabaseMissing(
                f"{database} is gone{rest}, and {self._settings.backup_dir} holds {sources} of it",
                hint="stop the service and recover everything with flask backup recover, set "
                "AUTO_RECOVER=true, which does so at the start, or AUTO_RECOVER=empty to start anew, or restore an "
                "archive with POST /api/backup/restore",
            )
        if sources and self._settings.auto_recover == "true":
            with self._as_operation("recover"):
                self._recoverer.recover(sources)
            return
        if in_place.has_files(database):
            previous = database.with_name(folder_name(None))
            if not in_place.rename_away(database, previous):
                in_place.copy_files(database, previous)
            log.warning("the remaining files of %s are in %s now", database, previous)
        self._create(database)
        log.info("a new registry was created in %s", database)

    def _create(self, database: Path) -> None:
        """Create an empty registry. The folder may exist: one that cannot be renamed."""
        identity = self._recoverer.fresh_identity()
        if not database.exists():
            create_database(database, identity)
            return
        staging = self._settings.storage_dir / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
        create_database(staging / data_folders.DATABASE, identity)
        in_place.replace_files(staging / data_folders.DATABASE, database)
        remove_durably(staging)

    def _import_foreign(self) -> None:
        """Archive a foreign database, import a copy of it, and swap the result in; the original is never written to.

        Raises DatabaseDamaged if it cannot be imported; then it stays where it is, and its archive is removed.
        """
        database = self._settings.database
        log.warning("%s is a database of another program: it is archived and imported", database)
        staging = self._settings.storage_dir / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
        archive: Path | None = None
        try:
            take_checkpoint(database, staging, contextlib.nullcontext)
            sync_tree(staging)
            current().step("archive")
            archive = self._archive_foreign(staging)
            self._restorer.builder.verify(archive)
            intent = self._restorer.builder.build(ForeignCopy(staging), None, secrets.token_hex(8))
        except BaseException as error:
            if archive is not None:
                remove_durably(archive)
            if isinstance(error, ArchiveError | OtherDialect):
                raise _not_imported(database, error) from error
            raise
        finally:
            remove_durably(staging)
        self._restorer.swap_closed(intent)
        log.info("%s holds the foreign database", archive.name)

    def _archive_foreign(self, copy: Path) -> Path:
        """Make a plain tar.gz of a foreign database, as `tar czf` would."""
        check_folder(self._settings)
        for name in names.candidates(clock.now(), "found-in-place"):
            path = self._settings.backup_dir / name
            try:
                with durable_file(path, replace=False) as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
                    archive.add(copy, arcname=data_folders.DATABASE)
            except FileExistsError:
                continue
            return path
        raise AssertionError("the candidates of a name never end")


def _as_error(error: EventVaultError | OSError) -> EventVaultError:
    return error if isinstance(error, EventVaultError) else as_answer("restoring it", error)


def _not_imported(database: Path, error: EventVaultError) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"{database} is a database of another program that cannot be imported: {error}",
        hint="it stays as it is; repair it with the program that wrote it and restart the service, or restore a good "
        "archive of it with POST /api/backup/restore",
    )
