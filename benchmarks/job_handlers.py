"""The handlers of `make bench-jobs`."""

from __future__ import annotations

import time

from worker.jobs import Job, job


@job("noop")
def noop(job: Job) -> object:
    return job.payload


@job("stamp")
def stamp(_: Job) -> int:
    """Return when the handler began, on the clock of this machine that all processes share."""
    return time.monotonic_ns()
