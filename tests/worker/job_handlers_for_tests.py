"""Handlers that the worker under test imports: `python -m worker job_handlers_for_tests`."""

import os
import time
from pathlib import Path
from typing import Any

from worker.jobs import Job, job


@job("hold")
def hold(job: Job) -> dict[str, Any]:
    """Write a line to `started`, and end once the file `release` exists; then `started` + ".ended" does."""
    with Path(job.payload["started"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not Path(job.payload["release"]).exists():
        time.sleep(0.01)
    Path(job.payload["started"] + ".ended").touch()
    return {"attempt": job.attempt}


@job("fail")
def fail(job: Job) -> None:
    raise ValueError(job.payload)


@job("large")
def large(job: Job) -> str:
    return os.urandom(job.payload).hex()


@job("odd")
def odd(_: Job) -> Any:
    return object()
