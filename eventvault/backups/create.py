"""Making a backup: checkpoint → write → read back → check → name → catalogue → rotate.

`BackupMaker._create` has the steps in their order; a chore does those from write to name (`eventvault.backups.chores`).
*rotate* removes the archives that no rule of retention keeps, and previous databases beyond KEEP_UNDO. If many tables
are new, *check* and *rotate* come after *catalogue*, in another thread: `BackupMaker._check_and_rotate`.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from eventvault import clock, data_folders
from eventvault.archive.manifest import Manifest
from eventvault.backups import table_digests
from eventvault.backups.archiver import ARCHIVE, Archiver
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry, Created, Trigger
from eventvault.backups.installation import ensure_installation
from eventvault.backups.late_check import LateCheck, UncheckedBackup
from eventvault.backups.outcomes import Outcomes
from eventvault.backups.removal import ArchiveRemover
from eventvault.backups.request_queue import BackupRequest, RequestQueue
from eventvault.backups.written import WrittenBackup
from eventvault.chores import Chores
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.database import keys
from eventvault.database.bus import EventBus
from eventvault.database.checkpoint import Checkpoint, take_checkpoint
from eventvault.database.registry import EventRegistry
from eventvault.errors import (
    ArchiveError,
    BackupNotFound,
    Cancelled,
    DatabaseDamaged,
    EventVaultError,
    OperationCancelled,
)
from eventvault.files import remove_durably, removing_on_failure
from eventvault.kafka import offsets
from eventvault.operations.caller import SCHEDULE
from eventvault.operations.operation import Operation, current
from eventvault.operations.registry import OperationRegistry
from eventvault.progress import WAIT_SECONDS
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


class Previous(Protocol):
    """The previous databases, as far as a backup needs them (`eventvault.restore.swap.previous`)."""

    def names(self) -> list[str]: ...

    def drop_beyond(self, most: int, names: Iterable[str]) -> None:
        """Remove those of `names` that are not among the newest `most`."""


class BackupMaker:
    """Makes backups of the database of `bus` into BACKUP_DIR.

    outcomes: has the listeners to every backup, whoever requested it.
    """

    def __init__(
        self,
        settings: Settings,
        bus: EventBus,
        catalogue: Catalogue,
        chores: Chores,
        remover: ArchiveRemover,
        previous: Previous,
        operations: OperationRegistry | None = None,
    ) -> None:
        self.counts = {"created": 0, "failed": 0, "skipped": 0, "rotated": 0}
        self.last_made: float | None = None
        """When this process made its newest backup, in monotonic seconds."""
        self.outcomes = Outcomes()
        self.requests = RequestQueue()
        self.late_check = LateCheck(catalogue, chores)
        self._settings = settings
        self._bus = bus
        self._catalogue = catalogue
        self._chores = chores
        self.archiver = Archiver(settings, catalogue, chores)
        self._remover = remover
        self._previous = previous
        self._operations = operations or OperationRegistry(None)
        self._problem = _saved_problem(settings.storage_dir)
        """The id of a generation, and what its newest backup found."""

    def create(
        self, label: str | None = None, operation: Operation | None = None, *, trigger: Trigger = "request"
    ) -> Created:
        """Back up now. Raises NoSpace, BackupsUnavailable, or why the database is not open; then no backup is made.

        operation: notes the archive's name (ARCHIVE) before an archive of that name can appear.

        A request that comes during a backup waits for its turn. It shares the backup of a waiting request with the
        same label: the checkpoint comes later, so it holds everything that was acknowledged before the request.
        """
        return self.requests.run(label, operation or Operation(), partial(self._create, trigger))

    def made_before(self, notes: Mapping[str, Any]) -> Created | None:
        """Return the backup of an earlier attempt; None if it came to no archive, or to a damaged one.

        notes: of the operation.
        """
        with suppress(ArchiveError, BackupNotFound):
            return self.finish_interrupted(notes[ARCHIVE]) if ARCHIVE in notes else None
        return None

    def finish_interrupted(self, name: str) -> Created:
        """Enter the archive `name` of a store that was killed before it could answer. Raises an ArchiveError."""
        self.late_check.wait(WAIT_SECONDS)
        entry = self._catalogue.entry(name)
        if entry.verified is None:  # its tables may not be checked either
            scratch = str(self._settings.storage_dir)
            proof = msgspec.to_builtins(self._catalogue.proof())
            checked = self._chores.run(
                "check_archive", archive=entry.path, scratch=scratch, depth="records", proof=proof
            )
            entry = self._catalogue.record_created(
                name, digest=checked["digest"], sha256=checked["sha256"], verified=clock.now(), checked="records"
            )
        self._rotate(name, previous=())
        named = Path(entry.path).stat().st_mtime_ns // 1000
        return Created(entry, max(0, named - entry.created) // 1000)

    def create_if_changed(self, on_begin: Callable[[], None] = lambda: None) -> Created | None:
        """Back up for the schedule. Returns None, and logs it, if nothing changed since a good backup.

        on_begin: called if something changed. A BACKUP_DIR that was deleted is made again before it is read.
        """
        ensure_installation(self._settings, self._catalogue.installation)
        with self._bus.using() as registry:
            generation, last = registry.identity.generation, registry.last_sequence
        same = next((e.name for e in self._good() if (e.generation, e.sequence) == (generation, last)), None)
        if last == 0 or same is not None:
            self.counts["skipped"] += 1
            self.outcomes.succeeded()
            log.info("no backup was made, as nothing changed since %s",
                     same or "the registry was created")  # fmt: skip
            return None
        on_begin()
        with self._operations.internal("create", "create_backup", SCHEDULE, deed="create") as operation:
            operation.result = created = self.create(operation=operation, trigger="schedule")
            operation.outcome["backup"] = created.backup.name
        return created

    @property
    def problem(self) -> EventVaultError | None:
        """The damage that the newest backup found in the open database, or why its tables could not be checked."""
        registry = self._bus.registry
        if self._problem is None or registry is None or self._problem[0] != registry.identity.generation:
            return None
        return self._problem[1]

    def check_removal(self) -> None:
        """Raise the known damage of the database: then only older archives may be good, and none may be removed.

        The tables of a new archive are checked before that, if they are being checked.
        """
        self.late_check.wait(WAIT_SECONDS)
        for error in (self._bus.problem, self.problem):
            if isinstance(error, DatabaseDamaged):
                raise error

    def newest_good(self) -> BackupEntry | None:
        return next(iter(self._good()), None)

    def _good(self) -> list[BackupEntry]:
        """Return the archives made here without a known problem, newest first."""
        return [e for e in self._catalogue.entries() if e.origin == "created" and e.problem is None]

    def _create(self, trigger: Trigger, request: BackupRequest) -> Created:
        """Make one backup: the whole route, unless many tables are new (`_check_and_rotate`)."""
        with self._counting():
            self.late_check.wait(WAIT_SECONDS)
            started = time.monotonic()
            request.operation.step("checkpoint")
            staging = self._settings.storage_dir / f"{data_folders.CHECKPOINT_PREFIX}{secrets.token_hex(4)}"
            with removing_on_failure(staging):
                checkpoint, previous = self._take_checkpoint(request, staging)
                path, written = self.archiver.write(checkpoint, request.operation)  # write → read back → check → name
                duration = round((time.monotonic() - started) * 1000)
                entry = self._add_to_catalogue(path, written, trigger, duration)
                log.info("%s holds %s events, %s bytes, made in %s ms", entry.name, entry.events, entry.size,
                         duration)  # fmt: skip
            if written.unchecked:
                backup = UncheckedBackup(entry.name, checkpoint, written, previous)
                self.late_check.start(self._check_and_rotate, backup)
            else:
                remove_durably(staging)
                self._note_success()
                self._rotate(entry.name, previous)
        return Created(entry, duration)

    def _check_and_rotate(self, backup: UncheckedBackup) -> None:
        """End a backup after its request was answered, in a thread of its own: check → note → rotate."""
        about = backup.checkpoint.context
        try:
            self.late_check.check(backup)
        except (Cancelled, BackupNotFound):
            return
        except EventVaultError as error:
            self.counts["failed"] += 1
            self.outcomes.failed(error)
            self._note_problem(error, about.store_id, about.generation.id)
        else:
            table_digests.save_checked(self._settings.storage_dir, about.generation.id, backup.written.unchecked)
            self._note_success()
            self._rotate(backup.name, backup.previous)
        finally:
            remove_durably(backup.checkpoint.folder)

    def _take_checkpoint(self, request: BackupRequest, staging: Path) -> tuple[Checkpoint[Manifest], list[str]]:
        """Copy the live database, with the manifest of the copy. Returns the names of the previous databases, too.

        *rotate* removes only these: a database that a later restore replaces may hold events that the backup does not.
        """
        created = clock.now()

        @contextmanager
        def pause_writes() -> Iterator[Manifest]:
            # No further request shares this backup: it may follow an event that the checkpoint lacks.
            self.requests.close(request)
            with self._writes_paused() as registry:
                yield self._manifest(registry, request.label, created)

        ensure_installation(self._settings, self._catalogue.installation)
        with self._bus.swap_lock.held():
            previous = self._previous.names()
            return take_checkpoint(self._settings.database, staging, pause_writes), previous

    @contextmanager
    def _writes_paused(self) -> Iterator[EventRegistry]:
        # The database is used only while writes are paused. A swap, and the committer after a failed write, hold the
        # committer's lock and wait for the database's users: a user must never wait for that lock.
        with self._bus.committer.paused(), self._bus.using() as registry:
            self._bus.check_writable()  # after a failed write, the log may hold what nobody acknowledged
            yield registry

    def _manifest(self, registry: EventRegistry, label: str | None, created: int) -> Manifest:
        """Describe the registry as it is now. The archive's name and its files are added later."""
        # No event is read here: if its block is damaged, the check of the tables shall find that, and name the table.
        first, identity, last = registry.first_recorded, registry.identity, registry.last_sequence
        if first is None and last:
            registry.at(1)  # raises DatabaseDamaged, as it was missing when the database was opened
        kafka = registry.scan_meta(keys.KAFKA)
        return Manifest(
            store_id=identity.store_id,
            installation=self._catalogue.installation,
            generation=identity.present,
            generations=list(identity.generations),
            first_sequence=1 if last else None,
            last_sequence=last,
            first_time=None if first is None else clock.format_microseconds(first),
            last_time=clock.format_microseconds(registry.last_recorded) if last else None,
            events=last,
            kafka=offsets.describe(kafka),
            kafka_topics=offsets.topic_ids(kafka),
            label=label,
            compression=self._settings.archive_compression,
            name="",
            created=clock.format_milliseconds(created),
        )

    def _add_to_catalogue(self, path: Path, written: WrittenBackup, trigger: Trigger, duration: int) -> BackupEntry:
        # The caller gets an error, so there must be no backup.
        with removing_on_failure(path):
            current().decided()
            return self._catalogue.record_created(
                path.name, digest=written.digest, verified=written.verified, trigger=trigger, duration=duration
            )

    def _rotate(self, name: str, previous: Iterable[str]) -> None:
        """Remove what the new backup `name` makes unnecessary. A failure here does not make the backup fail.

        Nothing is removed while the database or the newest backup has a problem: only older archives may be good.
        """
        problem = self._bus.problem or self.problem
        if problem is not None:
            log.warning("no old archive was removed, as %s", problem)
            return
        try:
            self.counts["rotated"] += len(self._remover.rotate(name))
            self._previous.drop_beyond(self._settings.keep_undo, previous)
        except (EventVaultError, OSError) as error:
            log.warning("old archives could not be removed: %s", error)

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count the backup that the context makes as created or failed, and note why it failed.

        A backup that a request cancelled counts as neither.
        """
        try:
            yield
        except OperationCancelled:
            raise
        except BaseException as error:
            self.counts["failed"] += 1
            if isinstance(error, (EventVaultError, *SYSTEM_ERRORS)) and not isinstance(error, Cancelled):
                self.outcomes.failed(error if isinstance(error, EventVaultError) else as_answer("the backup", error))
            registry = self._bus.registry
            if isinstance(error, DatabaseDamaged) and registry is not None and error is not self._bus.problem:
                self._note_problem(error, registry.identity.store_id, registry.identity.generation)
            raise
        self.counts["created"] += 1

    def _note_success(self) -> None:
        self.last_made = time.monotonic()
        self._problem = None
        self.outcomes.succeeded()

    def _note_problem(self, error: EventVaultError, store_id: str, generation: str) -> None:
        """Have health show the problem until a backup succeeds or another database is restored."""
        log.error("the backup failed: %s", error)
        self._problem = (generation, error)
        if isinstance(error, DatabaseDamaged):
            damage = table_digests.Damage(error.message, error.hint)
            table_digests.save_damage(self._settings.storage_dir, store_id, generation, damage)


def _saved_problem(storage_dir: Path) -> tuple[str, EventVaultError] | None:
    """Return the damage that a backup of an earlier store found."""
    saved = table_digests.load_damage(storage_dir)
    return saved and (saved[0], DatabaseDamaged(saved[1].message, hint=saved[1].hint))
