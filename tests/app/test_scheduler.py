"""The scheduler of the store process."""

from __future__ import annotations

import threading

from app.store.scheduler import FlaskScheduler
from eventvault import clock


def test_a_job_runs_until_the_scheduler_stops_and_never_afterwards() -> None:
    scheduler = FlaskScheduler()
    ran = threading.Event()
    late: list[str] = []

    scheduler.every("soon", 3_600_000, 0, ran.set)
    assert ran.wait(60)
    scheduler.stop()
    scheduler.every("late", 3_600_000, 0, lambda: late.append("ran"))

    assert "APScheduler" not in {thread.name for thread in threading.enumerate()}
    assert not late


def test_it_tells_when_a_job_runs_next() -> None:
    scheduler = FlaskScheduler()
    before = clock.now()
    scheduler.every("hourly", 3_600_000, 60_000, lambda: None)
    try:
        following = scheduler.next_run("hourly")
        assert following is not None
        assert before <= following - 60_000_000 <= clock.now()
        assert scheduler.next_run("unknown") is None
    finally:
        scheduler.stop()
