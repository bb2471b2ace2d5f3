"""Implements the core's `Scheduler` port with Flask-APScheduler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from flask import Flask
from flask_apscheduler import APScheduler


class FlaskScheduler:
    """Runs each job in a thread, at most once at a time. Missed runs are made up for by one run."""

    def __init__(self) -> None:
        app = Flask("app.store")
        app.config.update(SCHEDULER_API_ENABLED=False, SCHEDULER_TIMEZONE="UTC")
        self._scheduler = APScheduler()
        self._scheduler.init_app(app)
        self._stopped = False
        self._lock = threading.Lock()
        """Guards start and stop: APScheduler hangs if it is shut down while it starts."""

    def every(self, name: str, interval: int, delay: int, job: Callable[[], None]) -> None:
        """Run `job` every `interval` ms, first after `delay` ms. After `stop` this does nothing."""
        with self._lock:
            if not self._stopped:
                self._add(name, interval, delay, job)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._scheduler.running:
                self._scheduler.shutdown(wait=False)

    def _add(self, name: str, interval: int, delay: int, job: Callable[[], None]) -> None:
        self._scheduler.add_job(
            id=name,
            func=job,
            trigger="interval",
            seconds=interval / 1000,
            next_run_time=datetime.now(UTC) + timedelta(milliseconds=delay),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        if not self._scheduler.running:
            self._scheduler.start()
