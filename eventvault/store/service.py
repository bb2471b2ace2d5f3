"""The store itself: the interface, implemented in the one process that owns the database.

Initialisation order, as the guide has it: BackupManager.initialize() (folders, what lies in `restore/`, stale
locks) → EventBus.init() (opens LevelDB, shares the handle, starts the consumers) → the schedule.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eventvault.archive import reader
from eventvault.backups import uploads
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.create import BackupMaker
from eventvault.backups.entry import BackupEntry, Created
from eventvault.backups.installation import installation_of
from eventvault.backups.removal import ArchiveRemover
from eventvault.backups.schedule import AutoBackup, Scheduler
from eventvault.backups.scrub import ArchiveScrub
from eventvault.backups.verify import Verifier
from eventvault.chores import Chores
from eventvault.database.bus import EventBus
from eventvault.database.commit import Done
from eventvault.database.nonces import Nonces
from eventvault.database.paging import scan
from eventvault.database.registry import AppendBatch
from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.events.event import EventDraft
from eventvault.files import make_folder
from eventvault.journal.journal import Journal
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.past.copy_into_present import copy_events_to_present
from eventvault.past.pool import GenerationLease, PastDatabasePool
from eventvault.past.values import CopyResult, DiffPage, DiffQuery, PastView
from eventvault.past.views import Views
from eventvault.restore.moments.build import Moments
from eventvault.restore.moments.point_in_time import PointInTime
from eventvault.restore.moments.timeline import timeline
from eventvault.restore.start.forecast import will_start_slowly
from eventvault.restore.start.startup import Startup
from eventvault.restore.swap import undo
from eventvault.restore.swap.previous import PreviousDatabases
from eventvault.restore.swap.restorer import Restorer
from eventvault.restore.values import KeptEntry, Moment, Restored
from eventvault.settings import Settings
from eventvault.store import status
from eventvault.store.interface import GenerationHold
from eventvault.store.kafka_events import consumers_of
from eventvault.store.lifecycle import Lifecycle


class StoreService:
    """`eventvault.store.interface.Store` in the process that owns the database.

    service_starts: this store starts the service, so what lies in `restore/` is taken. on_started: called once that
    is done. scheduler: None in a store for the command line, which has with_kafka=False too.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        service_starts: bool = False,
        on_started: Callable[[], None] = lambda: None,
        scheduler: Scheduler | None = None,
        with_kafka: bool = True,
    ) -> None:
        self.settings = settings
        for folder in (settings.storage_dir, settings.backup_dir, settings.restore_dir):
            make_folder(folder)
        self.bus = EventBus(settings.database)
        self.chores = Chores()
        self.previous = PreviousDatabases(settings.storage_dir)
        self.past = PastDatabasePool(settings.storage_dir, self.previous)
        self.catalogue = Catalogue(settings.backup_dir, installation_of(settings), reader.read_manifest)
        self.journal = Journal(settings, self.bus, self.catalogue)
        self.restorer = Restorer(settings, self.bus, self.chores, self.previous)
        self.bus.before_swap = self.journal.flush_quickly
        self.moments = Moments(settings, self.bus, self.catalogue, self.journal.folder, self.chores)
        self.remover = ArchiveRemover(settings, self.bus, self.catalogue)
        self.backups = BackupMaker(
            settings, self.bus, self.catalogue, self.chores, self.remover, self._drop_previous_later
        )
        self.views = Views(self.bus, self.catalogue, self.chores, self.past, self.moments)
        self.verifier = Verifier(settings, self.catalogue, self.chores)
        self.scrub = ArchiveScrub(settings, self.catalogue, self.verifier.scrub, scheduler)
        self.schedule = AutoBackup(settings, self.backups, scheduler)
        self.kafka = KafkaMonitor(settings)
        self._nonces = Nonces()
        with_kafka = with_kafka and self.kafka.configured
        self._consumers = consumers_of(settings, self.bus, self._nonces, self.kafka) if with_kafka else []
        self.point_in_time = PointInTime(settings, self.bus, self.catalogue, self.moments, self.restorer)
        self._startup = Startup(settings, self.catalogue, self.restorer, self.journal.folder, self.moments)
        self._service_starts = service_starts
        self._on_started = on_started
        self.lifecycle = Lifecycle(
            self.bus,
            self.restorer.swapping,
            prepare=self._prepare,
            open_database=self._open_database,
            on_serving=self._on_serving,
            each_second=self._each_second,
        )

        self._parts = status.Parts(
            storage_dir=settings.storage_dir,
            state=lambda: self.state,
            bus=self.bus,
            catalogue=self.catalogue,
            backups=self.backups,
            schedule=self.schedule,
            verifier=self.verifier,
            scrub=self.scrub,
            journal=self.journal,
            restorer=self.restorer,
            kafka=self.kafka,
        )

    def initialize(self) -> None:
        """Bring the store to where it serves, or to where `status` says why it cannot; it goes on trying then."""
        self.lifecycle.start(will_start_slowly=self._may_take_long())

    @property
    def state(self) -> str:
        """`starting`, `restoring`, `serving`, `failed` or `stopping`."""
        return self.lifecycle.state

    def stop(self) -> None:
        """Cancel long operations, stop the consumers, commit what is queued. The handle stays for the end."""
        self.lifecycle.stop()
        self.schedule.stop()
        self.chores.cancel()
        self.bus.stop()
        self.journal.stop()

    def submit(self, drafts: Sequence[EventDraft], nonce: bytes, done: Done) -> None:
        """`append`, answered by `done` in the committer's thread."""
        refusal = self.lifecycle.refusal()
        if refusal is not None:
            done(refusal)
        else:
            self.bus.committer.submit(AppendBatch(drafts, nonce), done)

    def append(self, drafts: Sequence[EventDraft]) -> AppendResult:
        self.lifecycle.check()
        return self.bus.committer.append(AppendBatch(drafts, self._nonces.next()))

    def get(self, event_id: str, source: str | None = None, recorded_to: int | None = None) -> bytes:
        self.lifecycle.check()
        with self.bus.using() as registry:
            return registry.get(event_id, source, recorded_to)

    def scan(self, query: ScanQuery) -> Page:
        self.lifecycle.check()
        with self.bus.using() as registry:
            page = self.past.scan(registry.identity, query)
            return page if isinstance(page, Page) else scan(registry, page)

    def resolve_moment(self, moment: Moment) -> PastView:
        self.lifecycle.check()
        return self.views.resolve_moment(moment)

    def last_common(self, one: str, other: str) -> int | None:
        self.lifecycle.check()
        with self.bus.using() as registry:
            return registry.identity.last_common(one, other)

    def diff(self, query: DiffQuery) -> DiffPage:
        self.lifecycle.check()
        return self.views.diff(query)

    def copy_events_to_present(self, query: ScanQuery) -> CopyResult:
        return copy_events_to_present(query, self)

    def hold_generation(self, generation: str, holder: object = None) -> GenerationHold:
        """See the interface. Over a socket the holder is the connection, and its end releases."""
        holder = object() if holder is None else holder
        self.past.lease(generation, holder)
        return GenerationLease(self.past, holder)

    def release(self, holder: object) -> None:
        self.past.release(holder)

    def status(self) -> dict[str, Any]:
        return status.describe(self._parts)

    def create_backup(self, label: str | None = None) -> Created:
        self.lifecycle.check()
        return self.backups.create(label)

    def list_backups(self) -> list[BackupEntry]:
        return self.catalogue.entries()

    def backup_manifest(self, name: str) -> dict[str, Any]:
        return uploads.manifest_of(Path(self.catalogue.entry(name).path))

    def backup_path(self, name: str) -> str:
        return self.catalogue.entry(name).path

    def adopt_upload(self, temporary: str, name: str) -> BackupEntry:
        return uploads.adopt(self.settings, self.catalogue, self.chores, Path(temporary), name)

    def verify_backup(self, name: str) -> BackupEntry:
        return self.verifier.verify(name)

    def delete_backup(self, name: str, *, force: bool = False) -> None:
        self.remover.delete(name, force=force)

    def pin_backup(self, name: str, *, pinned: bool) -> BackupEntry:
        return self.catalogue.set_pinned(name, pinned=pinned)

    def restore(self, name: str, *, staged: bool = False, operation: str = "") -> Restored:
        def work() -> Restored:
            entry = self.catalogue.entry(name)
            proven = entry.sha256 if entry.records_verified else None
            return self.restorer.restore(Path(entry.path), staged=staged, operation=_named(operation), proven=proven)

        return self._restored(work)

    def restore_moment(self, moment: Moment, *, staged: bool = False, operation: str = "") -> Restored:
        return self._restored(lambda: self.point_in_time.restore(moment, staged=staged, operation=_named(operation)))

    def plan_restore(self, asked: Moment | str) -> dict[str, Any]:
        return self.point_in_time.plan(asked)

    def timeline(self) -> dict[str, Any]:
        return timeline(self.moments)

    def undo(self, name: str | None = None, *, operation: str = "") -> Restored:
        return self._restored(lambda: self.restorer.undo(name, operation=_named(operation)))

    def _restored(self, work: Callable[[], Restored]) -> Restored:
        self.lifecycle.check_started()
        restored = work()
        if not restored.staged:
            # Where the start itself had come to nothing: a store that takes over now must not restore once more.
            self._on_started()
            self.lifecycle.serve()
        return restored

    def accept_loss(self, partition: int) -> None:
        self.lifecycle.check()
        self.kafka.check_stopped(partition)
        for consumer in self._consumers:
            consumer.accept_loss(partition)

    def list_undo(self) -> list[KeptEntry]:
        return undo.entries(self.settings.storage_dir)

    def _may_take_long(self) -> bool:
        return will_start_slowly(
            self.settings, self.catalogue, self.journal.folder, service_starts=self._service_starts
        )

    def _prepare(self) -> None:
        self._startup.run(service_starts=self._service_starts)
        self._on_started()

    def _open_database(self) -> None:
        self.bus.init(self._consumers, self.journal.check)

    def _each_second(self) -> None:
        self.restorer.each_second()
        self.past.close_idle()
        self.previous.drop_unused()

    def _drop_previous_later(self) -> Callable[[], None]:
        """Once a backup is made, drop the previous databases of before its checkpoint, but the newest KEEP_UNDO.

        One that a restore replaced since then may hold what the backup does not.
        """
        names = self.previous.names()
        return lambda: self.previous.drop_beyond(self.settings.keep_undo, names)

    def _on_serving(self) -> None:
        self.journal.start()
        self.schedule.start()
        self.scrub.start()


def _named(operation: str) -> str:
    return operation or secrets.token_hex(8)
