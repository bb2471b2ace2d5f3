"""The scheduled rehearsal of the newest state, at REHEARSAL_CRON."""

from __future__ import annotations

import logging
from typing import Any

from eventvault import clock, data_folders
from eventvault.cron_job import CronJob
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.errors import (
    BackupNotFound,
    Cancelled,
    EventVaultError,
    NoSpace,
    RehearsalRunning,
    RestoreRunning,
)
from eventvault.operations.caller import SCHEDULE
from eventvault.operations.operation import Operation
from eventvault.operations.registry import OperationRegistry
from eventvault.rehearsals.recorded import RecordedRehearsals
from eventvault.schedules import Schedule
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

_NO_FAILURE = (BackupNotFound, RehearsalRunning, RestoreRunning)
"""After these errors there is nothing to rehearse now, or another rehearsal or a restore runs."""


class RehearsalSchedule:
    def __init__(
        self,
        settings: Settings,
        rehearsals: RecordedRehearsals,
        operations: OperationRegistry,
        now: clock.Clock = clock.now,
    ) -> None:
        self._rehearsals = rehearsals
        self._operations = operations
        self._now = now
        self._cron = CronJob(
            "rehearsal",
            Schedule(settings.rehearsal_cron, settings.schedule_time_zone),
            settings.storage_dir / data_folders.REHEARSAL_SCHEDULE,
            self._rehearse,
            now,
        )
        self._last: dict[str, Any] = {"lastRun": None, "lastOutcome": None}

    @property
    def next_run(self) -> str | None:
        following = self._cron.next_run
        return clock.optional_milliseconds(following)

    def start(self) -> None:
        self._cron.start()

    def stop(self) -> None:
        self._cron.stop()

    def each_second(self) -> None:
        self._cron.each_second()

    def describe(self) -> dict[str, Any]:
        """Return the member `jobs.rehearsal` of health."""
        cron = self._cron.schedule.cron
        return {"enabled": cron.is_on, "cron": str(cron), "nextRun": self.next_run, **self._last}

    def _rehearse(self) -> None:
        self._last = {"lastRun": clock.format_milliseconds(self._now()), "lastOutcome": None}
        try:
            with self._operations.internal("rehearse", "rehearse", SCHEDULE) as operation:
                outcome = self._outcome(operation)
        except Cancelled:
            self._last["lastOutcome"] = "cancelled"
            raise
        except NoSpace as error:
            self._rehearsals.no_room = error
            outcome = f"skipped: {error.message}"
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            answer = error if isinstance(error, EventVaultError) else as_answer("the rehearsal", error)
            log.warning("the scheduled rehearsal could not be made: %s", answer.message)
            outcome = f"failed: {answer.message}"
        self._last["lastOutcome"] = outcome

    def _outcome(self, operation: Operation) -> str:
        try:
            operation.result = result = self._rehearsals.rehearse(None)
        except _NO_FAILURE as error:
            return f"skipped: {error.message}"
        if result.problem is not None:
            return f"failed: {result.problem.message}"
        return f"{result.backup or 'the journal'} can be restored"
