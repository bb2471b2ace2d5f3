"""What health shows of the jobs: asked of the dispatcher once a second, so that health waits for nobody."""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec

from eventvault import clock
from eventvault.errors import EventVaultError, JobsUnavailable
from eventvault.jobs.port import Jobs, QueueStatus
from eventvault.problems import Problem
from eventvault.settings import Settings

LOOK_SECONDS = 1.0
AWAY_SECONDS = 3.0
"""A dispatcher that does not answer for so long is a problem: one that is started again answers sooner."""


class QueueWatch:
    """jobs: the port to the dispatcher, whose `status` has a deadline."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self._settings = settings
        self._jobs = jobs
        self._status: QueueStatus | None = None
        self._answered = time.monotonic()
        self._error: EventVaultError | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="queue watch", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def describe(self) -> dict[str, Any] | None:
        """`jobQueue` of health; None while no dispatcher answers."""
        status = self._status
        if status is None:
            return None
        described: dict[str, Any] = msgspec.to_builtins(status)
        del described["problems"]
        oldest = status.oldest_waiting
        return {**described, "oldestWaiting": None if oldest is None else clock.format_milliseconds(oldest)}

    def problems(self) -> list[Problem]:
        status, error = self._status, self._error
        if status is not None:
            return [*status.problems, *self._late(status)]
        if error is None or time.monotonic() - self._answered < AWAY_SECONDS:
            return []
        return [Problem(JobsUnavailable.code, error.message, error.hint)]

    def look(self) -> None:
        """Ask the dispatcher, once."""
        try:
            self._status = self._jobs.status()
            self._answered = time.monotonic()
        except EventVaultError as error:
            self._status = None
            self._error = error
            if not isinstance(error, JobsUnavailable):  # it answers, that it cannot serve
                self._answered = time.monotonic() - AWAY_SECONDS

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self.look()

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
