"""Scheduled backups: at BACKUP_CRON, and every AUTO_BACKUP_INTERVAL, at a start counted from the newest backup."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

from eventvault import clock, data_folders
from eventvault.backups.create import BackupMaker
from eventvault.backups.outcomes import Outcomes
from eventvault.cron_job import CronJob, DueRun
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.errors import Cancelled, DatabaseDamaged, EventVaultError
from eventvault.problems import Problem
from eventvault.progress import Turn
from eventvault.schedules import Schedule, grace
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

LATE = "backup_late"
INTERVAL_JOB = "auto-backup"


class Scheduler(Protocol):
    """Runs a named job every `interval` milliseconds, first after `delay` milliseconds; never twice at once."""

    def every(self, name: str, interval: int, delay: int, job: Callable[[], None]) -> None: ...

    def next_run(self, name: str) -> int | None:
        """Return when the job runs next, in microseconds; None if there is no such job."""

    def stop(self) -> None: ...


class AutoBackup:
    """Makes the scheduled backups and remembers the outcome of the newest one.

    outcomes: has the listeners to each scheduled backup. They do not hear the end of a backup that a stop of the store
    interrupts: the next store repeats it.
    """

    def __init__(
        self, settings: Settings, backups: BackupMaker, scheduler: Scheduler | None, now: clock.Clock = clock.now
    ) -> None:
        self.outcomes = Outcomes()
        self._problem: EventVaultError | None = None
        self._failed_at = 0.0
        self._settings = settings
        self._backups = backups
        self._scheduler = scheduler
        self._now = now
        self._turn = Turn("scheduled backup")
        self._is_stopped = False
        self._repeats = False
        """True if the next run of AUTO_BACKUP_INTERVAL repeats one that ended with its store."""
        interval = settings.auto_backup_interval
        self._interval = DueRun(settings.storage_dir / data_folders.INTERVAL_SCHEDULE, f"every {interval} ms")
        self._cron = CronJob(
            "backup",
            Schedule(settings.backup_cron, settings.schedule_time_zone),
            settings.storage_dir / data_folders.CRON_SCHEDULE,
            self._back_up,
            now,
        )
        self._last: dict[str, Any] = {"lastRun": None, "lastOutcome": None}

    @property
    def problem(self) -> EventVaultError | None:
        """Why the newest scheduled backup failed; None if a later backup, scheduled or requested, succeeded.

        None too if it found the database damaged: that is a problem of its own, whoever requested the backup.
        """
        made = self._backups.last_made
        return None if made is not None and made > self._failed_at else self._problem

    def late(self) -> list[Problem]:
        """Return a problem for each schedule whose backup is late, unless one was made on request meanwhile."""
        made = self._backups.last_made or -math.inf
        runs = (
            (self._interval, "AUTO_BACKUP_INTERVAL", grace(self._settings.auto_backup_interval * 1000)),
            (self._cron.due, "BACKUP_CRON", self._cron.grace),
        )
        return [
            _late(run, setting, self._now(), after)
            for run, setting, after in runs
            if run.is_late_by(after) and time.monotonic() - made > run.seconds
        ]

    def start(self) -> None:
        if self._scheduler is None:
            return
        self._cron.start()
        if self._settings.auto_backup_enabled:
            self._start_interval(self._scheduler)

    def stop(self) -> None:
        self._is_stopped = True
        self._cron.stop()
        if self._scheduler is not None:
            self._scheduler.stop()

    def each_second(self) -> None:
        self._interval.each_second()
        self._cron.each_second()

    def describe(self) -> dict[str, Any]:
        every, cron = self._settings.auto_backup_enabled, self._settings.backup_cron
        next_runs = self._next_runs() if self._scheduler is not None else []
        return {
            "enabled": self._scheduler is not None and (every or cron.is_on),
            "intervalMs": self._settings.auto_backup_interval if every else None,
            "cron": str(cron) if cron.is_on else None,
            "timeZone": str(self._settings.schedule_time_zone),
            "nextRun": clock.format_milliseconds(min(next_runs)) if next_runs else None,
            **self._last,
        }

    def _next_runs(self) -> list[int]:
        assert self._scheduler is not None
        return [run for run in (self._scheduler.next_run(INTERVAL_JOB), self._cron.next_run) if run is not None]

    def _start_interval(self, scheduler: Scheduler) -> None:
        interval, newest = self._settings.auto_backup_interval, self._newest()
        delay = first_delay(interval, newest, self._now())
        self._repeats = self._interval.load()
        if newest is not None and newest > (self._interval.since or newest):
            self._interval.end()  # made on request, after a scheduled one was interrupted
        elif self._interval.since is not None:  # a run that ended the store twice is not repeated at once
            delay = 0 if self._repeats else interval
        log.info("backing up every %s ms, the first time in %s ms", interval, delay)
        scheduler.every(INTERVAL_JOB, interval, delay, self._run_interval)

    def _newest(self) -> int | None:
        """Return when the newest good backup was made. None if BACKUP_DIR cannot be read: the first run reports it."""
        try:
            newest = self._backups.newest_good()
        except (EventVaultError, OSError):
            return None
        return newest.created if newest else None

    def _run_interval(self) -> None:
        self._interval.begin(self._now(), is_repeated=self._repeats)
        self._repeats = False
        self._interval.run(lambda: self._back_up(self._interval.save), lambda: self._is_stopped)

    def _back_up(self, on_begin: Callable[[], None] = lambda: None) -> None:
        """Back up if something changed. on_begin: called before the backup. Raises Cancelled."""
        self._last["lastRun"] = clock.format_milliseconds(self._now())
        self.outcomes.begun()
        try:
            with self._turn.held():
                created = self._backups.create_if_changed(on_begin)
        except Cancelled:
            self._last["lastOutcome"] = "cancelled"
            raise
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            self._fail(error if isinstance(error, EventVaultError) else as_answer("the backup", error))
            return
        self._problem = None
        self._last["lastOutcome"] = created.backup.name if created else "skipped: nothing changed"
        self.outcomes.succeeded()

    def _fail(self, error: EventVaultError) -> None:
        message = f"the scheduled backup failed: {error.message}"
        log.error("%s", message)
        # Before health names the problem. `_backups` tells its own listeners only if the run came as far as a request.
        for outcomes in (self.outcomes, self._backups.outcomes):
            outcomes.failed(error)
        self._failed_at = time.monotonic()
        self._problem = None if isinstance(error, DatabaseDamaged) else type(error)(message, hint=error.hint)
        self._last["lastOutcome"] = f"failed: {error.message}"


def first_delay(interval: int, newest: int | None, now: int) -> int:
    """Return the milliseconds until the newest backup is `interval` old, at most a whole interval.

    newest, now: microseconds since the epoch. Without a backup, or with one from the future: a whole interval.
    """
    if newest is None or newest > now:
        return interval
    return max(0, interval - (now - newest) // 1000)


def _late(run: DueRun, setting: str, now: int, grace: int) -> Problem:
    due, seconds = clock.format_milliseconds(run.since or now), round(run.seconds)
    return Problem(
        LATE,
        f"the backup that {setting} made due at {due} is late: for {seconds} s it was due and not made",
        "`jobs.autoBackup` in health shows the newest run, and the log what it does; see whether the disks of "
        "STORAGE_DIR and BACKUP_DIR are slow or full. POST /api/backup/create makes a backup now",
        setting,
        now - max(0, round(run.seconds * 1e6) - grace),
    )
