"""What health shows of the jobs. A thread asks the dispatcher once a second, so that health never waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from eventvault import clock
from eventvault.errors import EventVaultError, JobsDamaged, JobsUnavailable
from eventvault.jobs.port import Jobs, QueueStatus
from eventvault.problems import Problem
from eventvault.settings import Settings
from eventvault.unforeseen import Unforeseen

log = logging.getLogger("jobs")

ASK_SECONDS = 1.0
AWAY_SECONDS = 3.0
"""It is a problem if the dispatcher does not answer for this long; a restarted one answers sooner."""
START_SECONDS = 20.0
"""The same for a store's first dispatcher, which may have to load its program and to open its database."""


class QueueWatch:
    """jobs: the dispatcher; its `status` has a deadline. failure: returns why no dispatcher could be started."""

    def __init__(self, settings: Settings, jobs: Jobs, failure: Callable[[], str] = str) -> None:
        self._failure = failure
        self._unforeseen = Unforeseen("asking the dispatcher of jobs", log)
        self._settings = settings
        self._jobs = jobs
        self._status: QueueStatus | None = None
        self._answered = time.monotonic()
        self._has_answered = False
        self._error: EventVaultError | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="queue watch", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def describe(self) -> dict[str, Any] | None:
        """Return `jobQueue` of health; None while no dispatcher answers."""
        status = self._status
        if status is None:
            return None
        described: dict[str, Any] = msgspec.to_builtins(status)
        del described["problems"]
        oldest = status.oldest_waiting
        return {**described, "oldestWaiting": clock.optional_milliseconds(oldest)}

    def problems(self) -> list[Problem]:
        status, error = self._status, self._error
        if status is not None:
            return [*status.problems, *self._late(status)]
        failure = self._failure()
        patience = AWAY_SECONDS if self._has_answered or failure else START_SECONDS
        if error is None or time.monotonic() - self._answered < patience:
            return []
        if isinstance(error, JobsDamaged):
            return [Problem(error.code, error.message, error.hint)]
        return [Problem(JobsUnavailable.code, f"{error.message}: {failure}" if failure else error.message, error.hint)]

    def ask(self) -> None:
        """Ask the dispatcher once. Never raises."""
        with self._unforeseen.survived():
            self._update_status()
        if self._unforeseen.newest:
            reason = f"the dispatcher of jobs could not be asked: {self._unforeseen.newest}"
            self._status, self._error = None, EventVaultError(reason, hint="the log of the service says why")
            self._answered, self._has_answered = time.monotonic() - AWAY_SECONDS, True

    def _update_status(self) -> None:
        try:
            self._status = self._jobs.status()
            self._answered, self._has_answered = time.monotonic(), True
        except EventVaultError as error:
            self._status = None
            self._error = error
            if not isinstance(error, JobsUnavailable):  # it answers that it cannot serve
                self._answered, self._has_answered = time.monotonic() - AWAY_SECONDS, True

    def _run(self) -> None:
        while not self._stopping.wait(ASK_SECONDS):
            self.ask()

    def _late(self, status: QueueStatus) -> list[Problem]:
        after = self._settings.jobs_late_after
        waited = 0 if status.oldest_waiting is None else clock.now() - status.oldest_waiting
        if waited <= after.microseconds:
            return []
        return [
            Problem(
                "jobs_late",
                f"{status.waiting} jobs wait, the oldest of them for {waited // 60_000_000} min",
                "start more workers, or raise WORKER_CONCURRENCY or JOBS_LOCAL_CONCURRENCY; `jobQueue` in health has "
                f"the numbers. JOBS_LATE_AFTER is {after}",
            )
        ]
