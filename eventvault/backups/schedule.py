"""The periodic backup, every AUTO_BACKUP_INTERVAL. The first run depends on the age of the newest backup."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from eventvault import clock
from eventvault.backups.create import BackupMaker
from eventvault.backups.outcomes import Outcomes
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.errors import Cancelled, DatabaseDamaged, EventVaultError
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


class Scheduler(Protocol):
    """Runs a named job every `interval` milliseconds, first after `delay` milliseconds; never twice at once."""

    def every(self, name: str, interval: int, delay: int, job: Callable[[], None]) -> None: ...

    def stop(self) -> None: ...


class AutoBackup:
    """Requests a backup every interval and remembers the outcome of the newest one.

    outcomes: has the listeners to each periodic backup.
    """

    def __init__(self, settings: Settings, backups: BackupMaker, scheduler: Scheduler | None) -> None:
        self.outcomes = Outcomes()
        self._problem: EventVaultError | None = None
        self._failed_at = 0.0
        self._settings = settings
        self._backups = backups
        self._scheduler = scheduler
        self._last: dict[str, Any] = {"lastRun": None, "lastOutcome": None}

    @property
    def problem(self) -> EventVaultError | None:
        """Why the newest periodic backup failed; None if a later backup, periodic or requested, succeeded.

        None too if it found the database damaged: that is a problem of its own, whoever requested the backup.
        """
        made = self._backups.last_made
        return None if made is not None and made > self._failed_at else self._problem

    def start(self) -> None:
        if self._scheduler is None or not self._settings.auto_backup_enabled:
            return
        interval = self._settings.auto_backup_interval
        delay = first_delay(interval, self._newest(), clock.now())
        log.info("backing up every %s ms, the first time in %s ms", interval, delay)
        self._scheduler.every("auto-backup", interval, delay, self._run)

    def stop(self) -> None:
        if self._scheduler is not None:
            self._scheduler.stop()

    def describe(self) -> dict[str, Any]:
        enabled = self._scheduler is not None and self._settings.auto_backup_enabled
        return {"enabled": enabled, "intervalMs": self._settings.auto_backup_interval, **self._last}

    def _newest(self) -> int | None:
        """Return when the newest good backup was made. None if BACKUP_DIR cannot be read: the first run reports it."""
        try:
            newest = self._backups.newest_good()
        except (EventVaultError, OSError):
            return None
        return newest.created if newest else None

    def _run(self) -> None:
        self._last["lastRun"] = clock.format_milliseconds(clock.now())
        self.outcomes.begun()
        try:
            created = self._backups.create_if_changed()
            self._problem = None
            self._last["lastOutcome"] = created.backup.name if created else "skipped: nothing changed"
            self.outcomes.succeeded()
        except Cancelled:
            return
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            answer = error if isinstance(error, EventVaultError) else as_answer("the backup", error)
            message = f"the periodic backup failed: {answer.message}"
            log.error("%s", message)  # noqa: TRY400 - the reason is known
            for outcomes in (self.outcomes, self._backups.outcomes):  # it may have failed before it was requested
                outcomes.failed(answer)
            self._failed_at = time.monotonic()
            damaged = isinstance(answer, DatabaseDamaged)
            self._problem = None if damaged else type(answer)(message, hint=answer.hint)
            self._last["lastOutcome"] = f"failed: {answer.message}"


def first_delay(interval: int, newest: int | None, now: int) -> int:
    """Return the milliseconds until the newest backup is `interval` old, at most a whole interval.

    newest, now: microseconds since the epoch. Without a backup, or with one from the future: a whole interval.
    """
    if newest is None or newest > now:
        return interval
    return max(0, interval - (now - newest) // 1000)
