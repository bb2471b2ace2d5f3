"""The store itself, put together in the one process that owns the database.

Order of a start, as in the guide: BackupManager.initialize() (folders, archives in `restore/`, stale locks) →
EventBus.init() (opens LevelDB, shares the handle, starts the consumers) → the schedule.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from eventvault import data_folders, record_size
from eventvault.audit.deeds import Deeds
from eventvault.backups.archive_totals import TotalsKeeper
from eventvault.backups.archiver import ARCHIVE
from eventvault.backups.audited import audit_of
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.create import BackupMaker
from eventvault.backups.heads import ArchiveHeads
from eventvault.backups.installation import installation_of
from eventvault.backups.installation_folder import FolderSource, check_folder, is_changed
from eventvault.backups.installation_key import has_foreign_backups, present_key
from eventvault.backups.removal import ArchiveRemover
from eventvault.backups.schedule import AutoBackup, Scheduler
from eventvault.backups.scrub import ArchiveScrub
from eventvault.backups.storage_mount import note_mount
from eventvault.backups.trust import TrustList
from eventvault.backups.uploads import AbandonedUploads
from eventvault.backups.verify import Verifier
from eventvault.chores import Chores
from eventvault.clock_guard import ClockGuard
from eventvault.damage import SYSTEM_ERRORS
from eventvault.database.bus import EventBus
from eventvault.database.clock_watch import ClockWatch
from eventvault.database.nonces import Nonces
from eventvault.database.registry import EventRegistry
from eventvault.database.values import Head
from eventvault.database.view import DatabaseView
from eventvault.errors import DatabaseDamaged, EventVaultError, TooBusy
from eventvault.file_modes import mend_modes
from eventvault.files import make_folder
from eventvault.jobs.port import Jobs
from eventvault.journal.journal import Journal
from eventvault.kafka.broker_bounds import BrokerBounds, Brokers
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.kafka.publish.monitor import PublishMonitor
from eventvault.notifications.service import NotificationService
from eventvault.operations.caller import SHELL, START
from eventvault.operations.records import OperationRecord
from eventvault.operations.registry import OperationRegistry
from eventvault.past.exports import Exports
from eventvault.past.pool import PastDatabasePool
from eventvault.past.views import Views
from eventvault.problems import OpenProblems
from eventvault.rehearsals import scratch
from eventvault.rehearsals.recorded import RecordedRehearsals
from eventvault.rehearsals.rehearse import Rehearser
from eventvault.rehearsals.schedule import RehearsalSchedule
from eventvault.rehearsals.sources import BackupSources
from eventvault.restore.moments.build import MomentBuilder
from eventvault.restore.moments.locate import MomentLocator
from eventvault.restore.moments.preview import RestorePreview
from eventvault.restore.moments.removal_effect import RemovalEffect
from eventvault.restore.moments.timeline import Timeline
from eventvault.restore.restorer import Restorer
from eventvault.restore.start.forecast import will_start_slowly
from eventvault.restore.start.forget import forget_generations
from eventvault.restore.start.head_check import HeadCheck
from eventvault.restore.start.recorded import RecordedHistory
from eventvault.restore.start.recover import Recoverer
from eventvault.restore.start.startup import Startup
from eventvault.restore.swap.previous import PreviousDatabases, list_previous
from eventvault.restore.table_repair import TableRepair
from eventvault.settings import Settings
from eventvault.store.audited import AuditOfStore
from eventvault.store.composed import ComposedStore
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.owners.audit import AuditOwner
from eventvault.store.owners.backups import BackupsOwner
from eventvault.store.owners.event_log import EventLogOwner
from eventvault.store.owners.health import SHARED_SECONDS, HealthOwner
from eventvault.store.owners.kafka_control import KafkaControlOwner, consumers_of, publisher_of, quarantine_of
from eventvault.store.owners.notifications import NotificationsOwner
from eventvault.store.owners.operations import OperationsOwner
from eventvault.store.owners.past_reader import PastReaderOwner
from eventvault.store.owners.problems import ProblemsOwner
from eventvault.store.owners.rehearsals import RehearsalsOwner
from eventvault.store.owners.restores import RestoresOwner
from eventvault.store.queue_watch import QueueWatch

log = logging.getLogger("BackupManager")

STOP_SECONDS = 5.0
"""How long a stop waits for a part that makes no step."""
REMEDY_FLUSH_SECONDS = 5.0
"""How long the journal writes missing events before a restore from it is named as a remedy."""


class StoreService(ComposedStore):
    """`eventvault.store.ports.store.Store` in the process that owns the database.

    service_starts: this store is the first of a start of the service, so it restores what lies in `restore/`.
    on_started: called once that is done, before the first append. scheduler: None in a store for the command line,
    which has no Kafka either. jobs: the port to the dispatcher of jobs; None without one. jobs_failure: returns why no
    dispatcher could be started. health_shared: for how many seconds all callers share one answer of health. service:
    the start of the service that this store belongs to.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        service_starts: bool = False,
        on_started: Callable[[], None] = lambda: None,
        scheduler: Scheduler | None = None,
        with_kafka: bool = True,
        clock_guard: ClockGuard | None = None,
        jobs: Jobs | None = None,
        jobs_failure: Callable[[], str] = str,
        health_shared: float = SHARED_SECONDS,
        service: str = "",
    ) -> None:
        self.settings = settings
        with contextlib.suppress(EventVaultError):  # health and each backup say so
            check_folder(settings)
        for folder in (settings.storage_dir, settings.backup_dir, settings.restore_dir):
            make_folder(folder)
        self.open_problems = OpenProblems(settings.storage_dir)
        self.clock_guard = clock_guard or ClockGuard(settings.storage_dir)
        self.bus = EventBus(
            settings.database,
            retain_in=settings.storage_dir / data_folders.CUT_OFF,
            view=DatabaseView(settings.database),
            now=self.clock_guard.now,
            publishes=settings.kafka_publish_topic is not None,
        )
        self.clock_watch = ClockWatch(self.clock_guard, self.bus)
        record_size.use(settings.max_body_bytes)
        self.chores = Chores()
        registry = self._registry = OperationRegistry(settings.storage_dir, service=service)
        self.audit = audit_of(settings)
        registry.deeds = Deeds(self.audit.write)
        self._audited = AuditOfStore(
            settings, self.audit, registry, service_starts=service_starts, is_service=scheduler is not None
        )
        self.previous = PreviousDatabases(settings.storage_dir)
        self.past = PastDatabasePool(settings.storage_dir, self.previous)
        self.catalogue = Catalogue(
            settings.backup_dir,
            installation_of(settings),
            key=lambda: present_key(settings),
            trust=TrustList(settings).trust,
            generations=self.bus.generations,
            check_folder=lambda: check_folder(settings),
        )
        self.totals = TotalsKeeper(self.catalogue, lambda: self.remover.entries(), mark=self.catalogue.mark)
        heads = ArchiveHeads(settings.backup_dir, self.catalogue)
        self.journal = Journal(settings, self.bus, self.catalogue, heads.entries)
        history = RecordedHistory(settings.backup_dir, self.catalogue, heads, self.journal.folder)
        self.head_check = HeadCheck(settings.storage_dir, history, self.chores, self.open_problems)
        self.bus.check = self._check_opened
        self._history = history
        self.table_repair = TableRepair(settings, self.bus, self.catalogue, self._remedy)
        self.bus.on_damage_read = self.table_repair.start_naming_remedy
        self.bus.on_writes_stopped, self.bus.repair = self.table_repair.start, self.table_repair.repair_closed
        self.bus.before_swap = self.journal.flush_quickly
        self.locator = MomentLocator(self.bus, self.catalogue, self.journal.folder)
        self._timeline = Timeline(self.locator, self.totals, lambda: list_previous(settings.storage_dir), health_shared)
        self.moments = MomentBuilder(settings, self.bus, self.locator, self.journal.folder, self.chores)
        self.preview = RestorePreview(settings, self.bus, self.catalogue, self.locator, self.moments)
        self.restorer = Restorer(settings, self.bus, self.chores, self.previous, self.moments)
        self.abandoned_uploads = AbandonedUploads(settings.backup_dir, self.catalogue.check_folder)
        self.remover = ArchiveRemover(
            settings,
            self.bus,
            self.catalogue,
            lambda: self.clock_guard.held_since is not None,
            registry.deeds,
            self.journal.without,
        )
        self.backups = BackupMaker(
            settings, self.bus, self.catalogue, self.chores, self.remover, self.previous, registry
        )
        self.views = Views(self.bus, self.catalogue, self.chores, self.past, self.moments)
        self.verifier = Verifier(settings, self.catalogue, self.chores)
        self.scrub = ArchiveScrub(settings, self.catalogue, self.verifier.scrub, scheduler)
        self.rehearser = Rehearser(
            settings,
            BackupSources(settings, self.catalogue, self.journal.folder),
            self.bus,
            lambda: self.restorer.running,
            self.verifier.mark_damaged,
        )
        self.restorer.on_begin = self.rehearser.cancel
        registry.outcome_of, registry.awaits_serving = self._outcome_of, lambda record: ARCHIVE in record.notes
        self.rehearsals = RecordedRehearsals(settings, self.catalogue, self.rehearser)
        self.rehearsal_schedule = RehearsalSchedule(settings, self.rehearsals, registry)
        self.schedule = AutoBackup(settings, self.backups, scheduler)
        self.notifications = NotificationService(settings, status=lambda: self.calls["status"]())
        self.backups.outcomes.add(self.notifications.notifier)
        self.schedule.outcomes.add(self.notifications.pinger)
        self._jobs = jobs
        self.queue = None if jobs is None else QueueWatch(settings, jobs, jobs_failure)
        self._has_schedule = scheduler is not None
        self.kafka = KafkaMonitor(settings, consumes=with_kafka)
        self.broker_bounds = BrokerBounds(self.kafka.topic_names, Brokers(settings))
        self.publishing = PublishMonitor(settings.kafka_publish_topic, self.bus.backlog, publishes=with_kafka)
        nonces = Nonces()
        with_kafka = with_kafka and self.kafka.configured
        self.quarantine = quarantine_of(settings, self.bus, nonces)
        self._consumers = consumers_of(settings, self.bus, nonces, self.kafka, self.quarantine) if with_kafka else []
        if with_kafka and settings.kafka_publish_topic is not None:
            self._consumers.append(publisher_of(settings, self.bus, nonces, self.publishing))
        recoverer = Recoverer(
            settings, self.catalogue, self.restorer, self.journal.folder, self.locator, self.open_problems
        )
        self._startup = Startup(settings, self.restorer, recoverer, registry, START if scheduler else SHELL)
        self._service_starts = service_starts
        self._on_started = on_started
        self._health_shared = health_shared
        self.lifecycle = Lifecycle(
            self.bus,
            self.restorer.finisher.swapping,
            prepare=self._prepare,
            open_database=self._open_database,
            on_serving=self._on_serving,
            each_second=self._each_second,
        )
        self.event_log = EventLogOwner(self.lifecycle, self.bus, self.past, self.views, nonces, self.publishing)
        self.exports = Exports(settings.storage_dir, self.event_log, registry.state_of, self.clock_guard.now)
        self._audit_owner = AuditOwner(self.audit)
        kafka_control = KafkaControlOwner(self.lifecycle, self.kafka, self._consumers, self.quarantine)
        health = self._health_owner()
        self.open_problems.add_source(kafka_control)
        self.open_problems.add_source(self.clock_watch)
        self.open_problems.add_source(FolderSource(settings, self.journal.refresh))
        super().__init__(
            registry,
            self.event_log,
            self._backups_owner(),
            self._restores_owner(),
            RehearsalsOwner(self.lifecycle, self.rehearsals),
            PastReaderOwner(
                self.lifecycle, self.bus, self.views, self.event_log, self.exports, self.head_check.settle_copied
            ),
            kafka_control,
            ProblemsOwner(self.lifecycle, self.open_problems, health.status),
            NotificationsOwner(self.notifications),
            OperationsOwner(registry),
            self._audit_owner,
            health,
        )
        self.after_changes(health.invalidate)
        self.after_changes(self.notifications.notifier.check_soon)
        self.after_changes(self._timeline.invalidate)

    def _backups_owner(self) -> BackupsOwner:
        return BackupsOwner(
            self.settings,
            self.lifecycle,
            self.catalogue,
            self.totals,
            self.backups,
            self.remover,
            self.verifier,
            self.chores,
            RemovalEffect(self.locator, self.journal.folder, self.catalogue.installation),
            self.broker_bounds,
        )

    def _restores_owner(self) -> RestoresOwner:
        return RestoresOwner(
            self.settings,
            self.lifecycle,
            self.bus,
            self.catalogue,
            self.restorer,
            self._timeline,
            self.preview,
            self._jobs,
            self.broker_bounds,
        )

    def _health_owner(self) -> HealthOwner:
        return HealthOwner(
            settings=self.settings,
            state=lambda: self.state,
            bus=self.bus,
            catalogue=self.catalogue,
            totals=self.totals,
            backups=self.backups,
            remover=self.remover,
            schedule=self.schedule,
            verifier=self.verifier,
            scrub=self.scrub,
            journal=self.journal,
            restorer=self.restorer,
            kafka=self.kafka,
            quarantine=self.quarantine,
            publishing=self.publishing,
            open_problems=self.open_problems,
            clock_watch=self.clock_watch,
            notifications=self.notifications,
            rehearsals=self.rehearsals,
            rehearsal_schedule=self.rehearsal_schedule,
            audit=self.audit,
            queue=self.queue,
            await_start=self.lifecycle.await_start,
            operations=self._registry,
            shared=self._health_shared,
        )

    def initialize(self) -> None:
        """Start the store. If that fails, `status` says why, and the start is retried."""
        self._audited.begin_start()
        threading.Thread(target=self.operations.load, name="operations", daemon=True).start()
        if self._service_starts:
            foreign = has_foreign_backups(self.settings) or is_changed(self.settings)
            mend_modes(self.settings, backups=not foreign)
        if self.queue is not None:
            self.queue.start()
        if self._has_schedule:
            self.notifications.start()
        slowly = will_start_slowly(
            self.settings,
            self.catalogue,
            self.journal.folder,
            self.restorer.finisher.drop_folder,
            service_starts=self._service_starts,
        )
        self.lifecycle.start(will_start_slowly=slowly)

    @property
    def state(self) -> str:
        """`starting`, `restoring`, `serving`, `read_only`, `failed` or `stopping`."""
        state = self.lifecycle.state
        return "read_only" if state in ("serving", "failed") and self.bus.is_read_only else state

    def stop(self) -> None:
        """Cancel long work, stop the consumers, commit what is queued. The database stays open until the end."""
        stopping = self._audited.begin_stop()
        self.lifecycle.stop()
        if self.queue is not None:
            self.queue.stop()
        self.bus.heads.end()
        self.schedule.stop()
        self.notifications.stop()
        self.rehearsal_schedule.stop()
        self.chores.cancel()
        self.rehearser.stop()
        self.operations.stop()
        _stop_within_deadline(partial(self.backups.late_check.wait, STOP_SECONDS))
        self.table_repair.stop()
        _stop_within_deadline(partial(self.bus.stop, STOP_SECONDS))
        _stop_within_deadline(self.journal.stop)
        self._audit_owner.stop()
        if stopping is not None:
            stopping.end()
        self.audit.stop()

    def _prepare(self) -> None:
        self._startup.run(service_starts=self._service_starts)
        scratch.remove_abandoned(self.settings.storage_dir)

    def _open_database(self) -> None:
        try:
            self.bus.init(self._consumers)
        except DatabaseDamaged as error:
            raise DatabaseDamaged(error.message, hint=self._history.describe_recovery() or error.hint) from error
        registry = self.bus.registry
        self._audited.end_start(None if registry is None else registry.last_sequence)

    def _check_opened(self, registry: EventRegistry, before: Head | None) -> None:
        """Check a database that was opened, before the first append: no later store may restore over that one."""
        self._on_started()
        self.head_check.check(registry, before)
        forget_generations(registry, self.catalogue, self.journal.folder, self.settings.storage_dir)

    def _each_second(self) -> None:
        """Let each part do what is due, even if another part fails."""
        parts = (
            self.clock_watch.each_second,
            self.restorer.finisher.each_second,
            self.past.close_idle,
            self.previous.drop_unused,
            lambda: self.head_check.each_second(self.bus.registry),
            self.schedule.each_second,
            self.exports.remove_unwanted,
            self.rehearsal_schedule.each_second,
            self.abandoned_uploads.each_second,
            self.audit.each_second,
            self._audit_owner.each_second,
        )
        with contextlib.ExitStack() as work:
            for part in reversed(parts):
                work.callback(part)

    def _outcome_of(self, operation_id: str, record: OperationRecord) -> Any:
        """Return the answer of an operation that an earlier store did not end, if it took effect."""
        try:
            return self.restorer.outcome_of(operation_id) or self.backups.made_before(record.notes)
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            log.warning("could not find out what became of the operation %s: %s", operation_id, error)
            return None

    def _remedy(self) -> str:
        """Return what an operator can do about a damaged database that is open."""
        self.journal.flush(REMEDY_FLUSH_SECONDS)
        with self.bus.using() as registry:
            identity, last = registry.identity, registry.last_sequence
        return self._history.describe_remedy(identity, last)

    def _on_serving(self) -> None:
        note_mount(self.settings)
        self.rehearsals.history.results()  # so that health names a damaged file from the beginning
        self.journal.start()
        self.schedule.start()
        self.scrub.start()
        if self._has_schedule:
            self.rehearsal_schedule.start()
        threading.Thread(target=self._carry_on, name="carry on", daemon=True).start()

    def _carry_on(self) -> None:
        """Carry on the operations that an earlier store did not end, and write in the audit what became of them."""
        if self._service_starts:
            self._audited.end_interrupted()
        self.operations.carry_on(self.dispatch.carry_on)
        self._audited.end_interrupted()


def _stop_within_deadline(stop: Callable[[], None]) -> None:
    """Stop one part; if it does not end, log that and return, so that the others are stopped too."""
    try:
        stop()
    except TooBusy as error:
        log.warning("the store ends without waiting any longer: %s", error)
