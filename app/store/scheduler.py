"""The core's `Scheduler` port, on Flask-APScheduler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from flask import Flask
from flask_apscheduler import APScheduler


class FlaskScheduler:
    """Jobs run in threads of this process, each at most once at a time; a run that was missed is made up for once."""

    def __init__(self) -> None:
        app = Flask("app.store")
        app.config.update(SCHEDULER_API_ENABLED=False, SCHEDULER_TIMEZONE="UTC")
        self._scheduler = APScheduler()
        self._scheduler.init_app(app)
        self._stopped = False
        self._lock = threading.Lock()
        """APScheduler waits for ever when it is shut down while it is started."""

    def every(self, name: str, interval: int, delay: int, job: Callable[[], None]) -> None:
        """Nothing happens after `stop`."""
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
