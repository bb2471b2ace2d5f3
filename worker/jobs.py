"""The interface for authors of jobs: a handler is a function of a Job, registered for a type.

    from worker.jobs import Job, job

    @job("report")
    def report(job: Job) -> dict:
        return {"rows": count(job.payload["table"])}

It returns the result, any JSON value. If it raises, the attempt fails. `WORKER_JOBS=my_jobs python -m worker` imports
`my_jobs` and registers its handlers. It must do no harm if a handler runs twice: a lost attempt is repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from marshmallow import Schema

from eventvault import scopes
from eventvault.jobs.job import MAX_ATTEMPTS, TIMEOUT_SECONDS, JobProgress
from eventvault.printable import encodable
from worker import protocol, registry
from worker.protocol import StopReason
from worker.registry import Handler

WORKER_NAME = protocol.WORKER_NAME
"""The name of this worker in results and logs."""
MAX_PROGRESS_TEXT = 200


class Retry(Exception):
    """Raised by a handler: the attempt failed; repeat it after `after` seconds; None: as after any other failure."""

    def __init__(self, message: str = "the handler asks to be called again", *, after: float | timedelta | None = None):
        super().__init__(message)
        self.after = None if after is None else registry.seconds_of(after)


class Fail(Exception):
    """Raised by a handler: the job failed for good, because no further attempt can succeed."""


class Stopped(BaseException):
    """Raised in a handler that must end: it ran too long, its job was cancelled, or the worker ends.

    A handler may catch it to clean up. If the handler has not ended five seconds later, its process is killed.
    """

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


def _ignore(_: JobProgress) -> None:
    pass


@dataclass(frozen=True)
class Job:
    """One attempt of a job, as its handler gets it. payload: any JSON value, or what the type's schema made from it.

    attempt: how often the job was sent to a worker, including this time. on_progress: called by `progress`.
    """

    id: str
    type: str
    payload: Any = None
    attempt: int = 1
    max_attempts: int = MAX_ATTEMPTS
    on_progress: Callable[[JobProgress], None] = field(default=_ignore, repr=False, compare=False)

    def progress(self, fraction: float | None = None, text: str | None = None) -> None:
        """Report the progress of the handler. fraction: from 0 to 1. Of each second, the newest progress is shown."""
        if fraction is not None:
            fraction = min(1.0, max(0.0, float(fraction)))
        shown = None if text is None else str(encodable(str(text)[:MAX_PROGRESS_TEXT]))
        self.on_progress(JobProgress(fraction, shown))


def job(
    job_type: str,
    *,
    schema: Schema | type[Schema] | None = None,
    timeout: float | timedelta = TIMEOUT_SECONDS,
    max_attempts: int = MAX_ATTEMPTS,
    scope: str = scopes.WRITE,
) -> Callable[[Handler], Handler]:
    """Register a handler for a type. Raises ValueError if the type has one already.

    schema: a marshmallow schema of the payload; the handler gets what it loads. timeout: seconds, or a timedelta.
    scope: the scope that a token needs to submit such a job.
    """

    def register(handler: Handler) -> Handler:
        registry.register(handler, job_type, schema, timeout, max_attempts, scope)
        return handler

    return register


def cron(
    expression: str,
    *,
    time_zone: str = "UTC",
    name: str | None = None,
    payload: Any = None,
    overlap: bool = False,
    catch_up: float | timedelta = 86_400.0,
) -> Callable[[Handler], Handler]:
    """Submit a handler's job at set times; the handler also needs `@job`. expression: five fields of cron.

    name: of the schedule, by default the job's type. overlap: submit a job even if the last one has not ended.
    catch_up: seconds, or a timedelta; a time that was missed by more is skipped.
    """

    def register(handler: Handler) -> Handler:
        registry.schedule(handler, expression, time_zone, name, payload, overlap, catch_up)
        return handler

    return register


@job("ping")
def ping(_: Job) -> dict[str, Any]:
    """Return the name of the worker that runs this job, and the job types it handles."""
    return {"worker": WORKER_NAME, "jobTypes": registry.known_types()}


@job("echo")
def echo(job: Job) -> Any:
    """Return the payload, to test a round trip."""
    return job.payload
