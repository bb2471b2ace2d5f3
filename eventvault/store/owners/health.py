"""The store's part of `/api/health` and of `/metrics`, at the same cost for any number of archives and segments.

Numbers in memory are current. A separate thread reads what is on disk, once for all who ask within SHARED_SECONDS: a
slow disk delays nobody longer than WAIT_SECONDS.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from eventvault import clock, data_folders, progress
from eventvault.access.problems import token_problems
from eventvault.audit.log import AuditLog
from eventvault.backups.archive_totals import ArchiveTotals, TotalsKeeper
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.create import BackupMaker
from eventvault.backups.disk_space import describe_disks
from eventvault.backups.file_problems import FileProblems
from eventvault.backups.removal import ArchiveRemover
from eventvault.backups.schedule import AutoBackup
from eventvault.backups.scrub import ArchiveScrub
from eventvault.backups.verify import Verifier
from eventvault.damage import SYSTEM_ERRORS
from eventvault.database.bus import EventBus
from eventvault.database.clock_watch import ClockWatch
from eventvault.database.growth import DatabaseGrowth
from eventvault.errors import BackupsChanged, DatabaseDamaged, EventVaultError
from eventvault.journal.journal import Journal
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.kafka.publish.monitor import PublishMonitor
from eventvault.kafka.quarantine import Quarantine
from eventvault.notifications.service import NotificationService
from eventvault.operations.registry import OperationRegistry
from eventvault.problems import OpenProblems, Problem, ProblemTimes
from eventvault.rehearsals.recorded import RecordedRehearsals
from eventvault.rehearsals.results import NO_REHEARSAL
from eventvault.rehearsals.schedule import RehearsalSchedule
from eventvault.restore.moments.locate import window_of
from eventvault.restore.restorer import RestoreForecast, Restorer
from eventvault.restore.swap.intent import Intent, read_intent, read_last
from eventvault.restore.values import describe_last, describe_staged
from eventvault.settings import Settings
from eventvault.shared_answer import SharedAnswer
from eventvault.store.ports.health import Health
from eventvault.store.queue_watch import QueueWatch
from eventvault.store.watchdog import stuck_problems

SHARED_SECONDS = 0.5
STARTING_SECONDS = 0.5
"""How long health waits for a store that opens the database; most starts are quicker."""
WAIT_SECONDS = 0.9
"""The longest that a request waits for that and for what is read from a disk; a client waits a second."""
STUCK_SECONDS = 10.0

_STARTING = Problem(
    "store_starting",
    "the store is starting: it opens the database",
    "wait: requests are answered once it is open; `store.state` in health shows it",
)


class _Examined(NamedTuple):
    """What was read from a disk. state: of the store, when that began. open: problems that wait for a decision."""

    state: str
    totals: ArchiveTotals = ArchiveTotals()
    disk: dict[str, Any] | None = None
    last_restore: dict[str, Any] | None = None
    staged: dict[str, Any] | None = None
    problems: Sequence[Problem] = ()
    open: Sequence[Problem] = ()


class HealthOwner(Health):
    """Describes the parts of a store. state: as `StoreService.state`. shared: seconds, as SHARED_SECONDS."""

    def __init__(
        self,
        *,
        settings: Settings,
        state: Callable[[], str],
        bus: EventBus,
        catalogue: Catalogue,
        totals: TotalsKeeper,
        backups: BackupMaker,
        remover: ArchiveRemover,
        schedule: AutoBackup,
        verifier: Verifier,
        scrub: ArchiveScrub,
        journal: Journal,
        restorer: Restorer,
        kafka: KafkaMonitor,
        quarantine: Quarantine,
        publishing: PublishMonitor,
        open_problems: OpenProblems,
        clock_watch: ClockWatch,
        notifications: NotificationService,
        rehearsals: RecordedRehearsals,
        rehearsal_schedule: RehearsalSchedule,
        audit: AuditLog,
        queue: QueueWatch | None,
        await_start: Callable[[float], object],
        operations: OperationRegistry,
        shared: float = SHARED_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.operations = operations
        self.state = state
        self.bus = bus
        self.backups = backups
        self.remover = remover
        self.schedule = schedule
        self.verifier = verifier
        self.scrub = scrub
        self.journal = journal
        self.restorer = restorer
        self.kafka = kafka
        self.quarantine = quarantine
        self.publishing = publishing
        self.open_problems = open_problems
        self.clock_watch = clock_watch
        self.notifications = notifications
        self.rehearsals = rehearsals
        self.rehearsal_schedule = rehearsal_schedule
        self.audit = audit
        self.queue = queue
        self.await_start = await_start
        self.file_problems = FileProblems(settings)
        self.totals = totals
        self.problem_times = ProblemTimes()
        self.database_growth = DatabaseGrowth(bus, settings.database)
        self._catalogue = catalogue
        self._refused_names: list[str] = []
        self._shared = shared
        self._now = now
        self._examined = SharedAnswer("health", lambda: _examine(self), now)
        self._state: object = None

    def invalidate(self) -> None:
        """Make the next `status` show what a request has changed."""
        self.totals.invalidate()
        self._examined.invalidate()

    def status(self) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_SECONDS
        self.await_start(STARTING_SECONDS)
        registry = self.bus.registry
        generation = registry.identity.generation if registry is not None else None
        state = (self.state(), generation, self.kafka.stopped_problems())
        if state != self._state:  # a start or a restore may have written notes, or a problem waits for a decision
            self._state = state
            self._examined.invalidate()
        if self._catalogue.refused_names != self._refused_names:  # a list met a file that it leaves out
            self._refused_names = self._catalogue.refused_names
            self.invalidate()
        examined = self._examined.get(max_age=self._shared, patience=deadline - time.monotonic())
        return _describe(self, examined or _Examined(self.state()), self._stuck())

    def last_common(self, one: str, other: str) -> int | None:
        registry = self.bus.registry
        return None if registry is None else registry.identity.last_common(one, other)

    def _stuck(self) -> list[Problem]:
        since = self._examined.running_since
        if since is None or self._now() - since - progress.paused_since(since) < STUCK_SECONDS:
            return []
        seconds = round(self._now() - since)
        message = f"health has been reading from the disks of STORAGE_DIR and BACKUP_DIR for {seconds} s"
        return [Problem("stuck", message, "check these disks; what health says of them may be old", "health")]


def _examine(parts: HealthOwner) -> _Examined:
    storage_dir, state = parts.settings.storage_dir, parts.state()
    totals, last = parts.totals.current(), read_last(storage_dir)
    staged, staged_problems = _staged_restore(storage_dir)
    _note_quarantine(parts)
    return _Examined(
        state=state,
        totals=totals,
        disk=describe_disks(parts.settings, totals, parts.database_growth.per_day()),
        last_restore=describe_last(last.restored if last else None, parts.last_common),
        staged=describe_staged(staged.restored if staged else None),
        problems=[
            *parts.restorer.finisher.drop_folder.problems,
            *parts.file_problems.problems(),
            *token_problems(parts.settings),
            *staged_problems,
            *totals.problems,
            *parts.remover.problems(),
            *parts.rehearsals.problems(),
        ],
        open=parts.open_problems.all(),
    )


def _note_quarantine(parts: HealthOwner) -> None:
    """Read the quarantine of Kafka, unless that would wait. Other code reports errors of the database."""
    if parts.kafka.configured and parts.bus.registry is not None and not parts.bus.is_closing:
        with contextlib.suppress(EventVaultError, *SYSTEM_ERRORS):
            parts.kafka.quarantine = parts.quarantine.held()


def _staged_restore(storage_dir: Path) -> tuple[Intent | None, list[Problem]]:
    try:
        return read_intent(storage_dir, data_folders.STAGED_RESTORE), []
    except DatabaseDamaged as error:
        return None, [Problem("staged_restore_damaged", error.message, error.hint)]
    except OSError:
        return None, []


def _describe(parts: HealthOwner, examined: _Examined, stuck: list[Problem]) -> dict[str, Any]:
    is_changed = any(problem.code == BackupsChanged.code for problem in examined.open)
    in_memory = _problems_in_memory(parts, None if is_changed else examined.totals.problem)
    codes = {problem.code for problem in in_memory}
    starting = [_STARTING] if examined.state == "starting" else []
    problems = [*starting, *in_memory, *(problem for problem in examined.problems if problem.code not in codes), *stuck]
    dated = parts.problem_times.with_since([*problems, *examined.open])
    degraded = any(problem.degrades for problem in dated)
    return {
        "status": "restoring" if examined.state == "restoring" else "degraded" if degraded else "ok",
        "problems": [problem.describe(acceptable=number >= len(problems)) for number, problem in enumerate(dated)],
        "store": _store(parts, examined.state),
        "backup": _describe_totals(examined.totals),
        "disk": examined.disk,
        "kafka": {**parts.kafka.snapshot(), **parts.publishing.snapshot()},
        "journal": parts.journal.status(),
        "window": None if parts.bus.registry is None else window_of(parts.bus.registry),
        "jobs": {
            "autoBackup": parts.schedule.describe(),
            "scrub": parts.scrub.describe(),
            "restore": _running_restore(parts, examined.staged),
            "rehearsal": {**parts.rehearsal_schedule.describe(), **parts.rehearsals.describe_running()},
        },
        "jobQueue": None if parts.queue is None else parts.queue.describe(),
        "lastRestore": examined.last_restore,
        "notifications": parts.notifications.notifier.describe(),
        "operations": _operations(parts),
        "rehearsal": _newest_rehearsal(parts),
        "metrics": _metrics(parts),
    }


def _problems_in_memory(parts: HealthOwner, listing: EventVaultError | None) -> list[Problem]:
    """listing: why the archives cannot be listed; None also if `backups_changed` says it better."""
    errors = (
        parts.bus.problem,
        parts.backups.problem,
        listing,
        parts.schedule.problem,
        parts.journal.problem_since(parts.backups.last_made) or parts.journal.lag,
        parts.journal.damage,
    )
    return [
        *stuck_problems(),
        *(
            Problem(error.code, error.message, error.hint, error.details.get("about"))
            for error in errors
            if error is not None and not isinstance(error, BackupsChanged)  # `_examine` finds it, while it lasts
        ),
        *parts.schedule.late(),
        *parts.kafka.problems(),
        *parts.publishing.problems(),
        *parts.clock_watch.problems(),
        *parts.notifications.problems(),
        *parts.audit.problems(),
        *(parts.queue.problems() if parts.queue is not None else ()),
    ]


def _describe_totals(totals: ArchiveTotals) -> dict[str, Any]:
    return {
        "available": totals.problem is None,
        "count": totals.count,
        "latest": msgspec.to_builtins(totals.newest) if totals.newest is not None else None,
        "totalSize": totals.size,
        "addedBytes": totals.added,
        "sharedBytes": totals.shared,
        "uniqueBytes": totals.unique,
        "damaged": list(totals.damaged),
        "damagedCount": totals.damaged_count,
        "notProven": totals.not_proven,
        "keptBy": totals.retained_by,
        "oldestVerified": totals.oldest_verified,
    }


def _store(parts: HealthOwner, state: str) -> dict[str, Any]:
    registry = parts.bus.registry
    return {
        "state": state,
        "events": registry.last_sequence if registry else None,
        "lastSequence": registry.last_sequence if registry else None,
        "storeId": registry.identity.store_id if registry else None,
        "generation": registry.identity.generation if registry else None,
        "pid": os.getpid(),
    }


def _running_restore(parts: HealthOwner, staged: dict[str, Any] | None) -> dict[str, Any]:
    """Describe a restore on request; a restore at the start shows as `status`."""
    source, since = parts.restorer.running or (None, None)
    forecast = parts.restorer.forecast if source is not None else None
    progress = parts.restorer.operation.progress() if source is not None else None
    return {
        "running": source is not None,
        "source": source,
        "since": clock.optional_milliseconds(since),
        "target": None if forecast is None else _target(forecast),
        "predictedSeconds": None if forecast is None else forecast.seconds,
        "progress": None if progress is None else progress.fraction,
        "step": None if progress is None else progress.step,
        "bytesDone": None if progress is None else progress.bytes_done,
        "bytesTotal": None if progress is None else progress.bytes_total,
        "staged": staged,
    }


def _target(forecast: RestoreForecast) -> dict[str, Any]:
    time = clock.optional_microseconds(forecast.instant)
    return {"time": time, "sequence": forecast.sequence}


def _operations(parts: HealthOwner) -> list[dict[str, Any]]:
    """Return how many operations of the last 30 days there are of each kind in each state."""
    return [{"kind": kind, "state": state, "count": n} for (kind, state), n in parts.operations.counts().items()]


def _newest_rehearsal(parts: HealthOwner) -> dict[str, Any] | None:
    """Return the newest result, and when the next rehearsal is due; None if there is neither."""
    newest, following = parts.rehearsals.history.newest(), parts.rehearsal_schedule.next_run
    if newest is None and following is None:
        return None
    return {**(newest.describe() if newest is not None else NO_REHEARSAL), "next": following}


def _metrics(parts: HealthOwner) -> dict[str, float]:
    stats = parts.bus.committer.stats
    return {
        "append_groups": stats.groups,
        "append_requests": stats.batches,
        "appended_events": stats.events,
        "duplicate_events": stats.duplicates,
        "append_seconds": stats.seconds,
        "failed_groups": stats.failures,
        **{f"backups_{name}": count for name, count in parts.backups.counts.items()},
        **{f"journal_{name}": count for name, count in parts.journal.counts.items()},
        **{f"archives_{name}": count for name, count in parts.verifier.counts.items()},
        **{f"rehearsals_{name}": count for name, count in parts.rehearsals.counts.items()},
        **{f"restores_{name}": count for name, count in parts.restorer.counts.items()},
        **parts.notifications.counts(),
    }
