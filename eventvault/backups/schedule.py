"""The periodic backup: first run from the age of the newest one, then every AUTO_BACKUP_INTERVAL."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from eventvault import clock
from eventvault.backups.create import BackupMaker
from eventvault.errors import Cancelled, EventVaultError
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


class Scheduler(Protocol):
    """Runs a job every `interval` milliseconds, the first time in `delay` milliseconds; never two at once."""

    def every(self, interval: int, delay: int, job: Callable[[], None]) -> None: ...

    def stop(self) -> None: ...


class AutoBackup:
    """problem: why the newest periodic backup failed; None since the last one that did not."""

    def __init__(self, settings: Settings, backups: BackupMaker, scheduler: Scheduler | None) -> None:
        self.problem: EventVaultError | None = None
        self._settings = settings
        self._backups = backups
        self._scheduler = scheduler
        self._last: dict[str, Any] = {"lastRun": None, "lastOutcome": None}

    def start(self) -> None:
        if self._scheduler is None or not self._settings.auto_backup_enabled:
            return
        interval = self._settings.auto_backup_interval
        delay = first_delay(interval, self._newest(), clock.now())
        log.info("BackupManager: backing up every %s ms, the first time in %s ms", interval, delay)
        self._scheduler.every(interval, delay, self._run)

    def stop(self) -> None:
        if self._scheduler is not None:
            self._scheduler.stop()

    def describe(self) -> dict[str, Any]:
        enabled = self._scheduler is not None and self._settings.auto_backup_enabled
        return {"enabled": enabled, "intervalMs": self._settings.auto_backup_interval, **self._last}

    def _newest(self) -> int | None:
        newest = self._backups.newest_good()
        return newest.created if newest else None

    def _run(self) -> None:
        self._last["lastRun"] = clock.format_milliseconds(clock.now())
        try:
            created = self._backups.create_if_changed()
            self.problem = None
            self._last["lastOutcome"] = created.backup.name if created else "skipped: nothing changed"
        except Cancelled:
            return
        except (EventVaultError, OSError) as error:
            log.exception("BackupManager: the periodic backup failed")
            self.problem = EventVaultError(
                f"the periodic backup failed: {error}", hint=getattr(error, "hint", "") or "the log says more"
            )
            self._last["lastOutcome"] = f"failed: {error}"


def first_delay(interval: int, newest: int | None, now: int) -> int:
    """Milliseconds until the first run: when the newest backup is `interval` old, at most a whole interval.

    newest, now: microseconds since the epoch. Without a backup, or with one from the future: a whole interval.
    """
    if newest is None or newest > now:
        return interval
    return max(0, interval - (now - newest) // 1000)
