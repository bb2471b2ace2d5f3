"""Implements the core's `Scheduler` port with Flask-APScheduler.

APScheduler uses the system clock. If the clock is set, a job would run at once, or wait for as long as the clock was
set back. So the jobs are moved with the clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.base import BaseTrigger
from flask import Flask
from flask_apscheduler import APScheduler

from eventvault import clock
from eventvault.progress import running

_WATCH_SECONDS = 1.0
"""Seconds between two comparisons of the system clock with the time since the boot."""
_SMALLEST_STEP = timedelta(seconds=0.5)
"""A smaller step of the clock moves no job."""


class _Every(BaseTrigger):
    """Fires every `interval` milliseconds. Unlike APScheduler's own trigger it skips firings in the past at once."""

    def __init__(self, interval: int) -> None:
        self.interval = timedelta(milliseconds=interval)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        due = now if previous_fire_time is None else previous_fire_time + self.interval
        return due if now < due <= now + self.interval else now + self.interval


class FlaskScheduler:
    """Runs each job in a thread, at most once at a time. One run makes up for all missed ones."""

    def __init__(self) -> None:
        app = Flask("app.store")
        app.config.update(SCHEDULER_API_ENABLED=False, SCHEDULER_TIMEZONE="UTC")
        self._scheduler = APScheduler()
        self._scheduler.init_app(app)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        """Guards start and stop: APScheduler hangs if it is shut down while it starts."""
        self._offset = _clock_offset()

    def every(self, name: str, interval: int, delay: int, job: Callable[[], None]) -> None:
        """Run `job` every `interval` ms, first after `delay` ms. Do nothing after `stop`."""
        with self._lock:
            if not self._stopping.is_set():
                self._add(name, interval, delay, job)

    def next_run(self, name: str) -> int | None:
        """Return when the job runs next, in microseconds of `clock.now`; None if there is no such job."""
        job = self._scheduler.get_job(name)
        if job is None or job.next_run_time is None:
            return None
        return clock.to_microseconds(job.next_run_time) - clock.correction()

    def stop(self) -> None:
        with self._lock:
            self._stopping.set()
            if self._scheduler.running:
                self._scheduler.shutdown(wait=False)

    def _add(self, name: str, interval: int, delay: int, job: Callable[[], None]) -> None:
        self._scheduler.add_job(
            id=name,
            func=job,
            trigger=_Every(interval),
            next_run_time=datetime.now(UTC) + timedelta(milliseconds=delay),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        if not self._scheduler.running:
            self._scheduler.start()
            threading.Thread(target=self._watch_clock, name="schedule clock", daemon=True).start()

    def _watch_clock(self) -> None:
        with running("scheduler", "plans the next runs") as activity:
            while not self._stopping.wait(_WATCH_SECONDS):
                activity.step()
                with self._lock:
                    if not self._stopping.is_set():
                        self._follow_clock()

    def _follow_clock(self) -> None:
        """Move the next run of each job by as much as the clock was set since the last call.

        No run is more than an interval away: a job that ran since the clock was set is not moved twice.
        """
        now, offset = datetime.now(UTC), _clock_offset()
        step = timedelta(seconds=offset - self._offset)
        if abs(step) < _SMALLEST_STEP:
            step = timedelta()
        else:
            self._offset = offset
        for job in self._scheduler.get_jobs():
            due = min(job.next_run_time + step, now + job.trigger.interval)
            if abs(due - job.next_run_time) >= _SMALLEST_STEP:
                job.modify(next_run_time=due)


def _clock_offset() -> float:
    """Return the system clock minus the time since the boot, in seconds. It changes only when the clock is set."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
